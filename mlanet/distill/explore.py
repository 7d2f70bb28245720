"""Where the student itself would go: hot dynamics and relaxations that end before the teacher is asked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms, units
from numpy.random import Generator

from mlanet.distill.config import Recipe
from mlanet.distill.structures import apart
from mlanet.errors import MLANetError

TIME_STEP = 2.0
"""fs, of exploring dynamics."""
FMAX = 0.01
"""eV/Å at which an exploring relaxation has arrived."""

Explore = Callable[[Atoms, Recipe, Generator], Atoms | None]


def explorer(model: str) -> Explore:
    """Moves a structure with the student as its recipe asks: `relax` first, then `explore`.

    The teacher then corrects what the student would walk into, its wrong minima among them. A structure that the
    student tears apart or drives together is None.

    Args:
        model: file or packaged name of the student.
    """
    from mlanet.calculator import MLANetCalculator

    calculator = MLANetCalculator(model)
    known = frozenset(calculator.answering.species)

    def explore(atoms: Atoms, recipe: Recipe, rng: Generator) -> Atoms | None:
        if not known.issuperset(map(int, atoms.numbers)):
            return atoms
        moved: Atoms | None = _bare(atoms)
        if moved is not None and recipe.relax:
            steps = int(rng.integers(recipe.relax + 1))
            moved = _relaxed(moved, calculator, steps) if steps else moved
        if moved is not None and recipe.explore:
            moved = _heated(moved, calculator, recipe, rng)
        return moved

    return explore


def _relaxed(atoms: Atoms, calculator: object, steps: int) -> Atoms | None:
    """So many steps downhill, with the cell where it is periodic in all directions; every stage of a path is wanted."""
    from mlanet.workflows.relax import relaxation

    cell = "full" if atoms.pbc.all() else "fixed"
    atoms.calc = calculator
    try:
        for _ in relaxation(atoms, cell=cell, fmax=FMAX, steps=steps):
            pass
    except MLANetError:
        return None
    return _bare(atoms) if apart(atoms) else None


def _heated(atoms: Atoms, calculator: object, recipe: Recipe, rng: Generator) -> Atoms | None:
    """Langevin dynamics at up to the recipe's temperature, until atoms come too near."""
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import thermalize_momenta

    atoms.calc = calculator
    temperature = float(rng.uniform(0.1, 1.0)) * recipe.temperature
    thermalize_momenta(atoms, temperature, rng=rng)
    step = TIME_STEP * units.fs
    dynamics = Langevin(atoms, step, temperature_K=temperature, friction=0.02 / units.fs, rng=rng, fixcm=False)
    last = None
    for _ in range(max(1, recipe.explore // 5)):
        dynamics.run(5)
        if not np.isfinite(atoms.positions).all() or not apart(atoms):
            break
        last = _bare(atoms)
    return last


def _bare(atoms: Atoms) -> Atoms:
    """Geometry alone."""
    return Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell.array, pbc=atoms.pbc)
