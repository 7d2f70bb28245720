"""Distribution of the angles between bonds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray

from mlanet.data.neighbors import neighbor_list
from mlanet.errors import DataError

Array = NDArray[np.float64]
BONDED = 1.25
"""Of the sum of the covalent radii: closer atoms count as bonded."""
BINS = 180


@dataclass(frozen=True)
class Angles:
    """p(θ), with ∫ p dθ = 1.

    - angle (B,) degrees, middles of the bins · density (B,) 1/degree
    """

    angle: Array
    density: Array


def angle_distribution(frames: Sequence[Atoms], *, bonded: float = BONDED, bins: int = BINS) -> Angles:
    """p(θ_jik) over all atoms i and all pairs of their bonded neighbours j and k, periodic images included.

    Args:
        frames: structures.
        bonded: of the sum of the covalent radii; closer atoms are bonded.
        bins: between 0 and 180 degrees.
    Raises:
        DataError: no atom with two bonds in any frame.
    """
    edges = np.linspace(0, 180, bins + 1)
    counts = sum((np.histogram(_angles(frame, bonded), edges)[0] for frame in frames), np.zeros(bins))
    total = float(np.sum(counts))
    if not total:
        raise DataError(f"no atom has two neighbours within {bonded:g} of the sum of the covalent radii")
    return Angles(0.5 * (edges[1:] + edges[:-1]), counts / total / (edges[1] - edges[0]))


def _angles(atoms: Atoms, bonded: float) -> Array:
    """Degrees, each pair of bonds of an atom once."""
    radii = bonded * covalent_radii[atoms.numbers]
    pairs = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, 2 * float(radii.max()))
    vectors = atoms.positions[pairs.neighbor] + pairs.shift @ atoms.cell.array - atoms.positions[pairs.center]
    length = np.linalg.norm(vectors, axis=1)
    near = length < radii[pairs.center] + radii[pairs.neighbor]
    center, unit = pairs.center[near], vectors[near] / length[near, None]
    count = np.bincount(center, minlength=len(atoms))
    start = np.cumsum(count) - count
    first = np.repeat(np.arange(len(center)), count[center])
    offset = np.arange(len(first)) - np.repeat(np.cumsum(count[center]) - count[center], count[center])
    second = start[center[first]] + offset
    once = first < second
    cosine = np.einsum("ex,ex->e", unit[first[once]], unit[second[once]])
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))
