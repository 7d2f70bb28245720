"""Labels are found wherever they are, with the right sign, and absence is NaN."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from mlanet.data.atoms import LabelKeys, to_labels
from mlanet.data.labels import label_names
from mlanet.errors import DataError

VOIGT = np.array([0.01, 0.02, 0.03, 0.004, 0.005, 0.006])
FULL = np.array([[0.01, 0.006, 0.005], [0.006, 0.02, 0.004], [0.005, 0.004, 0.03]])


@pytest.fixture
def cell() -> Atoms:
    return bulk("Cu", cubic=True)


def test_nothing_is_nan(cell: Atoms) -> None:
    """A structure without labels has NaN everywhere, in the right shapes."""
    labels = to_labels(cell)
    assert labels.energy.shape == (1,) and labels.forces.shape == (4, 3) and labels.stress.shape == (1, 3, 3)
    assert not any(bool(x.isfinite().any()) for x in (labels.energy, labels.forces, labels.stress))


def test_order_of_search(cell: Atoms) -> None:
    """REF_* goes before the calculator's results, those before aliases; a user's key is the only place looked at."""
    cell.info["dft_energy"] = 1.0
    assert float(to_labels(cell).energy) == 1.0
    cell.calc = SinglePointCalculator(cell, energy=2.0, forces=np.full((4, 3), 2.0))
    assert float(to_labels(cell).energy) == 2.0
    cell.info["REF_energy"] = 3.0
    cell.arrays["ref_forces"] = np.full((4, 3), 3.0)
    assert float(to_labels(cell).energy) == 3.0
    assert float(to_labels(cell).forces[0, 0]) == 3.0
    assert float(to_labels(cell, LabelKeys(energy="energy", forces="forces")).energy) == 2.0
    assert np.isnan(float(to_labels(cell, LabelKeys(energy="nowhere")).energy))


@pytest.mark.parametrize("value", [VOIGT, FULL, FULL.ravel(), VOIGT.tolist()])
def test_shapes_of_stress(cell: Atoms, value: object) -> None:
    """6 numbers are ASE's Voigt order xx yy zz yz xz xy; 9 numbers or 3 × 3 are the tensor; tension stays positive."""
    cell.info["REF_stress"] = value
    np.testing.assert_allclose(to_labels(cell).stress[0], FULL, atol=1e-15)


@pytest.mark.parametrize("key", ["REF_virial", "REF_virials", "virial", "virials", "dft_virial"])
def test_virial_becomes_stress(cell: Atoms, key: str) -> None:
    """σ = −W / V: a virial in eV changes sign and is divided by the volume."""
    cell.info[key] = -FULL * cell.get_volume()
    np.testing.assert_allclose(to_labels(cell).stress[0], FULL, atol=1e-15)
    cell.info["my_virial"] = -2 * FULL * cell.get_volume()
    np.testing.assert_allclose(to_labels(cell, LabelKeys(stress="my_virial")).stress[0], 2 * FULL, atol=1e-15)


def test_no_stress_without_periodicity() -> None:
    """A molecule's stress, often written as zeros or for its box, is not a label."""
    atoms = molecule("H2O")
    atoms.calc = SinglePointCalculator(atoms, stress=np.zeros(6), energy=1.0)
    assert to_labels(atoms).stress.isnan().all()
    atoms.cell = [10, 10, 10]
    atoms.calc = SinglePointCalculator(atoms, stress=np.zeros(6))
    assert to_labels(atoms).stress.isnan().all()


def test_nan_is_not_labelled(cell: Atoms) -> None:
    """NaN means not labelled, also for single atoms; infinity is an error."""
    cell.info["REF_energy"] = np.nan
    forces = np.ones((4, 3))
    forces[2] = np.nan
    cell.arrays["REF_forces"] = forces
    labels = to_labels(cell)
    assert labels.energy.isnan().all() and labels.forces.isfinite().all(dim=1).tolist() == [True, True, False, True]
    cell.info["REF_energy"] = np.inf
    with pytest.raises(DataError, match="here: 'REF_energy' is infinite"):
        to_labels(cell, where="here")


@pytest.mark.parametrize("value", ["-1.5D0", "abc", True, {"a": 1}, [1.0, 2.0]])
def test_not_a_number(cell: Atoms, value: object) -> None:
    """A label that is no number is an error naming where, key and value; never a silent skip."""
    cell.info["REF_energy"] = value
    with pytest.raises(DataError, match="set, frame 3: 'REF_energy'"):
        to_labels(cell, where="set, frame 3")


def test_wrong_shapes(cell: Atoms) -> None:
    """Forces must be N × 3, stress 6 or 9 numbers."""
    cell.info["REF_stress"] = np.ones(5)
    with pytest.raises(DataError, match="5 numbers, expected 6 or 9"):
        to_labels(cell)
    with pytest.raises(DataError, match="1 numbers, expected 12"):
        cell.info["f"] = 1.0
        to_labels(cell, LabelKeys(forces="f"))


def test_constraints_do_not_touch_forces(cell: Atoms) -> None:
    """A fixed atom's true force is its label, not ASE's zero."""
    from ase.constraints import FixAtoms

    cell.set_constraint(FixAtoms([0]))
    cell.calc = SinglePointCalculator(cell, forces=np.ones((4, 3)))
    assert to_labels(cell).forces[0].tolist() == [1.0] * 3


def test_names_of_what_is_there(cell: Atoms) -> None:
    """The list in error messages names numbers, not text, and where they stand."""
    cell.info |= {"dft_total": 1.0, "name": "x"}
    cell.arrays["f_dft"] = np.zeros((4, 3))
    cell.calc = SinglePointCalculator(cell, energy=1.0)
    assert label_names(cell) == {"dft_total", "arrays:f_dft", "results:energy"}
