"""Relaxing many at a time: every structure goes the way it would go alone."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

import mlanet
from mlanet.batched_potential import BatchedPotential
from mlanet.errors import DataError, GeometryError, MLANetError, UnsupportedElementError
from mlanet.workflows.cell_filter import CellFilter
from mlanet.workflows.matrices import exponential
from mlanet.workflows.relax import Descent, Step, relaxation
from mlanet.workflows.relax_batched import Course, relax_all

MASKS = [None, np.array([1, 1, 0, 0, 0, 1], dtype=bool), np.array([1, 0, 1, 1, 0, 1], dtype=bool)]
OPTIONS = st.fixed_dictionaries(
    {
        "hydrostatic_strain": st.booleans(),
        "constant_volume": st.booleans(),
        "scalar_pressure": st.sampled_from([0.0, 0.05]),
        "mask": st.sampled_from(MASKS),
    }
)


@settings(max_examples=12)
@given(OPTIONS, st.integers(0, 1000))
def test_the_cell_is_moved_as_by_ase(options, seed: int) -> None:
    """Forces, criterion and way of ASE's filter, through steps and after somebody else has changed the cell."""
    random = np.random.default_rng(seed)
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=seed)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.05 * random.normal(size=(3, 3))), scale_atoms=True)
    other = atoms.copy()
    atoms.calc, other.calc = EMT(), EMT()
    ours, theirs = CellFilter(atoms, **options), FrechetCellFilter(other, **options)
    for step in range(4):
        assert np.allclose(ours.get_forces(), theirs.get_forces(), atol=1e-10)
        assert np.allclose(ours.stress, theirs.stress, atol=1e-12)
        move = 0.05 * random.normal(size=(len(atoms) + 3, 3))
        for one in (ours, theirs):
            one.set_positions(one.get_positions() + move)
            if step == 1:
                one.atoms.set_cell(one.atoms.cell.array * 1.01, scale_atoms=True)
        assert np.allclose(atoms.cell, other.cell, atol=1e-10)
        assert np.allclose(atoms.positions, other.positions, atol=1e-9)


def test_exponentials_are_those_of_scipy() -> None:
    """Of any size and number, zero and not finite included, each by itself."""
    random = np.random.default_rng(0)
    for size in (0.0, 1e-9, 0.1, 3.0):
        for shape in ((3, 3), (5, 3, 3), (2, 4, 6, 6), (0, 3, 3)):
            matrix = size * random.normal(size=shape)
            assert np.allclose(exponential(matrix), expm(matrix), rtol=1e-12, atol=1e-12)
    matrix = random.normal(size=(2, 3, 3))
    good = exponential(matrix[1])
    matrix[0, 1, 1] = np.nan
    found = exponential(matrix)
    assert np.isnan(found[0]).all() and np.allclose(found[1], good, rtol=1e-14)


def crystals() -> list[Atoms]:
    """Si and C strained and rattled by different amounts, so that they arrive in another order."""
    found = []
    for seed, (symbol, size) in enumerate([("Si", 0.15), ("C", 0.01), ("Si", 0.02), ("C", 0.03)]):
        atoms = bulk(symbol)
        strain = size * np.random.default_rng(seed).normal(size=(3, 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain + strain.T), scale_atoms=True)
        atoms.rattle(size, seed=seed)
        found.append(atoms)
    return found


WORDS = {"cell": "full", "pressure": 0.0, "fmax": 0.3, "steps": 6}


@pytest.fixture(scope="module")
def calculator() -> mlanet.MLANetCalculator:
    return mlanet.MLANetCalculator(dtype="float64")


@pytest.mark.parametrize("method", ["fire", "lbfgs"])
def test_each_goes_its_own_way(calculator, method: str) -> None:
    """The same steps to the same minimum, in the order of the input, two in a batch, or all."""
    alone = crystals()
    steps = []
    for atoms in alone:
        atoms.calc = calculator
        *_, last = relaxation(atoms, **WORDS, method=method)
        steps.append(last)
    for max_edges in (400, 20_000) if method == "fire" else (400,):
        batched = crystals()
        batched_potential = BatchedPotential(calculator.potential, max_edges=max_edges)
        found = list(
            relax_all(
                batched_potential, batched, lambda atoms: Course(Descent(atoms, **WORDS, method=method, where="x"))
            )
        )
        assert [one for one, _ in found] == batched
        for (atoms, step), other, last in zip(found, alone, steps, strict=True):
            assert isinstance(step, Step) and step.number == last.number and step.converged == last.converged
            assert atoms.get_potential_energy() == pytest.approx(other.get_potential_energy(), abs=1e-8)
            assert atoms.cell.volume == pytest.approx(other.cell.volume, rel=1e-8)


def test_one_that_fails_fails_alone(calculator) -> None:
    """Unknown, overlapping, without a cell, too few steps: the others arrive; an error of the source comes last."""
    good, wall = crystals()[1], Atoms("He2", [[0, 0, 0], [0, 0, 0.01]], cell=[9, 9, 9], pbc=True)
    things = [Atoms("Po", cell=[5, 5, 5], pbc=True), wall, Atoms("Si2", [[0, 0, 0], [0, 0, 2.3]]), good]
    known = calculator.potential.species
    things[0].numbers[:] = next(z for z in range(1, 119) if z not in known)

    def source():
        yield from things
        raise DataError("the file ends in the middle of a frame")

    found = []
    with pytest.raises(DataError, match="in the middle"):
        for pair in relax_all(
            BatchedPotential(calculator.potential),
            source(),
            lambda atoms: Course(Descent(atoms, **WORDS, method="fire", where="x")),
        ):
            found.append(pair)
    assert [atoms for atoms, _ in found] == things
    errors = [arrived for _, arrived in found]
    assert isinstance(errors[0], UnsupportedElementError) and isinstance(errors[1], GeometryError)
    assert "step 0" in str(errors[1]) and "without periodic" in str(errors[2]) and isinstance(errors[2], MLANetError)
    assert isinstance(errors[3], Step) and errors[3].number > 0
