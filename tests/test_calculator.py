"""The calculator keeps ASE's conventions, names what is wrong, and can be copied, pickled and shared."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.constraints import FixAtoms
from ase.db import connect
from ase.filters import FrechetCellFilter
from ase.io import Trajectory, read
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS, FIRE
from calculating import assert_same, build, layer, numbers, silicon, thermalize

import mlanet
from mlanet.batched_potential import BatchedPotential
from mlanet.calculator import MLANetCalculator
from mlanet.checkpoint import save_model
from mlanet.errors import CheckpointError, ConfigError, DataError, GeometryError, UnsupportedElementError
from mlanet.potential import Potential

SYSTEMS = {"bulk": silicon(), "layer": layer(), "molecule": molecule("CH3CH2OH"), "lone atom": Atoms("O")}


@pytest.fixture(scope="module")
def potential() -> Potential:
    """Random weights, float32."""
    return build()


@pytest.fixture
def calculator(potential: Potential) -> MLANetCalculator:
    """In float64 and without a skin."""
    return MLANetCalculator(potential, dtype="float64")


@pytest.mark.parametrize("name", SYSTEMS)
def test_forces_and_stress_are_derivatives_by_ases_own_differences(calculator: MLANetCalculator, name: str) -> None:
    """F = −∂E/∂R, and σ = (1/V) ∂E/∂ε in Voigt order xx yy zz yz xz xy with tension positive, as ASE measures them."""
    atoms = SYSTEMS[name].copy()
    atoms.calc = calculator
    few = list(range(min(3, len(atoms))))
    forces = calculate_numerical_forces(atoms, eps=1e-4, iatoms=few)
    # Second-order differences over 10⁻⁴ Å of random weights at short distances err by some 10⁻⁶ of the force.
    np.testing.assert_allclose(atoms.get_forces()[few], forces, rtol=3e-6, atol=3e-6)
    if atoms.pbc.any():
        assert atoms.get_stress().shape == (6,)
        np.testing.assert_allclose(atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-5), atol=1e-7)


@pytest.mark.parametrize("name", SYSTEMS)
def test_results_are_what_ase_expects(calculator: MLANetCalculator, name: str) -> None:
    """free_energy is energy, site energies sum to it, arrays are float64 copies that cannot spoil the cache."""
    atoms = SYSTEMS[name].copy()
    atoms.calc = calculator
    energy = atoms.get_potential_energy()
    assert isinstance(energy, float) and energy == atoms.get_potential_energy(force_consistent=True)
    assert atoms.get_potential_energies().shape == (len(atoms),)
    assert atoms.get_potential_energies().sum() == pytest.approx(energy, abs=1e-9)
    forces = atoms.get_forces()
    assert forces.shape == (len(atoms), 3) and forces.dtype == np.float64
    kept = forces.copy()
    forces[:] = 7.0
    np.testing.assert_array_equal(atoms.get_forces(), kept)


@pytest.mark.parametrize("name", ["molecule", "lone atom"])
def test_stress_of_a_molecule_is_not_implemented(calculator: MLANetCalculator, name: str) -> None:
    """Without a periodic direction, or with a cell without volume, there is no stress; the rest is not lost."""
    atoms = SYSTEMS[name].copy()
    atoms.calc = calculator
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()
    atoms.get_forces()
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_dipole_moment()
    wire = Atoms("Si", cell=[5.0, 0, 0], pbc=[True, False, False], calculator=calculator)
    with pytest.raises(PropertyNotImplementedError, match="volume"):
        wire.get_stress()


def test_structures_are_not_changed(calculator: MLANetCalculator) -> None:
    """Unwrapped positions, cell, info, arrays, constraints and order are those before, bit by bit."""
    atoms = silicon()
    atoms.positions += 100.0
    atoms.info["note"] = {"nested": [1, 2]}
    atoms.new_array("marks", np.arange(8))
    atoms.set_constraint(FixAtoms([0]))
    before = copy.deepcopy(atoms)
    atoms.calc = calculator
    atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    assert atoms.info == before.info
    assert atoms.arrays.keys() == before.arrays.keys()
    for name, array in atoms.arrays.items():
        np.testing.assert_array_equal(array, before.arrays[name])
    assert (atoms.cell.array == before.cell.array).all() and (atoms.pbc == before.pbc).all()


@pytest.mark.parametrize("skin", [0.0, 0.8])
def test_impossible_structures_are_typed_errors(potential: Potential, skin: float) -> None:
    """NaN, overlap and unknown elements are named, also when a skin list stands; afterwards the calculator works on."""
    atoms = Atoms("OH", positions=[[0, 0, 0], [0.45, 0, 0]], calculator=MLANetCalculator(potential, skin=skin))
    energy = atoms.get_potential_energy()
    good = atoms.positions.copy()
    atoms.positions[0, 0] = np.nan
    with pytest.raises(GeometryError, match="atom 0"):
        atoms.get_potential_energy()
    atoms.positions[:] = [[0.2, 0, 0], [0.25, 0, 0]]
    with pytest.raises(GeometryError, match="atoms 0 and 1"):
        atoms.get_potential_energy()
    atoms.positions[:] = good
    atoms.numbers[1] = 79
    for _ in range(2):
        with pytest.raises(UnsupportedElementError, match=r"Au.*atom 1.*knows: H C O Si"):
            atoms.get_potential_energy()
    with pytest.raises(GeometryError, match="no atoms"):
        Atoms(calculator=atoms.calc).get_potential_energy()
    atoms.numbers[1] = 1
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-9)
    with pytest.raises(DataError, match="no structure"):
        MLANetCalculator(potential).get_property("energy")


def test_a_model_that_has_diverged_is_an_error_not_a_nan(potential: Potential) -> None:
    """Weights that are not finite never give a result that looks like one."""
    broken = copy.deepcopy(potential)
    with torch.no_grad():
        next(iter(broken.parameters())).fill_(float("nan"))
    atoms = silicon()
    atoms.calc = MLANetCalculator(broken)
    with pytest.raises(GeometryError, match="finite"):
        atoms.get_forces()


@pytest.mark.parametrize("optimizer", [BFGS, FIRE])
def test_relaxation_lowers_the_energy_to_a_minimum(optimizer: type) -> None:
    """ASE's optimizers converge; on random weights whose landscape has a minimum nearby, as not all have."""
    atoms = silicon()
    atoms.calc = MLANetCalculator(build(seed=1))
    before = atoms.get_potential_energy()
    assert optimizer(atoms, logfile=None).run(fmax=0.01, steps=300)
    relaxed = atoms.get_potential_energy()
    assert relaxed < before


def test_the_cell_filter_drives_stress_down(calculator: MLANetCalculator) -> None:
    """Forces on the cell by `FrechetCellFilter` are minus the derivatives of the energy by the cell."""
    atoms = silicon()
    atoms.calc = calculator
    cell = FrechetCellFilter(atoms)
    forces, start, step = cell.get_forces(), cell.get_positions(), 1e-5
    for row, column in ((8, 0), (9, 1), (10, 2), (8, 1), (9, 2)):
        energies = []
        for sign in (1, -1):
            moved = start.copy()
            moved[row, column] += sign * step
            cell.set_positions(moved)
            energies.append(atoms.get_potential_energy())
        cell.set_positions(start)
        assert -(energies[0] - energies[1]) / (2 * step) == pytest.approx(forces[row, column], abs=1e-5)
    before = atoms.get_potential_energy()
    BFGS(cell, logfile=None).run(fmax=0.05, steps=15)
    assert atoms.get_potential_energy() < before


def test_constant_energy_dynamics_conserves(calculator: MLANetCalculator) -> None:
    """The total energy of 100 fs without a thermostat stays within 0.1 meV per atom."""
    atoms = silicon()
    atoms.calc = calculator
    thermalize(atoms, 300)
    start = atoms.get_total_energy()
    VelocityVerlet(atoms, timestep=0.5 * units.fs).run(200)
    assert abs(atoms.get_total_energy() - start) / len(atoms) < 1e-4


def test_pickles_and_copies_are_independent_and_equal(potential: Potential) -> None:
    """A copy answers the same, and changing one leaves the other alone."""
    calculator = MLANetCalculator(potential, dtype="float64", skin=0.5)
    atoms = silicon()
    atoms.calc = calculator
    expected = atoms.get_forces()
    for twin in (pickle.loads(pickle.dumps(calculator)), copy.deepcopy(calculator)):
        other = silicon()
        other.calc = twin
        np.testing.assert_array_equal(other.get_forces(), expected)
        with torch.no_grad():
            for parameter in twin.potential.parameters():
                parameter.zero_()
        twin.reset()
        assert np.abs(other.get_forces() - expected).max() > 1e-6
    calculator.reset()
    np.testing.assert_array_equal(atoms.get_forces(), expected)


def test_a_calculator_is_a_snapshot(potential: Potential) -> None:
    """Training a potential further, or converting the calculator, does not reach over to the other."""
    mine = copy.deepcopy(potential).train()
    atoms = silicon()
    atoms.calc = MLANetCalculator(mine, dtype="float64")
    before = atoms.get_potential_energy()
    assert mine.training and mine.dtype == torch.float32 and all(p.requires_grad for p in mine.parameters())
    with torch.no_grad():
        for parameter in mine.parameters():
            parameter.add_(1.0)
    atoms.calc.reset()
    assert atoms.get_potential_energy() == before


@pytest.mark.parametrize("shared", [True, False])
def test_eight_threads(potential: Potential, shared: bool) -> None:
    """Eight threads, each with its own structure, get their own answers, from one calculator or one each."""
    one = MLANetCalculator(potential, dtype="float64", skin=0.3)
    expected = [numbers(silicon(seed=seed), MLANetCalculator(potential, dtype="float64")) for seed in range(8)]

    def work(seed: int) -> None:
        atoms = silicon(seed=seed)
        atoms.calc = one if shared else MLANetCalculator(potential, dtype="float64", skin=0.3)
        for _ in range(6):
            atoms.rattle(0.0)
            assert abs(atoms.get_potential_energy() - expected[seed]["energy"]) < 1e-10
            np.testing.assert_allclose(atoms.get_forces(), expected[seed]["forces"], atol=1e-11)
            np.testing.assert_allclose(atoms.get_stress(), expected[seed]["stress"], atol=1e-11)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_precision_can_be_chosen(potential: Potential) -> None:
    """float32 and float64 agree to single precision; the default keeps the model's; other words are errors."""
    atoms = silicon()
    single, double = MLANetCalculator(potential, dtype="float32"), MLANetCalculator(potential, dtype="float64")
    assert MLANetCalculator(potential).potential.dtype == torch.float32
    assert double.potential.dtype == torch.float64
    one, other = numbers(atoms, single), numbers(atoms, double)
    assert_same(one, other, 1e-3)
    assert np.abs(one["forces"] - other["forces"]).max() > 0
    with pytest.raises(ConfigError, match="float32 or float64"):
        MLANetCalculator(potential, dtype="float16")
    with pytest.raises(ConfigError, match="skin"):
        MLANetCalculator(potential, skin=-1.0)
    with pytest.raises(ConfigError, match="device"):
        MLANetCalculator(potential, device="abacus")
    with pytest.raises(ConfigError, match="make a new"):
        double.set(skin=1.0)


def test_models_by_path_and_name(potential: Potential, tmp_path: Path) -> None:
    """A path gives what the potential gives; an unknown name is an error that says what there is."""
    save_model(potential, tmp_path / "m.safetensors")
    expected = numbers(silicon(), MLANetCalculator(potential))
    assert_same(numbers(silicon(), MLANetCalculator(tmp_path / "m.safetensors")), expected, 0.0)
    assert_same(numbers(silicon(), mlanet.MLANetCalculator(str(tmp_path / "m.safetensors"))), expected, 0.0)
    with pytest.raises(CheckpointError, match="packaged models"):
        MLANetCalculator("no_such_model")


def test_direct_forces_come_with_a_warning() -> None:
    """A model whose forces are no gradient says so when a calculator is made of it; others are silent."""
    with pytest.warns(UserWarning, match="not the gradient of its energy"):
        calculator = MLANetCalculator(build(forces="direct"), dtype="float64")
    results = numbers(silicon(), calculator)
    assert results["forces"].shape == (8, 3) and results["stress"].shape == (6,)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MLANetCalculator(build())


def test_results_can_be_stored_by_ase(calculator: MLANetCalculator, tmp_path: Path) -> None:
    """Trajectories, extxyz files and databases keep the results and the name of the calculator."""
    atoms = silicon()
    atoms.calc = calculator
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    with Trajectory(tmp_path / "t.traj", "w") as trajectory:
        trajectory.write(atoms)
    atoms.write(tmp_path / "t.extxyz")
    for name in ("t.traj", "t.extxyz"):
        back = read(tmp_path / name)
        assert back.get_potential_energy() == pytest.approx(energy, abs=1e-7)
        np.testing.assert_allclose(back.get_forces(), forces, atol=1e-7)
        np.testing.assert_allclose(back.get_stress(), stress, atol=1e-7)
    with connect(tmp_path / "t.db") as database:
        database.write(atoms)
        assert database.get(1).calculator == "mlanet"
        assert database.get(1).energy == pytest.approx(energy)


def test_ase_gets_the_properties_that_it_knows() -> None:
    """`Atoms.get_properties` of every calculator here: what it has no name for stays in `results`."""
    crystals = [bulk("Si", a=a) for a in (5.4, 5.45)]
    alone, together = MLANetCalculator("elemental"), BatchedPotential(mlanet.load("elemental"))
    assert together(crystals) == [None, None]
    crystals.append(bulk("Si", a=5.43))
    crystals[-1].calc = alone
    for crystal in crystals:
        found = crystal.get_properties(["energy", "forces", "stress"])
        assert found["energy"] == crystal.get_potential_energy() and found["forces"].shape == (2, 3)
        assert "extrapolation" not in found and crystal.calc.results["extrapolation"] == "inside"


def test_the_package_is_light_until_it_is_used() -> None:
    """`import mlanet` does not import torch; the public names come on first use and nothing else does."""
    code = (
        "import sys, mlanet\n"
        "assert 'torch' not in sys.modules and 'ase' not in sys.modules and 'numpy' not in sys.modules\n"
        "assert mlanet.__version__ and set(mlanet.__all__) <= set(dir(mlanet))\n"
        "assert all(getattr(mlanet, name) is not None for name in mlanet.__all__)\n"
        "assert mlanet.MLANetCalculator.__module__ == 'mlanet.calculator'\n"
        "try:\n    mlanet.no_such_name\nexcept AttributeError as error:\n    assert 'no_such_name' in str(error)\n"
        "else:\n    raise SystemExit(1)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
