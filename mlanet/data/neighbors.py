"""Neighbour lists on the CPU by vesin: every pair within a cutoff, whatever the cell, in a canonical order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlanet.data.bounds import FEW_PAIRS, plan_search
from mlanet.data.long_boxes import pairs_by_tree
from mlanet.errors import GeometryError
from mlanet.lazily import ours_without

vesin = ours_without("vesin", "torch")  # which it would load for tensors; `neighbor_tensors` has these

T = TypeVar("T")

FLATNESS = 0.3
"""A periodic cell whose height over one face is below this fraction of its edge is reduced before the search."""


class NeighborList(NamedTuple):
    """Directed pairs, sorted by (center, neighbor, shift).

    - center, neighbor (E,) int64 · shift (E, 3) int64: r_ij = R_j + shift · cell − R_i
    """

    center: NDArray[np.int64]
    neighbor: NDArray[np.int64]
    shift: NDArray[np.int64]


def neighbor_list(positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike, cutoff: float) -> NeighborList:
    """All pairs |R_j + shift · cell − R_i| < cutoff, self-images included, the atom itself not.

    Positions need not be wrapped, the cell may be left-handed, far smaller than the cutoff or strongly skewed, and
    rows of non-periodic directions are ignored (they may be zero). Cost O(N) in time and memory; a strongly skewed
    cell is searched in its Minkowski-reduced basis, because the search costs (cutoff / height)³ there.

    Args:
        positions: (N, 3) Å.
        cell: (3, 3) Å, rows are the lattice vectors.
        pbc: (3,) bool.
        cutoff: Å.
    Raises:
        GeometryError: more pairs than memory holds, or the search library refuses the input (callers check structures
            before).

    >>> neighbor_list([[0, 0, 0]], [[2, 0, 0], [0, 2, 0], [0, 0, 2]], [True] * 3, 2.5).center.size
    6
    """
    positions = np.ascontiguousarray(positions, dtype=np.float64).reshape(-1, 3)
    periodic = np.asarray(pbc, dtype=bool)
    box = np.where(periodic[:, None], np.asarray(cell, dtype=np.float64), 0.0)
    basis = compact_basis(box, periodic)
    reduced = np.ascontiguousarray(basis @ box, dtype=np.float64)
    plan = plan_search(positions, reduced, periodic, cutoff)
    if plan.by_grid:
        search = vesin.NeighborList(cutoff=float(cutoff), full_list=True, n_threads=1)
        compute = partial(search.compute, positions, reduced, periodic, "PS")
    else:
        compute = partial(pairs_by_tree, positions, reduced, periodic, cutoff)
    try:
        pairs, shift = heeding_signals(compute) if plan.pairs > FEW_PAIRS else compute()
    except RuntimeError as error:
        raise GeometryError(f"no neighbour list for this structure: {error}") from None
    shift = shift.astype(np.int64) @ basis
    return _sorted(pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64), shift, len(positions))


def heeding_signals(work: Callable[[], T]) -> T:
    """The result of a long call into compiled code, made beside this thread, which can be interrupted meanwhile.

    Python heeds a signal only between its own instructions, so a call of minutes would not hear Ctrl-C. One that is
    interrupted ends by itself; its result is dropped.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    worker = threading.Thread(target=run, daemon=True, name="neighbour search")
    worker.start()
    worker.join()
    if errors:
        raise errors[0]
    return results[0]


def compact_basis(box: NDArray[np.float64], periodic: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The integer matrix M, det ±1, for which M · box has compact periodic vectors (usually the identity)."""
    if periodic.sum() < 2:
        return np.eye(3, dtype=np.int64)
    vectors = box[periodic]
    heights = 1.0 / np.linalg.norm(np.linalg.pinv(vectors, rcond=1e-12), axis=0)
    if (heights > FLATNESS * np.linalg.norm(vectors, axis=1)).all():
        return np.eye(3, dtype=np.int64)
    from ase.geometry import minkowski_reduce

    try:
        _, operation = minkowski_reduce(box, periodic)
    except RuntimeError as error:
        raise GeometryError(f"the cell {box.tolist()} is too skewed to be reduced: {error}") from None
    return np.asarray(operation, dtype=np.int64)


def _sorted(
    center: NDArray[np.int64], neighbor: NDArray[np.int64], shift: NDArray[np.int64], n_atoms: int
) -> NeighborList:
    """Canonical order, by one integer key where it fits into 63 bits (several times faster than a lexical sort)."""
    if not len(center):
        return NeighborList(center, neighbor, shift)
    low = shift.min(axis=0)
    width = shift.max(axis=0) - low + 1
    if n_atoms * n_atoms * int(width[0]) * int(width[1]) * int(width[2]) < 2**62:
        key = center * n_atoms + neighbor
        for axis in range(3):
            key = key * width[axis] + (shift[:, axis] - low[axis])
        order = np.argsort(key, kind="stable")
    else:
        order = np.lexsort((shift[:, 2], shift[:, 1], shift[:, 0], neighbor, center))
    return NeighborList(center[order], neighbor[order], shift[order])
