"""Frames that stand twice, in one set or in two: found whatever their position, orientation or wrapping."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mlanet.data.samples import Sample

SAME = 1e-5
"""Å; two frames are the same if no number of their fingerprints differs by more."""


def duplicate_pairs(first: Sequence[Sample], second: Sequence[Sample] | None = None) -> list[tuple[int, int]]:
    """Index pairs (i, j) of equal geometries: i < j within `first`, or i in `first` and j in `second`.

    Each frame is paired with its nearest predecessor only, so n copies give n − 1 pairs. Equal means: the same
    elements in the same order, periodicity and charge, and equal fingerprints.
    """
    both = [*first, *(second or ())]
    groups: dict[object, list[int]] = defaultdict(list)
    for index, sample in enumerate(both):
        graph = sample.graph
        periodic = tuple(graph.pbc[0].tolist())
        groups[(graph.numbers.numpy().tobytes(), periodic, float(graph.charge[0]))].append(index)
    pairs = []
    for members in groups.values():
        if len(members) > 1:
            prints = np.stack([fingerprint(both[index]) for index in members])
            pairs += [(members[i], members[j]) for i, j in _close(prints)]
    if second is None:
        return sorted(pairs)
    border = len(first)
    return sorted((i, j - border) for i, j in pairs if i < border <= j)


def fingerprint(sample: Sample) -> NDArray[np.float64]:
    """(9,) numbers in Å, invariant to translation, rotation and wrapping, and Lipschitz in the positions.

    Sums over edges of d and d² with fixed pseudo-random weights for each atom of the pair, over the root of the
    number of edges; and, for what lies beyond the cutoff, the mean size of a molecule, or the moduli of four Fourier
    components of a crystal with its volume.
    """
    graph = sample.graph
    weights = torch.from_numpy(np.random.default_rng(1).normal(size=(2, graph.n_atoms)))
    distances = graph.edge_vectors().norm(dim=1)
    both = weights[:, graph.center] * weights[:, graph.neighbor]
    root = max(graph.n_edges, 1) ** 0.5
    sums = torch.stack([(both * distances).sum(1), (both * distances**2).sum(1) / graph.cutoff]).ravel() / root
    positions, volume = graph.positions.numpy(), float(graph.volume()[0])
    far = np.zeros(5)
    if bool(graph.pbc.any()) and volume > 1e-6:
        length = volume ** (1 / 3)
        fractional = np.linalg.solve(graph.cell[0].numpy().T, positions.T)
        phases = np.exp(2j * np.pi * (np.vstack([np.eye(3), np.ones(3)]) @ fractional))
        far[:4] = length * np.abs(phases @ weights[0].numpy()) / (2 * np.pi * graph.n_atoms**0.5)
        far[4] = length
    else:
        centred = positions - positions.mean(axis=0)
        far[0] = (weights[0].abs().numpy() * np.linalg.norm(centred, axis=1)).mean()
    return np.array([*sums.tolist(), *far])


def _close(prints: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs of rows that agree, each row with its nearest predecessor in file order."""
    order = np.argsort(prints[:, 0], kind="stable")
    values = prints[order, 0]
    pairs = []
    for place, row in enumerate(order):
        low, high = np.searchsorted(values, [values[place] - SAME, values[place] + SAME])
        near = order[low:high]
        near = near[near < row]
        same = near[(np.abs(prints[near] - prints[row]) < SAME).all(axis=1)]
        if len(same):
            pairs.append((int(same.max()), int(row)))
    return pairs
