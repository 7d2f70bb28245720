"""What of a cell may change in a relaxation: periodic directions, without empty space and vectors that are held."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlanet.data.empty_space import AXES, empty_axes
from mlanet.errors import ConfigError, GeometryError
from mlanet.units import VOIGT


def held_vectors(atoms: Atoms, hold: str, vacuum: str) -> str:
    """Letters of the lattice vectors that stay as they are.

    Args:
        atoms: the structure.
        hold: letters that are named, such as c or ab.
        vacuum: auto (whatever has empty space along it, where that can be told apart), none, or letters.
    Raises:
        ConfigError: letters that are none.
    """
    for name, text in (("hold", hold), ("vacuum", "" if vacuum in ("auto", "none") else vacuum)):
        if set(text) - set(AXES) or len(set(text)) != len(text):
            raise ConfigError(f"{name}: '{text}' are no lattice vectors; give some of a, b and c")
    empty = "".join(empty_axes(atoms)) if vacuum == "auto" else "" if vacuum == "none" else vacuum
    return "".join(axis for axis in AXES if axis in hold + empty)


def strain_mask(atoms: Atoms, held: str = "") -> NDArray[np.bool_]:
    """(6,) in Voigt order: Cartesian strains among periodic directions whose vectors are not held.

    Raises:
        GeometryError: nothing may change, or vectors that may and may not are not apart along Cartesian axes.
    """
    moves = atoms.pbc & np.array([axis not in held for axis in AXES])
    if moves.all():
        return np.ones(6, dtype=bool)
    if not moves.any():
        raise GeometryError("no lattice vector is left that may change; relax atoms only, with cell fixed")
    largest = np.abs(atoms.cell.array).max()
    inside = np.abs(atoms.cell.array[moves]).max(axis=0) > 1e-8 * largest
    still = atoms.cell.array[atoms.pbc & ~moves]
    if inside.sum() != moves.sum() or (np.abs(still[:, inside]) > 1e-8 * largest).any():
        what = f"lattice vectors that are held ({held})" if held else "the periodic directions of a sheet or wire"
        raise GeometryError(
            f"{what} must lie along Cartesian planes or axes apart from the others to relax the cell; "
            "rotate it first (ase: atoms.rotate(..., rotate_cell=True))"
        )
    return np.array([inside[a] and inside[b] for a, b in zip(*VOIGT, strict=True)])


def keep_symmetry(atoms: Atoms, symprec: float) -> None:
    """Hold the space group that atoms have up to `symprec` (Å) by a constraint of ASE's, which uses spglib.

    The structure is first moved onto that symmetry.

    Raises:
        GeometryError: not periodic in three directions, or no space group can be found.
        ConfigError: other constraints.
    """
    from ase.constraints import FixSymmetry

    if not atoms.pbc.all():
        raise GeometryError("symmetry is kept of crystals, periodic in three directions; leave out --keep-symmetry")
    if atoms.constraints:
        raise ConfigError("symmetry cannot be kept beside held atoms; take their constraints off first")
    space_group(atoms, symprec)
    atoms.set_constraint(FixSymmetry(atoms, symprec=symprec))


def space_group(atoms: Atoms, symprec: float) -> str:
    """Such as Fm-3m (225).

    Raises:
        GeometryError: none can be found, as where atoms overlap within `symprec`.
    """
    from ase.spacegroup.symmetrize import check_symmetry

    try:
        symmetry = check_symmetry(atoms, symprec)
    except Exception:  # spglib raises errors of its own, which differ between versions
        symmetry = None
    if symmetry is None:
        raise GeometryError(f"no space group can be found up to {symprec:g} Å; try another --symprec")
    return f"{symmetry.international} ({symmetry.number})"
