"""`mlanet predict`: what is printed, what is written, and that both are what the model says."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlanet.checkpoint import load_model
from mlanet.data.atoms import to_graph
from mlanet.units import EV_PER_CUBIC_ANGSTROM_IN_GPA


def test_json_is_what_the_model_says(mlanet, model, labelled) -> None:
    """Every number of the document equals a direct call of the potential; units are in the names."""
    rows = mlanet("predict", labelled, "-m", model, "--json").document["predictions"]
    potential = load_model(model)
    frames = ase.io.read(labelled, ":")
    assert len(rows) == len(frames)
    for row, atoms in zip(rows, frames, strict=True):
        direct = potential(to_graph(atoms, potential.cutoff))
        assert row["energy_eV"] == pytest.approx(float(direct.energy), abs=1e-5)
        assert row["energy_per_atom_eV"] == pytest.approx(row["energy_eV"] / len(atoms))
        np.testing.assert_allclose(row["forces_eV_per_A"], direct.forces.numpy(), atol=1e-5)
        trace = float(direct.stress[0].diagonal().sum())
        assert row["pressure_GPa"] == pytest.approx(-trace / 3 * EV_PER_CUBIC_ANGSTROM_IN_GPA, abs=1e-4)


def test_output_is_read_back_by_ase(mlanet, model, labelled) -> None:
    """The extxyz holds every structure in order with energy, forces and stress; the labels live on as REF_*."""
    outcome = mlanet("predict", labelled, "-m", model, "-o", "new/out.extxyz", "--csv", "new/out.csv")
    assert outcome.status == 0
    rows = mlanet("predict", labelled, "-m", model, "--json").document["predictions"]
    written, reference = ase.io.read("new/out.extxyz", ":"), ase.io.read(labelled, ":")
    for atoms, row, labels in zip(written, rows, reference, strict=True):
        assert atoms.get_potential_energy() == pytest.approx(row["energy_eV"], abs=1e-6)
        np.testing.assert_allclose(atoms.get_forces(), row["forces_eV_per_A"], atol=1e-6)
        np.testing.assert_allclose(atoms.get_stress() * EV_PER_CUBIC_ANGSTROM_IN_GPA, row["stress_GPa"], atol=1e-6)
        assert atoms.info["REF_energy"] == pytest.approx(labels.get_potential_energy())
        np.testing.assert_allclose(atoms.arrays["REF_forces"], labels.get_forces(), atol=1e-7)
    lines = list(csv.DictReader(Path("new/out.csv").read_text().splitlines()))
    assert [float(line["energy_eV"]) for line in lines] == pytest.approx([row["energy_eV"] for row in rows])
    assert sorted(path.name for path in Path("new").iterdir()) == ["out.csv", "out.extxyz"]


def test_batching_does_not_change_the_answer(mlanet, model, labelled) -> None:
    """One structure per batch and all in one batch agree to rounding, in the same order."""
    one = mlanet("predict", labelled, "-m", model, "--json", "--max-edges", 1, "--dtype", "float64").document
    all_ = mlanet("predict", labelled, "-m", model, "--json", "--dtype", "float64").document
    for left, right in zip(one["predictions"], all_["predictions"], strict=True):
        assert left["where"] == right["where"]
        assert left["energy_eV"] == pytest.approx(right["energy_eV"], abs=1e-10)


def test_stress_of_a_molecule_is_null(mlanet, model) -> None:
    """What has no meaning is null in JSON, empty in CSV and absent for ASE, never zero."""
    ase.io.write("molecule.xyz", Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.2]]))
    outcome = mlanet("predict", "molecule.xyz", "-m", model, "--json", "-o", "out.extxyz", "--csv", "out.csv")
    row = outcome.document["predictions"][0]
    assert row["stress_GPa"] is None and row["pressure_GPa"] is None
    assert next(csv.DictReader(Path("out.csv").read_text().splitlines()))["pressure_GPa"] == ""
    assert "stress" not in ase.io.read("out.extxyz").calc.results


def test_table_names_units_and_stays_short(mlanet, model) -> None:
    """Any number of frames prints a short table that says how many more there are."""
    ase.io.write("many.extxyz", [bulk("Cu", "fcc", a=3.6)] * 50)
    outcome = mlanet("predict", "many.extxyz", "-m", model)
    for unit in ("energy eV", "eV/atom", "eV/Å", "GPa"):
        assert unit in outcome.out
    assert "and 30 more" in outcome.out and outcome.out.count("many.extxyz, frame") == 40


def test_many_formats_in_one_call(mlanet, model) -> None:
    """CIF, POSCAR, extxyz, compressed extxyz, trajectory and ASE database go through the same door."""
    copper = bulk("Cu", "fcc", a=3.6, cubic=True)
    names = ["a.cif", "b.POSCAR", "c.extxyz", "d.extxyz.xz", "e.extxyz.gz", "f.traj", "g.db"]
    for name in names:
        ase.io.write(name, copper, **({"format": "vasp"} if name == "b.POSCAR" else {}))
    rows = mlanet("predict", *names, "-m", model, "--json", "--dtype", "float64").document["predictions"]
    assert len(rows) == len(names)
    energies = [row["energy_eV"] for row in rows]
    assert max(energies) - min(energies) < 1e-5


@pytest.mark.usefixtures("drawn")
def test_picture(mlanet, model, labelled) -> None:
    """`--picture` draws a PNG."""
    assert mlanet("predict", labelled, "-m", model, "--picture", "p.png").status == 0
    assert Path("p.png").read_bytes().startswith(b"\x89PNG")


def test_an_input_is_never_overwritten(mlanet, model, labelled) -> None:
    """Neither a structure file, nor the model, nor one result by another, also through a link."""
    shutil.copy(labelled, "in.extxyz")
    Path("link.extxyz").symlink_to("in.extxyz")
    before = Path("in.extxyz").read_bytes()
    for words in (["-o", "in.extxyz"], ["-o", "link.extxyz"], ["-o", "o.xyz", "--csv", "o.xyz"], ["--csv", model]):
        outcome = mlanet("predict", "in.extxyz", "-m", model, *words)
        assert outcome.status == 3 and "error:" in outcome.err
    assert Path("in.extxyz").read_bytes() == before


def test_direct_forces_are_announced(mlanet, make_model, labelled) -> None:
    """Whoever predicts with direct forces is told that they are not a gradient."""
    outcome = mlanet("predict", labelled, "-m", make_model(forces="direct"))
    assert outcome.status == 0 and "not the gradient" in outcome.err


@pytest.mark.usefixtures("crystals")
def test_stress_of_single_atoms_on_request(mlanet) -> None:
    """A column that sums to the stress; refused where it would go nowhere."""
    words = ("predict", "set.extxyz", "-m", "elemental", "--dtype", "float64", "--atomic-stress")
    assert mlanet(*words, "-o", "out.extxyz").status == 0
    for atoms in ase.io.read("out.extxyz", ":"):
        np.testing.assert_allclose(atoms.get_stresses().sum(axis=0), atoms.get_stress(), atol=1e-6)
    assert mlanet(*words).status == 2


@pytest.fixture
def crystals(mlanet) -> None:
    """Two of silicon."""
    ase.io.write("set.extxyz", [bulk("Si", a=5.3), bulk("Si", cubic=True, a=5.5)])
