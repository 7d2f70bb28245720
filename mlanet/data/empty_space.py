"""Empty space in a cell: what tells a slab, a wire or a molecule in a box from a crystal."""

from __future__ import annotations

import numpy as np
from ase import Atoms

EMPTY = 9.0
"""Å without an atom along a lattice vector, from which that is empty space and no crystal (as `mlanet exfoliate`)."""
AXES = "abc"


def empty_axes(atoms: Atoms, least: float = EMPTY) -> dict[str, float]:
    """Å of empty space along each periodic lattice vector that has more than `least` of it."""
    gaps: dict[str, float] = {}
    if not atoms.pbc.any() or abs(np.linalg.det(atoms.cell.array)) == 0:
        return gaps
    fractions = atoms.get_scaled_positions(wrap=True)
    heights = 1 / np.linalg.norm(atoms.cell.reciprocal().array, axis=1)
    for k in np.flatnonzero(atoms.pbc):
        places = np.sort(fractions[:, k])
        gap = float(np.diff(np.append(places, places[0] + 1)).max() * heights[k])
        if gap > least:
            gaps[AXES[k]] = gap
    return gaps
