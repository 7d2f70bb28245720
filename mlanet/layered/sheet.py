"""Stress of a sheet: force per length, which does not depend on how much empty space its cell has."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from mlanet.errors import GeometryError
from mlanet.units import EV_PER_SQUARE_ANGSTROM_IN_JOULE_PER_SQUARE_METER


def sheet_stress(atoms: Atoms, stress: ArrayLike) -> NDArray[np.float64]:
    """In-plane stress τ_ab = (V/A) e_a · σ · e_b, (2, 2) N/m, tension positive.

    σ = (1/V) ∂E/∂ε refers to the volume V of the cell as given, empty space included, so it halves as the cell's height
    doubles; τ = (1/A) ∂E/∂ε, with A the area of the sheet, does not. e_1 lies along the first periodic lattice
    vector, e_2 in the plane at a right angle to it.

    Args:
        atoms: periodic in exactly two directions.
        stress: (6,) in ASE's order or (3, 3), eV/Å³.
    Raises:
        GeometryError: not two periodic directions, or a cell without volume.
    """
    if atoms.pbc.sum() != 2:
        raise GeometryError("a sheet's stress needs a structure that is periodic in exactly two directions")
    first, second = atoms.cell.array[atoms.pbc]
    normal = np.cross(first, second)
    area = float(np.linalg.norm(normal))
    volume = abs(float(np.linalg.det(atoms.cell.array)))
    if not volume > 0:
        raise GeometryError("a sheet's stress needs a cell with a volume; give the free direction any length")
    full = np.asarray(stress, dtype=np.float64)
    if full.shape == (6,):
        full = full[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
    along = first / np.linalg.norm(first)
    frame = np.array([along, np.cross(normal / area, along)])
    return EV_PER_SQUARE_ANGSTROM_IN_JOULE_PER_SQUARE_METER * volume / area * frame @ full @ frame.T
