"""Many files and frames: bad ones cost nothing but themselves, formats are known beforehand, folders are inputs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.constraints import FixAtoms

from mlanet.data.write import frame_text
from mlanet.errors import GeometryError
from mlanet.potential import Potential

BAD = '2\nLattice="3.6 0 0 0 3.6 0 0 0 3.6" Properties=species:S:1:pos:R:3\nCu 0 0 0\n{}\n'


@pytest.fixture
def folder(labelled: Path, mlanet) -> Path:
    """Eleven good frames among every kind of bad ones, in seven files; one thing that is no structure."""
    place = Path("set")
    place.mkdir()
    frames = ase.io.read(labelled, ":")
    bad = [BAD.format(row) for row in ("Fe 1 1 1", "Cu 0 0 0.01", "Cu nan 0 0", "Cu 1 1")]
    mixed = "".join(text + wrong for text, wrong in zip([*map(frame_text, frames[:3]), ""], bad, strict=True))
    (place / "a.extxyz").write_text(mixed)
    (place / "b.extxyz").write_text("hello\n")
    (place / "c.extxyz").write_text("")
    ase.io.write(place / "d.extxyz", frames)
    ase.io.write(place / "e.cif", bulk("Cu", cubic=True))
    ase.io.write(place / "f.extxyz", frames[0])
    (place / "f.extxyz").write_text((place / "f.extxyz").read_text() + "4\ncut")
    (place / "g.cif").write_text("data_x\n")
    (place / "notes.txt").write_text("no structure")
    return place


LOST = ["a.extxyz, frame 1", "a.extxyz, frame 3", "a.extxyz, frame 5", "a.extxyz, frame 6", "b.extxyz", "c.extxyz"]
LOST += ["f.extxyz, frame 1", "g.cif"]


def require_lost(messages: list[str]) -> None:
    """Each bad one once, by name and in order but for those found while computing."""
    assert len(messages) == len(LOST)
    for place in LOST:
        assert sum(place in message for message in messages) == 1, place


def test_predict_keeps_going(mlanet, model, folder: Path) -> None:
    """All good frames are predicted and written; the others are listed at the end, and the status is 1."""
    words = ("predict", folder, "-m", model, "--keep-going", "-o", "out.extxyz", "--csv", "out.csv")
    outcome = mlanet(*words)
    assert outcome.status == 1
    head, listed = outcome.err.split("8 that could not be used:\n")
    require_lost(listed.splitlines())
    assert "skipped" in head and "notes.txt" in head and "wrote out.extxyz" in head
    written = ase.io.read("out.extxyz", ":")
    assert len(written) == 11 and not list(Path().glob("*.partial*"))
    wheres = [row["where"] for row in csv.DictReader(Path("out.csv").read_text().splitlines())]
    assert [where.split("/")[-1].split(",")[0] for where in wheres] == ["a.extxyz"] * 3 + ["d.extxyz"] * 6 + [
        "e.cif",
        "f.extxyz",
    ]
    document = json.loads(mlanet(*words[:5], "--json").out)
    require_lost(document["refused"])
    alone = mlanet("predict", folder / "d.extxyz", "-m", model, "--json").document["predictions"]
    together = [one for one in document["predictions"] if "d.extxyz" in one["where"]]
    assert [one["energy_eV"] for one in alone] == pytest.approx([one["energy_eV"] for one in together], abs=1e-5)


def test_without_it_the_first_error_ends_all_but_loses_nothing(mlanet, model, folder: Path) -> None:
    """What comes before the bad frame is kept, under a name that says that it is not all."""
    outcome = mlanet("predict", folder / "d.extxyz", folder, "-m", model, "-o", "out.extxyz")
    assert outcome.status == 2 and "a.extxyz, frame 1" in outcome.err and not Path("out.extxyz").exists()
    assert len(ase.io.read("out.partial.extxyz", ":")) == 7


def test_nothing_but_bad_ones(mlanet, model) -> None:
    """Status 1 and the list, and no empty file; the same for a folder of no use."""
    Path("bad.extxyz").write_text("hello\n")
    Path("empty").mkdir()
    for command in (("predict", "-o", "out.extxyz"), ("evaluate",), ("relax", "-o", "out.extxyz")):
        outcome = mlanet(command[0], "bad.extxyz", "empty", "-m", model, "--keep-going", *command[1:])
        assert outcome.status == 1 and "bad.extxyz" in outcome.err and "empty: no structure files" in outcome.err
        assert not list(Path().glob("out*"))


def test_a_structure_that_cannot_be_computed_is_found(mlanet, model, labelled, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that fails in the model fails alone, by name, although it was computed with others."""
    forward = Potential.forward

    def touchy(self: Potential, graph, *args, **kwargs):
        volumes = graph.cell.det().abs()
        if ((volumes > 51.5) & (volumes < 52.5)).any():
            raise GeometryError("no finite energy")
        return forward(self, graph, *args, **kwargs)

    volumes = [atoms.get_volume() for atoms in ase.io.read(labelled, ":")]
    wrong = [k for k, volume in enumerate(volumes) if 51.5 < volume < 52.5]
    assert len(wrong) == 1
    monkeypatch.setattr(Potential, "forward", touchy)
    outcome = mlanet("predict", labelled, "-m", model, "--kernels", "plain", "--keep-going", "--json")
    assert outcome.status == 1
    assert outcome.document["refused"] == [f"{labelled}, frame {wrong[0]}: no finite energy"]
    assert len(outcome.document["predictions"]) == 5
    outcome = mlanet("predict", labelled, "-m", model, "--kernels", "plain", "-o", "out.extxyz")
    assert outcome.status == 2 and f"frame {wrong[0]}: no finite energy" in outcome.err
    assert len(ase.io.read("out.partial.extxyz", ":")) == wrong[0]


def test_evaluate_keeps_going(mlanet, model, folder: Path) -> None:
    """Errors are those of the good frames; a label that is no number is a bad frame."""
    text = (folder / "d.extxyz").read_text()
    (folder / "h.extxyz").write_text(text.replace("energy=", "energy=1.5D0 e="))
    outcome = mlanet("evaluate", folder, "-m", model, "--keep-going", "--json")
    assert outcome.status == 1 and outcome.document["errors"]["frames"] == 11
    refused = outcome.document["refused"]
    assert sum("h.extxyz" in one and "1.5D0" in one for one in refused) == 6
    require_lost([one for one in refused if "h.extxyz" not in one])
    assert mlanet("evaluate", folder, "-m", model).status == 2


def test_convert_keeps_going(mlanet, folder: Path) -> None:
    """Frames that can be read: also an element that no model here knows."""
    outcome = mlanet("data", "convert", folder, "-o", "all.extxyz", "--keep-going", "--json")
    assert outcome.status == 1 and outcome.document["frames"] == 13 == len(ase.io.read("all.extxyz", ":"))
    assert len(outcome.document["refused"]) == 6
    assert mlanet("data", "convert", folder, "-o", "no.extxyz").status == 2 and len(
        ase.io.read("no.partial.extxyz", ":")
    )


def test_folders_are_inputs_everywhere(mlanet, model, labelled) -> None:
    """And none of the files in them is overwritten."""
    frames = ase.io.read(labelled, ":")
    Path("set").mkdir()
    for number, atoms in enumerate(frames):
        ase.io.write(f"set/{number}.extxyz", atoms)
    assert len(mlanet("predict", "set", "-m", model, "--json").document["predictions"]) == 6
    assert mlanet("evaluate", "set", "-m", model, "--json").document["errors"]["frames"] == 6
    assert mlanet("data", "check", "set", "--json").document["audit"]["frames"] == 6
    assert mlanet("data", "convert", "set", "-o", "all.traj", "--json").document["frames"] == 6
    assert mlanet("data", "split", "set", "-o", "parts", "--sizes", "4,2").status == 0
    for words in (("md", "set", "-m", model), ("exfoliate", "set", "-m", model)):
        assert "set: is a folder; name one file" in mlanet(*words).err  # never silently the first of them
    before = Path("set/3.extxyz").read_bytes()
    for words in (("predict", "set", "-m", model), ("data", "convert", "set")):
        outcome = mlanet(*words, "-o", "set/3.extxyz")
        assert outcome.status == 3 and "is an input" in outcome.err
    assert Path("set/3.extxyz").read_bytes() == before


RELAX = ("--fmax", 0.2, "--steps", 30)


@pytest.mark.parametrize("name", ["POSCAR", "CONTCAR_2", "my.vasp", "si.v2.cif", "OUTCAR_x.extxyz"])
def test_relaxed_structures_are_extxyz_with_everything(mlanet, model, name: str) -> None:
    """Whatever the input is called: energy, forces and stress, under a name that ASE reads without being told."""
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    kind = {"my.vasp": "vasp", "si.v2.cif": "cif", "OUTCAR_x.extxyz": "extxyz"}.get(name, "vasp")
    ase.io.write(name, atoms, format=kind)
    outcome = mlanet("relax", name, "-m", model, *RELAX, "--json")
    place = Path(outcome.document["file"])
    written = ase.io.read(place)
    assert written.get_potential_energy() == pytest.approx(outcome.document["energy_eV"])
    assert written.get_forces().shape == (4, 3) and written.get_stress().shape == (6,)
    assert place.name.endswith("_relaxed.extxyz") and place.name.lower().startswith(name.split(".")[0].lower())
    assert outcome.document["structure"] == name


@pytest.mark.parametrize("name", ["si.foo", "si", "OUTCAR", "a.json", "a.extxyz.gz"])
def test_names_that_stand_for_no_format_are_refused_before_the_work(
    mlanet, labelled, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the model is looked for."""
    monkeypatch.setattr("mlanet.calculator.MLANetCalculator.__init__", lambda *_, **__: pytest.fail("too late"))
    for command in ("relax", "predict"):
        outcome = mlanet(command, labelled, "-m", "elemental", "-o", name)
        assert outcome.status == 3 and name in outcome.err and ".extxyz" in outcome.err
    assert mlanet("data", "convert", labelled, "-o", name).status == 3


def test_other_formats_and_names_that_ase_mistakes(mlanet, model) -> None:
    """CIF and POSCAR are written as asked, with a word on what they lack; so is .extxyz under VASP's name."""
    ase.io.write("cu.extxyz", bulk("Cu", cubic=True))
    for name, kind in (("out.cif", "cif"), ("POSCAR", "vasp"), ("out.traj", "traj")):
        outcome = mlanet("relax", "cu.extxyz", "-m", model, *RELAX, "-o", name)
        assert ("holds no energy" in outcome.err) == (kind != "traj") and len(ase.io.read(name, format=kind)) == 4
    outcome = mlanet("relax", "cu.extxyz", "-m", model, *RELAX, "-o", "OUTCAR_cu.extxyz")
    assert "format='extxyz'" in outcome.err
    ase.io.read("OUTCAR_cu.extxyz", format="extxyz").get_forces()
    assert len(mlanet("predict", "OUTCAR_cu.extxyz", "-m", model, "--json").document["predictions"]) == 1


def test_relax_many(mlanet, model) -> None:
    """Files and frames into one file or one each; a bad one costs itself; a folder needs a name for the result."""
    frames = [bulk("Cu", a=a, cubic=True) for a in (3.5, 3.6, 3.7)]
    Path("set").mkdir()
    ase.io.write("set/a.extxyz", frames)
    ase.io.write("set/b.cif", frames[1])
    ase.io.write("set/c.extxyz", bulk("Fe"))
    words = ("-m", model, *RELAX, "--index", ":", "--keep-going", "--json")
    outcome = mlanet("relax", "set", *words, "-o", "out.extxyz")
    assert outcome.status == 1 and len(outcome.document["relaxed"]) == 4 == len(ase.io.read("out.extxyz", ":"))
    assert len(outcome.document["refused"]) == 1 and "c.extxyz, frame 0" in outcome.document["refused"][0]
    outcome = mlanet("relax", "set/a.extxyz", "set/b.cif", "-m", model, *RELAX)
    assert outcome.status == 0 and "wrote set/a_relaxed.extxyz" in outcome.err and "wrote set/b_relaxed" in outcome.err
    assert "--output" in mlanet("relax", "set", "-m", model).err
    ase.io.write("set/a.cif", frames[1])
    assert "two different results" in mlanet("relax", "set/a.extxyz", "set/a.cif", "-m", model).err
    outcome = mlanet("relax", "set/a.cif", "set/c.extxyz", "-m", model, *RELAX, "-o", "some.extxyz")
    assert outcome.status == 2 and "the structure finished before is in some.partial.extxyz" in outcome.err


def test_atoms_that_have_come_apart_are_named_and_not_converged(mlanet, model) -> None:
    """Without neighbours there are no forces: no minimum was found, the structure is gone."""
    apart = Atoms("CuAl", [[0, 0, 0], [0, 0, 6.0]], cell=[12.0] * 3, pbc=True)
    ase.io.write("apart.extxyz", apart)
    outcome = mlanet("relax", "apart.extxyz", "-m", model)
    assert outcome.status == 1 and "without a neighbour" in outcome.err and "atoms 0 (Cu), 1 (Al)" in outcome.err
    document = mlanet("relax", "apart.extxyz", "-m", model, "--json").document
    assert document["converged"] is False and document["lone_atoms"] == [0, 1]
    together = bulk("Cu", cubic=True)
    ase.io.write("together.extxyz", together)
    assert mlanet("relax", "together.extxyz", "-m", model, "--json").document["converged"] is True


def test_true_forces_in_every_answer(mlanet, model) -> None:
    """Predictions, tables and relaxed structures have the force on a fixed atom, and relax says which it means."""
    atoms = fcc111("Cu", (1, 1, 3), vacuum=5.0)
    atoms.info.clear()
    atoms.rattle(0.05, seed=3)
    ase.io.write("free.extxyz", atoms)
    atoms.set_constraint(FixAtoms([0, 1]))  # one alone would feel nothing once the others feel nothing
    ase.io.write("fixed.extxyz", atoms)
    free, fixed = (mlanet("predict", f"{n}.extxyz", "-m", model, "--json").document for n in ("free", "fixed"))
    assert np.abs(free["predictions"][0]["forces_eV_per_A"][0]).max() > 1e-3
    assert fixed["predictions"][0]["forces_eV_per_A"] == free["predictions"][0]["forces_eV_per_A"]
    outcome = mlanet("relax", "fixed.extxyz", "-m", model, "--fmax", 0.01, "--json")
    document = outcome.document
    assert document["max_force_eV_per_A"] <= 0.01 < document["max_force_held_eV_per_A"]
    stored = ase.io.read(document["file"])
    assert np.linalg.norm(stored.calc.results["forces"], axis=1).max() == pytest.approx(
        document["max_force_held_eV_per_A"], abs=1e-6
    )
    report = mlanet("evaluate", document["file"], "-m", model, "--json", "--dtype", "float64").document
    assert report["errors"]["quantities"]["forces"]["rmse"] < 1e-3


def test_relaxing_many_at_a_time_writes_what_one_by_one_does(mlanet, model) -> None:
    """The same files, numbers and exit status, with frames that cannot be used among them."""
    crystals = [
        bulk(symbol, cubic=symbol == "Cu", a=a) for symbol, a in (("Cu", 3.6), ("Al", 4.1), ("Fe", 2.9), ("Al", 4.0))
    ]
    crystals.insert(1, Atoms("Cu2", [[0, 0, 0], [0, 0, 0.05]], cell=[4, 4, 4], pbc=True))
    for seed, atoms in enumerate(crystals):
        atoms.rattle(0.02, seed=seed)
    ase.io.write("set.extxyz", crystals)
    words = ("set.extxyz", "-m", model, "--index", ":", "--cell", "full", "--steps", 4, "--keep-going", "--json", "-o")
    alone = mlanet("relax", *words, "alone.extxyz")
    batched = mlanet("relax", *words, "batched.extxyz", "--batched", "--max-edges", 300)
    assert alone.status == batched.status == 1
    numbers, others = alone.document["relaxed"], batched.document["relaxed"]
    assert alone.document["refused"] == batched.document["refused"] and len(numbers) == len(others) == 3
    for one, other in zip(numbers, others, strict=True):
        assert list(one) == list(other) and one["steps"] == other["steps"] and one["structure"] == other["structure"]
        assert one["energy_eV"] == pytest.approx(other["energy_eV"], abs=1e-9)
    first, second = (ase.io.read(name, ":") for name in ("alone.extxyz", "batched.extxyz"))
    for one, other in zip(first, second, strict=True):
        assert (
            np.allclose(one.positions, other.positions, atol=1e-7)
            and one.calc.results.keys() == other.calc.results.keys()
        )
    assert "--compile" in mlanet("relax", *words, "no.extxyz", "--batched", "--compile").err
    assert mlanet("relax", *words, "no.extxyz", "--max-memory", 1).status == 2


@pytest.mark.parametrize("seed", range(4))
def test_a_sheet_that_has_grown_out_of_its_own_reach_is_not_converged(mlanet, seed: int) -> None:
    """Two layers of one atom each end as pairs 5 Å apart, a little below the cutoff or above it."""
    slab = Atoms("Si2", [[0, 0, 8.0], [0, 0, 10.35]], cell=[3.84, 3.84, 18.35, 90, 90, 60], pbc=True)
    slab.rattle(0.02 * seed, seed=seed)
    ase.io.write("slab.extxyz", slab)
    outcome = mlanet("relax", "slab.extxyz", "-m", "elemental", "--cell", "full")
    assert outcome.status == 1 and "join it along 0 directions, 2 at the start" in outcome.err
    assert "more --steps" not in outcome.err
    held = mlanet("relax", "slab.extxyz", "-m", "elemental", "--cell", "full", "--hold", "ab", "--json")
    assert held.document["converged"] is True
