"""Crystals at rest: what every property here begins with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from mlanet.errors import ConfigError, GeometryError
from mlanet.workflows.relax import relaxation


@dataclass(frozen=True)
class Rest:
    """When a structure counts as relaxed: largest force in eV/Å, steps at most."""

    fmax: float = 0.01
    steps: int = 500


def require_crystal(atoms: Atoms, what: str, where: str) -> None:
    """Raise `GeometryError` for what is not periodic in three directions, `ConfigError` for a model without an energy.

    Args:
        atoms: with their calculator.
        what: property that is wanted, in words.
        where: named in the error.
    """
    if not atoms.pbc.all():
        free = ", ".join("abc"[k] for k in range(3) if not atoms.pbc[k])
        raise GeometryError(f"{where}: not periodic along {free}; {what} is for crystals, periodic in all directions")
    require_gradient(atoms, what)


def require_gradient(atoms: Atoms, what: str) -> None:
    """Raise `ConfigError` where forces are a direct head; atoms with their calculator, and what is wanted, in words."""
    potential = getattr(atoms.calc, "potential", None)
    if potential is not None and not potential.conservative:
        raise ConfigError(
            f"{what} needs forces and stress that are the gradient of an energy; this model has direct ones "
            "(forces: direct), whose answers would mean nothing"
        )


def at_rest(atoms: Atoms, cell: str, rest: Rest, where: str, held: bool = False) -> Atoms:
    """A relaxed copy with the same calculator; `cell`: see `mlanet.workflows.relax.relaxation`.

    - held: keep the constraints, which are taken off otherwise

    Raises:
        GeometryError: it does not come to rest.
    """
    moved = atoms.copy()
    if not held:
        moved.set_constraint()
    moved.calc = atoms.calc
    if cell == "fixed" and np.abs(moved.get_forces()).max() < rest.fmax:
        return moved
    *_, last = relaxation(moved, cell=cell, fmax=rest.fmax, steps=rest.steps, method="bfgs", where=where)
    if not last.converged:
        left = f"{last.force:.3g} eV/Å are left after {rest.steps} steps"
        raise GeometryError(f"{where}: does not come to rest: {left}; allow more steps or a larger fmax")
    return moved
