"""Verlet lists, which serve for several steps; and what has changed of a structure since something was said of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms

SKIN = 0.5
"""Å; lists hold pairs this much farther apart than the cutoff, and serve until one could have come within it."""

Graph = Any
"""An `AtomicGraph` of a potential with torch, `GraphArrays` of one without."""


def changes(known: Atoms | None, atoms: Atoms) -> list[str]:
    """What a potential sees of a structure and is other than it was, in ASE's words; exact, and quick.

    Each step of an optimizer asks some five times, which with ASE's own comparison cost a quarter of a step.
    """
    if known is None or len(known) != len(atoms):
        return ["positions", "numbers", "cell", "pbc"]
    changed = [name for name in ("positions", "numbers") if (known.arrays[name] != atoms.arrays[name]).any()]
    if (known.cell.array != atoms.cell.array).any():
        changed.append("cell")
    if (known.pbc != atoms.pbc).any():
        changed.append("pbc")
    return changed


def remembered(known: Atoms | None, atoms: Atoms) -> Atoms:
    """A copy of a structure, for `changes`; where only places and cell are new, the copy that there is, moved."""
    if known is None or set(changes(known, atoms)) - {"positions", "cell"}:
        return atoms.copy()
    known.positions[:] = atoms.positions
    known.cell[:] = atoms.cell.array
    return known


class Neighbors:
    """A list of all pairs within a radius, of one structure, and how long it holds every pair within the cutoff.

    With D the strain that took the cell of the list to the cell of now, and u what an atom has moved besides,
    |r'| ≥ σ_min(D) |r| − 2 max|u|. A pair that is not in the list had |r| ≥ radius, so that the list serves while
    σ_min(D) · radius − 2 max|u| ≥ cutoff.
    """

    def __init__(self, wide: Graph, atoms: Atoms, cutoff: float) -> None:
        self.wide, self.cutoff, self.size = wide, cutoff, wide.size()
        self.positions, self.cell = atoms.positions.copy(), atoms.cell.array.copy()
        self.numbers, self.pbc = atoms.numbers.copy(), atoms.pbc.copy()
        periodic = np.where(self.pbc[:, None], self.cell, 0.0)
        self._inverse = np.linalg.pinv(periodic, rcond=1e-12)
        self._beside = np.eye(3) - self._inverse @ periodic

    def serves(self, atoms: Atoms) -> bool:
        """Whether every pair within the cutoff is there; never for numbers that are not finite."""
        if len(atoms) != len(self.numbers) or not np.array_equal(atoms.numbers, self.numbers):
            return False
        if not np.array_equal(atoms.pbc, self.pbc):
            return False
        cell = atoms.cell.array
        if not (np.isfinite(cell).all() and np.isfinite(atoms.positions).all()):
            return False
        if np.array_equal(cell, self.cell):
            shrunk, moved = 1.0, atoms.positions - self.positions
        else:
            strain = self._inverse @ np.where(self.pbc[:, None], cell, 0.0) + self._beside
            shrunk = float(np.linalg.svd(strain, compute_uv=False)[-1])
            moved = atoms.positions - self.positions @ strain
        most = float(np.linalg.norm(moved, axis=1).max())
        return shrunk * self.wide.cutoff - 2 * most >= self.cutoff

    def now(self, atoms: Atoms) -> Graph:
        """The list with the structure as it is."""
        return self.wide.placed(atoms.positions, atoms.cell.array)
