"""Neighbours in boxes so long or so flat that the search library's grid has no bin along the short sides."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import spatial


def pairs_by_tree(
    positions: NDArray[np.float64], box: NDArray[np.float64], periodic: NDArray[np.bool_], cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs |R_j + S · box − R_i| < cutoff as pairs (E, 2) and shifts S (E, 3), by a tree over all images nearby.

    Every atom is moved into the box, and its images within the cutoff of the box are made; time and memory follow their
    number.

    - positions (N, 3) Å · box (3, 3) Å, compact, zero along directions without period
    """
    axes = np.flatnonzero(periodic)
    inverse = np.linalg.pinv(box[axes], rcond=1e-12) if len(axes) else np.zeros((3, 0))
    fractions = positions @ inverse
    home = np.floor(fractions)
    fractions -= home
    inside = positions - home @ box[axes]
    margin = cutoff * np.linalg.norm(inverse, axis=0)  # the cutoff over the heights
    reach = [range(-n, n + 1) for n in np.ceil(margin).astype(int).tolist()]
    owners, images = [], []
    for translation in itertools.product(*reach):
        moved = fractions + translation
        near = np.flatnonzero(((moved >= -margin) & (moved <= 1 + margin)).all(axis=1))
        owners.append(near)
        images.append(np.broadcast_to(np.array(translation, dtype=np.float64), (len(near), len(axes))))
    owner, image = np.concatenate(owners), np.concatenate(images)
    ghosts = inside[owner] + image @ box[axes]
    within = spatial.cKDTree(inside).sparse_distance_matrix(spatial.cKDTree(ghosts), cutoff, output_type="ndarray")
    center, ghost = within["i"].astype(np.int64), within["j"].astype(np.int64)
    neighbor = owner[ghost]
    kept = (within["v"] < cutoff) & ~((center == neighbor) & (image[ghost] == 0).all(axis=1))
    center, neighbor, ghost = center[kept], neighbor[kept], ghost[kept]
    shift = np.zeros((len(center), 3), dtype=np.int64)
    # R_j + S · box = inside_j + image · box with R = inside + home · box.
    shift[:, axes] = np.rint(image[ghost] - home[neighbor] + home[center]).astype(np.int64)
    return np.stack([center, neighbor], axis=1), shift
