"""Structures become graphs that mean the same, or typed errors that say what, where and which atom."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.stress import full_3x3_to_voigt_6_stress

from mlanet.data.atoms import LabelKeys, as_atoms, as_pymatgen, to_graph, to_labels, with_prediction
from mlanet.errors import DataError, GeometryError, UnsupportedElementError
from mlanet.graph import Prediction


def test_graph_holds_the_structure() -> None:
    """Positions, numbers, cell, pbc and charge arrive in float64, unwrapped; edge vectors are the true ones."""
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.positions += 7.0
    atoms.info["total_charge"] = -2
    graph = to_graph(atoms, 4.0)
    assert graph.positions.dtype == graph.cell.dtype == graph.charge.dtype == torch.float64
    np.testing.assert_array_equal(graph.positions, atoms.positions)
    np.testing.assert_array_equal(graph.cell[0], atoms.cell.array)
    assert graph.pbc.tolist() == [[True] * 3] and graph.charge.tolist() == [-2.0]
    assert graph.edge_vectors().norm(dim=1).max() < 4.0
    assert sorted(set(graph.edge_vectors().norm(dim=1).numpy().round(6))) == [2.8, 3.959798]


def test_charge_by_argument_key_and_default() -> None:
    """The argument wins over the user's key, that over total_charge, that over charge; else zero."""
    atoms = Atoms("H")
    assert float(to_graph(atoms, 3.0).charge) == 0.0
    atoms.info |= {"charge": 1, "total_charge": 2, "q": 3}
    assert float(to_graph(atoms, 3.0).charge) == 2.0
    assert float(to_graph(atoms, 3.0, keys=LabelKeys(charge="q")).charge) == 3.0
    assert float(to_graph(atoms, 3.0, charge=-1).charge) == -1.0
    atoms.info["total_charge"] = "two"
    with pytest.raises(DataError, match="total_charge"):
        to_graph(atoms, 3.0)


def test_atomic_charges_by_key() -> None:
    """Per-atom charges are taken from the named array, and absent where none are given."""
    atoms = molecule("H2O")
    assert to_graph(atoms, 3.0).atomic_charges is None
    atoms.arrays["ref_charges"] = np.array([-0.8, 0.4, 0.4])
    graph = to_graph(atoms, 3.0, keys=LabelKeys(atomic_charges="ref_charges"))
    assert graph.atomic_charges is not None and graph.atomic_charges.tolist() == [-0.8, 0.4, 0.4]


def broken(**changes: object) -> Atoms:
    atoms = bulk("Si", cubic=True)
    for name, value in changes.items():
        setattr(atoms, name, value)
    return atoms


def with_bad_position(value: float) -> Atoms:
    atoms = bulk("Si", cubic=True)
    atoms.positions[5, 1] = value
    return atoms


BROKEN = {
    "no atoms": (Atoms(), GeometryError, "no atoms"),
    "NaN": (with_bad_position(np.nan), GeometryError, r"atom 5 \(Si\).*not finite"),
    "infinity": (with_bad_position(-np.inf), GeometryError, "atom 5"),
    "zero cell with pbc": (Atoms("H", pbc=True), GeometryError, "periodic along abc.*zero"),
    "zero vector": (Atoms("H", cell=[5, 5, 0], pbc=True), GeometryError, "linearly dependent"),
    "dependent vectors": (
        Atoms("H", cell=[[5, 0, 0], [0, 5, 0], [5, 5, 0]], pbc=True),
        GeometryError,
        "linearly dependent",
    ),
    "dependent vectors of a slab": (
        Atoms("H", cell=[[5, 0, 0], [-5, 0, 0], [0, 0, 9]], pbc=[1, 1, 0]),
        GeometryError,
        "periodic along ab",
    ),
    "NaN cell": (broken(cell=np.full((3, 3), np.nan)), GeometryError, "cell"),
    "tiny cell": (Atoms("H", cell=[0.05] * 3, pbc=True), GeometryError, "so small"),
    "tiny needle": (Atoms("H", cell=[0.01, 9, 9], pbc=True), GeometryError, r"0 and 0 \(image.*overlap"),
    "dummy atom": (Atoms("HX", positions=[[0, 0, 0], [0, 0, 1]]), UnsupportedElementError, "atom 1.*number 0"),
    "no such element": (
        Atoms(numbers=[1, 119], positions=[[0, 0, 0], [0, 0, 1]]),
        UnsupportedElementError,
        "atom 1.*119",
    ),
    "overlap": (
        Atoms("OHH", positions=[[0, 0, 0], [0, 0, 1], [0, 0, 1.05]]),
        GeometryError,
        "atoms 1 and 2 overlap: 5.00e-02",
    ),
    "same place": (Atoms("H2", positions=np.zeros((2, 3))), GeometryError, "atoms 0 and 1 overlap"),
    "overlap through the boundary": (
        Atoms("H2", positions=[[0, 0, 0.01], [0, 0, 4.99]], cell=[5] * 3, pbc=True),
        GeometryError,
        r"atoms 0 and 1 \(image \[0, 0, -1\]\) overlap",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_meaningless_structures_are_typed_errors(name: str) -> None:
    """Whatever has no energy is refused, naming where, the atom and what is wrong; never NaN, never a crash."""
    atoms, error, message = BROKEN[name]
    with pytest.raises(error, match=message) as caught:
        to_graph(atoms, 5.0, where="set.xyz, frame 7")
    assert str(caught.value).startswith("set.xyz, frame 7")


def test_not_a_structure() -> None:
    """Something else is refused by its type's name."""
    with pytest.raises(DataError, match=r"builtins\.str"):
        to_graph("Si.cif", 5.0)  # type: ignore[arg-type]


def test_structure_without_volume_is_fine_where_not_periodic() -> None:
    """A molecule has no cell, a slab may have no third vector; both give graphs."""
    assert to_graph(molecule("H2O"), 3.0).n_edges == 6
    slab = Atoms("C2", positions=[[0, 0, 0], [0, 1.42, 0]], cell=[[2.46, 0, 0], [0, 4.26, 0], [0, 0, 0]], pbc=[1, 1, 0])
    assert to_graph(slab, 3.0).n_edges > 0


def test_input_is_left_alone() -> None:
    """Conversion never changes the user's structure, its cell least of all."""
    atoms = bulk("Cu") * (2, 1, 1)
    atoms.positions -= 100
    before = atoms.copy()
    to_graph(atoms, 5.0)
    to_labels(atoms)
    assert atoms == before and atoms.calc is None


def test_pymatgen_and_back() -> None:
    """A crystal, a slab and a molecule survive ASE -> pymatgen -> ASE, and give the same graph from either."""
    crystal = bulk("NaCl", "rocksalt", a=5.6)
    slab = bulk("Cu", cubic=True)
    slab.pbc = [True, True, False]
    for atoms in (crystal, slab, molecule("CH3OH")):
        back = as_atoms(as_pymatgen(atoms))
        np.testing.assert_allclose(back.positions, atoms.positions, atol=1e-12)
        assert back.pbc.tolist() == atoms.pbc.tolist() and back.numbers.tolist() == atoms.numbers.tolist()
        one, two = to_graph(atoms, 4.0), to_graph(as_pymatgen(atoms), 4.0)
        assert one.n_edges == two.n_edges
        torch.testing.assert_close(one.cell, two.cell)


def test_pymatgen_gets_what_was_computed() -> None:
    """Energy, forces (of held atoms too) and stress as dictionaries keep them; moments stay; stale ones do not."""
    from pymatgen.core import Structure

    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=0)
    atoms.set_initial_magnetic_moments([1.0, -1.0, 0.5, 0.0])
    assert not as_pymatgen(atoms).properties
    atoms.calc = EMT()
    assert "energy" not in as_pymatgen(atoms).properties
    atoms.set_constraint(FixAtoms([0]))
    atoms.get_stress()
    again = Structure.from_dict(as_pymatgen(atoms).as_dict())
    assert again.properties["energy"] == pytest.approx(atoms.get_potential_energy())
    np.testing.assert_allclose(again.site_properties["forces"], atoms.get_forces(apply_constraint=False), atol=1e-12)
    np.testing.assert_allclose(again.properties["stress"], atoms.get_stress(voigt=False), atol=1e-12)
    assert again.site_properties["magmom"] == [1.0, -1.0, 0.5, 0.0]
    atoms.positions[0, 0] += 0.1
    assert "forces" not in as_pymatgen(atoms).site_properties
    water = molecule("H2O")
    water.calc = EMT()
    water.get_forces()
    alone = as_pymatgen(water)
    assert "stress" not in alone.properties and np.shape(alone.site_properties["forces"]) == (3, 3)


def test_pymatgen_charge_and_disorder() -> None:
    """A charged molecule keeps its charge, oxidation states are no charges, a disordered crystal is refused."""
    from pymatgen.core import Lattice, Molecule, Structure

    ion = Molecule(["O", "H"], [[0, 0, 0], [0, 0, 0.97]], charge=-1)
    assert float(to_graph(ion, 3.0).charge) == -1.0
    salt = Structure(Lattice.cubic(4.1), ["Na+", "Cl-"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert to_graph(salt, 4.0).numbers.tolist() == [11, 17] and float(to_graph(salt, 4.0).charge) == 0.0
    mixed = Structure(Lattice.cubic(4.1), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]])
    with pytest.raises(DataError, match="disordered"):
        to_graph(mixed, 4.0)


def test_prediction_becomes_ase_results() -> None:
    """energy = free_energy, energies, forces and Voigt stress stand in a copy; the original keeps its own."""
    atoms = bulk("Cu", cubic=True)
    generator = torch.Generator().manual_seed(0)
    stress = torch.rand(1, 3, 3, generator=generator, dtype=torch.float64)
    stress = stress + stress.transpose(1, 2)
    forces = torch.rand(4, 3, generator=generator, dtype=torch.float64)
    prediction = Prediction(torch.tensor([-3.0]).double(), forces, stress, torch.full((4,), -0.75))
    copy = with_prediction(atoms, prediction)
    assert atoms.calc is None
    assert copy.get_potential_energy() == copy.calc.results["free_energy"] == -3.0
    np.testing.assert_array_equal(copy.get_forces(), forces)
    np.testing.assert_array_equal(copy.get_stress(), full_3x3_to_voigt_6_stress(stress[0].numpy()))
    np.testing.assert_array_equal(copy.calc.results["energies"], [-0.75] * 4)
    nothing = Prediction(prediction.energy, forces, stress * torch.nan, prediction.atomic_energies)
    assert "stress" not in with_prediction(atoms, nothing).calc.results
    with pytest.raises(ValueError, match="does not belong"):
        with_prediction(bulk("Cu"), prediction)


def test_prediction_round_trips_through_labels() -> None:
    """What `with_prediction` writes, `to_labels` reads: the Voigt order is the same both ways."""
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.calc = EMT()
    atoms.get_stress()
    labels = to_labels(atoms)
    again = to_labels(with_prediction(atoms, Prediction(labels.energy, labels.forces, labels.stress, torch.zeros(4))))
    torch.testing.assert_close(again.stress, labels.stress, rtol=0, atol=0)
    assert float(labels.stress[0, 0, 2]) == atoms.calc.results["stress"][4]


def test_results_of_another_geometry_are_refused() -> None:
    """Labels must belong to the structure they are read with."""
    atoms = bulk("Cu", cubic=True)
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    atoms.positions[0] += 0.1
    with pytest.raises(DataError, match="another geometry"):
        to_labels(atoms)
