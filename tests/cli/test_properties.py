"""`mlanet eos`, `elastic` and `phonon`: from files to a folder of results, which a second run goes on with."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule

MODEL = ("-m", "elemental")


@pytest.fixture
def crystals() -> list[str]:
    """Silicon, and molybdenum twice in one file."""
    ase.io.write("si.cif", bulk("Si", a=5.45))
    ase.io.write("mo.extxyz", [bulk("Mo", a=3.17), bulk("Mo", a=3.2)])
    return ["si.cif", "mo.extxyz"]


def test_equations_of_state_of_files(mlanet, crystals) -> None:
    """A table, a line and a picture for each; what stands there is what is printed."""
    given = mlanet("eos", *crystals, *MODEL, "--points", 5, "--index", ":", "--json")
    assert given.status == 0
    results = given.document["results"]
    assert [one["structure"] for one in results] == ["si.cif, frame 0", "mo.extxyz, frame 0", "mo.extxyz, frame 1"]
    assert results[1]["volume_A3_per_atom"] == pytest.approx(results[2]["volume_A3_per_atom"], rel=1e-4)
    assert 70 < results[0]["bulk_modulus_GPa"] < 110
    assert all(one["extrapolation"] == "inside" for one in results) and "warning" not in given.err
    with open("eos/results.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["bulk_modulus_GPa"]) for row in rows] == [one["bulk_modulus_GPa"] for one in results]
    assert {path.name for path in Path("eos").glob("*.png")} == {"si-0.png", "mo-0.png", "mo-1.png"}
    people = mlanet("eos", *crystals, *MODEL, "--points", 5, "--index", ":")
    assert people.status == 0 and "3 of 3 were in eos already" in people.err and "B₀ GPa" in people.out
    assert "wrote eos/results.csv, mo-0.png, mo-1.png, si-0.png\n" in people.err


def test_a_picture_can_be_left_out_and_drawn_later(mlanet, crystals) -> None:
    """What a killed run had not drawn yet is drawn by the next one; numbers are those that there were."""
    words = ("eos", "mo.extxyz", *MODEL, "--points", 5, "--index", ":", "--as-given")
    first = mlanet(*words, "--no-picture", "--json")
    assert first.status == 0 and not list(Path("eos").glob("*.png"))
    again = mlanet(*words, "--json")
    assert again.document == first.document and len(list(Path("eos").glob("*.png"))) == 2
    Path("eos/mo-1.png").unlink()
    third = mlanet(*words)
    assert "1 of 2 were in eos already" in third.err and Path("eos/mo-1.png").exists()
    assert "2 of 2 were in eos already" in mlanet(*words, "--no-picture").err


def test_a_second_run_goes_on_where_the_first_was_cut(mlanet, crystals) -> None:
    """A torn last line is computed again, the others are taken; other settings are refused."""
    whole = mlanet("elastic", "mo.extxyz", *MODEL, "--index", ":", "--json").document["results"]
    place = Path("elastic/results.jsonl")
    first, second = place.read_text().splitlines(keepends=True)
    changed = json.loads(first)
    changed["numbers"]["bulk_modulus_GPa"] = 1.5
    place.write_text(json.dumps(changed) + "\n" + second[:40])
    again = mlanet("elastic", "mo.extxyz", *MODEL, "--index", ":", "--json").document["results"]
    assert again[0]["bulk_modulus_GPa"] == 1.5
    assert again[1] == whole[1] and len(place.read_text().splitlines()) == 2
    other = mlanet("elastic", "mo.extxyz", *MODEL, "--strain", 0.01)
    assert other.status == 2 and "strain (was 0.005, now 0.01)" in other.err and "--output" in other.err
    assert mlanet("eos", "mo.extxyz", *MODEL, "-o", "elastic").status == 2


def test_what_cannot_be_used_costs_no_other(mlanet, crystals) -> None:
    """A broken file, a molecule, an element that the model does not know; named, with status 1."""
    Path("broken.cif").write_text("data_\nnothing")
    ase.io.write("dimer.extxyz", molecule("Si2H6")[:2])
    ase.io.write("au.extxyz", bulk("Au"))
    files = ["broken.cif", "dimer.extxyz", "au.extxyz", "si.cif"]
    given = mlanet("eos", *files, *MODEL, "--points", 5, "--as-given", "--keep-going", "--json")
    assert given.status == 1 and len(given.document["results"]) == 1
    assert len(given.document["refused"]) == 3
    for name, reason in (("broken", ""), ("dimer", "periodic"), ("au", "Au")):
        (message,) = (one for one in given.document["refused"] if name in one)
        assert reason in message
    ase.io.write("fcc.cif", bulk("Si", "fcc", a=3.0))
    strange = mlanet("eos", "fcc.cif", *MODEL, "--points", 5, "--as-given", "--keep-going", "-o", "strange")
    assert "fcc.cif" in strange.err and "outside of the training set" in strange.err
    alone = mlanet("eos", "dimer.extxyz", *MODEL, "-o", "other")
    assert alone.status == 2 and "dimer.extxyz, frame 0" in alone.err


def test_phonons_of_a_file(mlanet, crystals) -> None:
    """Picture, thermal properties, and a YAML that phonopy reads to the same frequencies."""
    import phonopy

    given = mlanet("phonon", "mo.extxyz", *MODEL, "--supercell", "2,2,2", "--json")
    assert given.status == 0
    (found,) = given.document["results"]
    assert found["supercell"] == [2, 2, 2] and found["highest_THz"] > 4
    assert {"mo-1.png", "mo-1_phonopy.yaml", "mo-1_thermal.csv"} <= {path.name for path in Path("phonon").iterdir()}
    again = phonopy.load("phonon/mo-1_phonopy.yaml", log_level=0)
    again.run_mesh(50.0)
    assert again.mesh.frequencies.max() == pytest.approx(found["highest_THz"], rel=1e-6)
    with open("phonon/mo-1_thermal.csv") as file:
        capacity = [float(row["heat_capacity_kB_per_atom"]) for row in csv.DictReader(file)]
    assert np.all(np.diff(capacity) >= -1e-9) and capacity[-1] < 3.01
    bad = mlanet("phonon", "mo.extxyz", *MODEL, "--supercell", "2,2")
    assert bad.status == 2 and "3,3,3" in bad.err


def test_a_folder_belongs_to_whoever_has_results_in_it(mlanet, crystals) -> None:
    """A run that could use nothing leaves the folder to one with other settings; results keep it."""
    Path("empty.cif").touch()
    words = ("eos", "--points", 5, "--output", "out")
    assert mlanet(*words, "empty.cif").status == 2
    assert mlanet(*words, "si.cif", "--dtype", "float32").status == 0
    refused = mlanet(*words, "si.cif")
    assert refused.status == 2 and "holds results of other settings" in refused.err


def test_phonons_without_phonopy_leave_nothing(mlanet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused with what to install, before a folder is made."""
    monkeypatch.setitem(sys.modules, "phonopy", None)
    ase.io.write("si.cif", bulk("Si"))
    outcome = mlanet("phonon", "si.cif")
    assert outcome.status == 2 and "mlanet[phonons]" in outcome.err
    assert not Path("phonon").exists()
