"""Crystals at rest: what every property here begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from ase import Atoms

from mlanet.batched_potential import BatchedPotential
from mlanet.calculator import MLANetCalculator
from mlanet.data.empty_space import EMPTY, empty_axes
from mlanet.errors import ConfigError, GeometryError, MLANetError
from mlanet.execution import batch_limit
from mlanet.workflows.relax import Descent, Step, relaxation
from mlanet.workflows.relax_batched import Course, relax_all


@dataclass(frozen=True)
class Rest:
    """When a structure counts as relaxed: largest force in eV/Å, steps at most."""

    fmax: float = 0.01
    steps: int = 500


def require_crystal(atoms: Atoms, what: str, where: str, solid: bool = False) -> None:
    """Raise `GeometryError` for what is no crystal, `ConfigError` for a model without an energy.

    A crystal is periodic in three directions, and its images meet: they do not where more than 9 Å, or more than the
    model's cutoff, are empty along all three lattice vectors.

    Args:
        atoms: with their calculator.
        what: property that is wanted, in words.
        where: named in the error.
        solid: it must not have 9 Å of empty space along any vector either, as a slab has.
    """
    if not atoms.pbc.all():
        free = ", ".join("abc"[k] for k in range(3) if not atoms.pbc[k])
        raise GeometryError(f"{where}: not periodic along {free}; {what} is for crystals, periodic in all directions")
    cutoff = getattr(getattr(atoms.calc, "answering", None), "cutoff", EMPTY)
    gaps = empty_axes(atoms, min(EMPTY, cutoff))
    if len(gaps) == 3:
        box = f"{min(gaps.values()):.1f} Å or more along each lattice vector are empty"
        raise GeometryError(f"{where}: no crystal, but a molecule or an atom in a box: {box}; {what} is for crystals")
    if solid and (gaps := empty_axes(atoms)):
        along = " and ".join(f"{gap:.1f} Å along {axis}" for axis, gap in gaps.items())
        raise GeometryError(f"{where}: {along} are empty, as around a slab or wire; {what} is for what fills its cell")
    require_gradient(atoms, what)


def require_gradient(atoms: Atoms, what: str) -> None:
    """Raise `ConfigError` where forces are a direct head; atoms with their calculator, and what is wanted, in words."""
    answering = getattr(atoms.calc, "answering", None)
    if answering is not None and not answering.conservative:
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
    *_, last = relaxation(moved, cell=cell, fmax=rest.fmax, steps=rest.steps, where=where)
    _require_rest(last, rest, where)
    return moved


def all_at_rest(structures: Sequence[Atoms], cell: str, rest: Rest, wheres: Sequence[str]) -> list[Atoms]:
    """`at_rest` of structures that share a calculator, all at a time where that is one of ours; raises as it does."""
    batched_potential = batched_potential_of(structures[0].calc)
    if batched_potential is None:
        return [at_rest(one, cell, rest, where) for one, where in zip(structures, wheres, strict=True)]
    bare = [structure.copy() for structure in structures]
    for one in bare:
        one.set_constraint()

    def course(one: tuple[Atoms, str]) -> Course:
        atoms, where = one
        descent = Descent(atoms, cell=cell, fmax=rest.fmax, steps=rest.steps, where=where)
        return Course(descent, lambda step: _rests(atoms, cell, rest, step))

    for (atoms, where), arrived in relax_all(batched_potential, zip(bare, wheres, strict=True), course):
        if isinstance(arrived, MLANetError):
            raise arrived
        if not _rests(atoms, cell, rest, arrived):
            _require_rest(arrived, rest, where)
    return bare


def all_computed(structures: Sequence[Atoms]) -> list[Atoms]:
    """Structures that share a calculator, computed all at a time where that is one of ours; raises what it raises."""
    batched_potential = batched_potential_of(structures[0].calc)
    if batched_potential is not None:
        for error in batched_potential(structures):
            if error is not None:
                raise error
    return list(structures)


def _rests(atoms: Atoms, cell: str, rest: Rest, step: Step) -> bool:
    """Whether nothing has to be moved: of a fixed cell, no component of a force is too large at the start."""
    return cell == "fixed" and step.number == 0 and bool(np.abs(atoms.get_forces()).max() < rest.fmax)


def _require_rest(last: Step, rest: Rest, where: str) -> None:
    if not last.converged:
        left = f"{last.force:.3g} eV/Å are left after {rest.steps} steps"
        raise GeometryError(f"{where}: does not come to rest: {left}; allow more steps or a larger fmax")


_MADE: WeakKeyDictionary[MLANetCalculator, BatchedPotential] = WeakKeyDictionary()


def batched_potential_of(calculator: object) -> BatchedPotential | None:
    """What computes many structures at a time: one for each calculator of ours whose steps are neither compiled nor
    recorded, None of others."""
    if not isinstance(calculator, MLANetCalculator):
        return None
    if calculator.parameters["compiled"] or calculator.parameters["capture"]:
        return None
    if calculator not in _MADE:
        answering = calculator.answering
        _MADE[calculator] = BatchedPotential(answering, fits=batch_limit(answering, None))
    return _MADE[calculator]
