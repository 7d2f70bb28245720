"""The optimizer of relaxations: what it finds, in how many steps, and that it only goes downhill."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from numpy.testing import assert_allclose

from mlanet.workflows.lbfgs import BOND, LBFGS, LONGEST, MODULUS, usual_inverse
from mlanet.workflows.relax import METHODS, relaxation


class Valley:
    """E = ½ xᵀ A x, or any other energy, as what ASE's optimizers move."""

    def __init__(self, start: np.ndarray, gradient) -> None:  # type: ignore[no-untyped-def]
        self.x, self._gradient = start.copy(), gradient

    def __ase_optimizable__(self) -> Valley:
        return self

    def get_x(self) -> np.ndarray:
        return self.x.copy()

    def set_x(self, x: np.ndarray) -> None:
        self.x = x.copy()

    def get_gradient(self) -> np.ndarray:
        return self._gradient(self.x)  # type: ignore[no-any-return]

    def ndofs(self) -> int:
        return len(self.x)


def test_it_has_learnt_a_quadratic_valley_after_as_many_steps_as_it_has_directions() -> None:
    """Curvatures from 5 to 80 eV/Å², along directions that are no coordinates."""
    rng = np.random.default_rng(0)
    axes, _ = np.linalg.qr(rng.normal(size=(9, 9)))
    curvature = axes @ np.diag(np.geomspace(5, 80, 9)) @ axes.T
    valley = Valley(rng.normal(size=9) * 0.02, lambda x: curvature @ x)
    optimizer = LBFGS(valley, np.full(9, 1 / BOND))
    first = np.abs(valley.get_gradient()).max()
    for _ in range(18):
        optimizer.step()
    assert np.abs(valley.get_gradient()).max() < 1e-4 * first


def test_on_a_hill_it_goes_down_and_nobody_moves_farther_than_the_longest_step() -> None:
    """Where the energy bends downwards, a step without the guard would lead up to the top."""
    valley = Valley(np.full(6, 0.1), lambda x: 40 * x**3 - 10 * x)
    optimizer = LBFGS(valley, np.full(6, 1 / BOND))
    energies = []
    for _ in range(12):
        before = valley.get_x()
        energies.append(float(np.sum(10 * before**4 - 5 * before**2)))
        optimizer.step()
        moved = np.linalg.norm((valley.get_x() - before).reshape(-1, 3), axis=1)
        assert moved.max() <= LONGEST * (1 + 1e-12)
    assert np.all(np.diff(energies) <= 1e-12)
    assert_allclose(valley.get_x(), 0.5, atol=1e-3)


def test_a_step_that_is_too_long_keeps_its_direction() -> None:
    """One atom is pushed hard, and what was learnt ties the other to it: alone, it would be sent uphill."""
    rng = np.random.default_rng(1)
    axes, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    curvature = axes @ np.diag(np.geomspace(0.01, 100, 6)) @ axes.T
    valley = Valley(5 * axes.sum(axis=1), lambda x: curvature @ x)
    optimizer = LBFGS(valley, np.full(6, 1 / BOND))
    shortened = 0
    for _ in range(40):
        before, gradient = valley.get_x(), valley.get_gradient()
        optimizer.step()
        step = valley.get_x() - before
        longest = np.linalg.norm(step.reshape(-1, 3), axis=1).max()
        shortened += bool(longest == pytest.approx(LONGEST))
        wanted = -optimizer._times_inverse(gradient)
        assert gradient @ step < 0
        assert_allclose(step / np.linalg.norm(step), wanted / np.linalg.norm(wanted), atol=1e-9)
    assert shortened > 5


def test_what_a_cell_resists_does_not_depend_on_how_many_copies_of_it_there_are() -> None:
    """E = V M ε²/2 and the coordinate is N ε: curvature V M / N², that of a copy a k-th for k copies."""
    from mlanet.workflows.cell_filter import CellFilter

    crystal = bulk("Cu", cubic=True)
    inverse = [usual_inverse(CellFilter(atoms)) for atoms in (crystal, crystal * (2, 1, 1))]
    assert_allclose(inverse[0][-9:], len(crystal) ** 2 / (crystal.get_volume() * MODULUS))
    assert_allclose(inverse[1][-9:], 2 * inverse[0][-9:])
    assert [len(one) for one in inverse] == [3 * 4 + 9, 3 * 8 + 9]


@pytest.mark.parametrize("distance", [1.6, 2.0, 2.5, 3.0])
def test_from_where_the_curvature_is_negative_it_takes_longer_and_longer_steps(distance: float) -> None:
    """Two atoms far apart feel little, and steps by the usual curvature, 0.003 Å long, would take hundreds."""

    def steps(method: str) -> int:
        atoms = Atoms("Ar2", [[0, 0, 0], [0, 0, distance]], calculator=LennardJones(rc=4.0, ro=3.0, smooth=True))
        *_, last = relaxation(atoms, method=method)
        assert last.converged and atoms.get_distance(0, 1) == pytest.approx(2 ** (1 / 6), abs=1e-3)
        return last.number

    assert steps("lbfgs") < min(30, steps("fire"))


def test_a_large_cell_takes_as_few_steps_as_a_small_one() -> None:
    """A step may strain both alike; if it moved coordinates N ln F alike, many atoms took many steps."""

    def steps(copies: int) -> int:
        atoms = bulk("Cu", a=3.61 * 0.94) * ((copies,) * 3)
        atoms.calc = EMT()
        *_, last = relaxation(atoms, cell="full")
        assert last.converged
        return last.number

    assert steps(4) <= steps(1) + 1


@pytest.mark.parametrize("cell", ["fixed", "full"])
def test_a_third_of_fires_steps_to_the_same_minimum(cell: str) -> None:
    def relaxed(method: str) -> tuple[int, float]:
        atoms = bulk("Cu", a=3.75, cubic=True) * (2, 2, 1)
        atoms.symbols[::3] = "Au"
        atoms.rattle(0.1, seed=1)
        atoms.calc = EMT()
        *_, last = relaxation(atoms, cell=cell, method=method)
        assert last.converged
        return last.number, last.energy

    (few, energy), (many, other) = (relaxed(method) for method in METHODS)
    assert energy == pytest.approx(other, abs=2e-3)
    assert 3 * few < many


def test_a_cluster_and_a_pair_that_is_far_too_close() -> None:
    """Forces of 10⁵ eV/Å at the start, a molecule without a cell."""
    atoms = Atoms("Ar4", [[0, 0, 0], [0.5, 0, 0], [0, 1.3, 0.1], [0.2, 0.1, 1.2]])
    atoms.calc = LennardJones()
    *_, last = relaxation(atoms, fmax=1e-3)
    assert last.converged
    pair = Atoms("Ar2", [[0, 0, 0], [2 ** (1 / 6), 0, 0]], calculator=LennardJones())
    assert last.energy == pytest.approx(6 * pair.get_potential_energy(), abs=1e-5), "a tetrahedron"


@pytest.mark.parametrize("n", [13, 38])
def test_crowds_of_atoms_thrown_together_come_to_rest(n: int) -> None:
    """Energies of 10¹⁵ and more at the start. Steps shortened atom by atom took 300 for the first, and never ended."""
    places = np.random.default_rng(n).uniform(0, (1.6 * n) ** (1 / 3), (n, 3))
    atoms = Atoms(f"Ar{n}", places, calculator=LennardJones(rc=4.0, ro=3.0, smooth=True))
    steps = list(relaxation(atoms, fmax=0.01, steps=250))
    assert steps[-1].converged and steps[-1].energy < 0
    energies = np.array([step.energy for step in steps])
    assert energies[1:].max() < energies[0], "never farther up than it began"
