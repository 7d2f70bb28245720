"""Forces that a constraint was applied to before they were stored: zeros that are no labels."""

from __future__ import annotations

import warnings

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian, FixedLine, FixedPlane, FixScaled
from numpy.typing import NDArray

_HOLDING = (FixAtoms, FixCartesian, FixScaled, FixedPlane, FixedLine)
"""Constraints that take away force components of single atoms. Others (a centre of mass, a symmetry) may be obeyed by
true forces too."""
ZERO = 1e-9
"""eV/Å; true forces on held atoms are not that small by chance."""


def without_projected(forces: NDArray[np.float64], atoms: Atoms, where: str) -> NDArray[np.float64]:
    """Forces with NaN (not labelled) where a constraint has set them to zero; a warning says so, once for each file.

    ASE's `atoms.get_forces()` does that, so that files hold it. A component counts as projected if all forces that its
    constraint takes away are zero, while some others are not.

    Args:
        forces: (N, 3) eV/Å, as stored.
        atoms: with its constraints.
        where: file and frame.
    """
    holding = [constraint for constraint in atoms.constraints if isinstance(constraint, _HOLDING)]
    if not holding or not (np.abs(np.nan_to_num(forces)) > ZERO).any():
        return forces
    left = forces.copy()
    for constraint in holding:
        kept = forces.copy()
        constraint.adjust_forces(atoms, kept)
        probe = np.ones_like(forces)
        constraint.adjust_forces(atoms, probe)
        held = np.abs(probe - 1.0) > ZERO
        if held.any() and not (np.abs(np.nan_to_num(kept - forces)) > ZERO).any():
            left[held] = np.nan
    if np.isnan(left).sum() > np.isnan(forces).sum():
        file = where.rpartition(", frame")[0] or where
        warnings.warn(
            f"{file}: forces on atoms that a constraint holds are zero, since it was applied to them before they were "
            "stored; they are left out as not labelled",
            stacklevel=2,
        )
    return left
