from __future__ import annotations

import itertools
import os
import queue
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write
from numpy.testing import assert_allclose

from mlanet.cli.main import main
from mlanet.config import parse
from mlanet.data.read import read_frames
from mlanet.data.write import frame_text
from mlanet.distill.config import DistillConfig, Recipe, TeacherConfig
from mlanet.distill.judge import Judgement
from mlanet.distill.label import Labeller, Source, Weights, contradicts, rejected
from mlanet.distill.rounds import distill, weights_of
from mlanet.distill.seeds import Seed, distinct, read_seeds, reduced_formula, share_of
from mlanet.distill.store import LabelStore
from mlanet.distill.structures import apart, atomic_volumes, draw
from mlanet.distill.teacher import Teacher, TeacherError
from mlanet.errors import ConfigError, DataError

CU, AU = 29, 79


@pytest.fixture
def crystals(tmp_path: Path) -> Path:
    frames = [
        bulk("Cu", "fcc", 3.6, cubic=True),
        bulk("Au", "fcc", 4.1, cubic=True),
        bulk("Ag", "fcc", 4.1, cubic=True),
    ]
    frames += [bulk("Pd", "fcc", 3.9, cubic=True)]
    frames += [bulk("CuPd", "cesiumchloride", 3.05), bulk("AuPd", "cesiumchloride", 3.2)]
    frames += [bulk("CuAu", "cesiumchloride", 3.1), bulk("PdAg", "cesiumchloride", 3.2), bulk("Pt", "fcc", 3.95)]
    write(tmp_path / "crystals.extxyz", frames)
    return tmp_path / "crystals.extxyz"


def configured(crystals: Path, **changes: object) -> DistillConfig:
    keys = {
        "folder": str(crystals.parent / "run"),
        "teacher": {"name": "emt"},
        "seeds": {"crystals": {"files": [str(crystals)]}},
        "recipes": {
            "near": {"share": 3, "volume": [0.95, 1.05], "strain": [0, 0.03], "rattle": [0, 0.1]},
            "alloys": {"share": 1, "substitute": True, "supercell": True, "vacancies": 1, "rattle": [0.05, 0.2]},
        },
        "labels": {"count": 24},
        "valid_share": 0.6,
        "student": {
            "model": {"model": "mlanet", "irreps": "8x0e+8x1o", "layers": 1, "heads": 2, "hidden": 8, "cutoff": 4.0},
            "budget": {"steps": 3},
        },
    }
    return parse(keys | changes, DistillConfig, "test")


def test_a_distillation_of_two_rounds_goes_on_where_it_stopped(crystals: Path, tmp_path: Path) -> None:
    """Labels are the teacher's; the second round explores with the student; a repeated call does nothing again."""
    recipes = {"near": {"share": 1, "rattle": [0, 0.1], "explore": 5, "temperature": 300}}
    reference = [atoms for atoms, _ in read_frames(crystals)][6]
    reference.calc = EMT()
    reference.get_potential_energy()
    write(tmp_path / "dft.extxyz", reference)
    config = configured(crystals, rounds=2, recipes=recipes, test=[str(tmp_path / "dft.extxyz")], labels={"count": 12})
    result = distill(config, lambda text: None)
    assert result is not None
    assert result.labels == 24
    assert set(result.errors) == {"teacher", "dft"}
    assert "by element" in result.page.read_text()
    for turn in range(2):
        frames = read(tmp_path / "run" / f"round-{turn}" / "labels.extxyz", ":")
        for frame in frames[:3]:
            assert reduced_formula(frame) != "AuCu", "the formula of the reference data is held out"
            copy = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc, calculator=EMT())
            assert_allclose(frame.get_forces(), copy.get_forces(), atol=1e-6)
            assert_allclose(frame.get_stress(), copy.get_stress(), atol=1e-6)
            assert_allclose(frame.arrays["atomic_energies"], copy.get_potential_energies(), atol=1e-6)
            assert frame.info["round"] == turn
            assert frame.info["teacher"] == "emt"
    train, valid = (read(tmp_path / "run" / "round-1" / f"{name}.extxyz", ":") for name in ("train", "valid"))
    assert len(train) + len(valid) == 24
    assert not {reduced_formula(one) for one in train} & {reduced_formula(one) for one in valid}
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.safetensors")}
    again = distill(config, lambda text: None)
    assert again == result
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_a_share_of_the_compositions_of_data_is_for_the_test(crystals: Path, tmp_path: Path) -> None:
    """Set apart by formula, the same from any file; neither labelled nor trained on, and judged by."""
    frames = [atoms for atoms, _ in read_frames(crystals)]
    for atoms in frames:
        atoms.calc = EMT()
        atoms.get_stress()
    write(tmp_path / "dft.extxyz", frames)
    config = configured(crystals, data=[str(tmp_path / "dft.extxyz")], test_share=0.1, labels={"count": 8})
    result = distill(config, lambda text: None)
    assert result is not None
    assert set(result.errors) == {"teacher", "test"}
    aside = {reduced_formula(atoms) for atoms in read(tmp_path / "run" / "test.extxyz", ":")}
    assert aside == {name for name in map(reduced_formula, frames) if share_of(f"test {name}") < 0.1}
    used = [read(tmp_path / "run" / "round-0" / f"{name}.extxyz", ":") for name in ("labels", "train", "valid")]
    assert not aside & {reduced_formula(atoms) for part in used for atoms in part}
    with pytest.raises(DataError, match=r"test_share 0\.0001: 0 of \d+ frames"):
        distill(msgspec.structs.replace(config, folder=str(tmp_path / "none"), test_share=1e-4), lambda text: None)


def test_structures_do_not_depend_on_when_the_labelling_was_stopped(crystals: Path, tmp_path: Path) -> None:
    config = configured(crystals)
    with Teacher(config.teacher, tmp_path / "logs") as teacher:
        for folder, counts in (("whole", [9]), ("parts", [4, 9])):
            for count in counts:
                source = Source(config, teacher.elements)
                assert (
                    Labeller(config.labels, source, teacher, tmp_path / folder, say=lambda text: None).run(count)
                    == count
                )
    whole, parts = (read(tmp_path / folder / "labels.extxyz", ":") for folder in ("whole", "parts"))
    for one, other in zip(whole, parts, strict=True):
        assert one.info["number"] == other.info["number"]
        assert_allclose(one.positions, other.positions, atol=0)


def test_answers_belong_to_their_structures_after_an_early_stop() -> None:
    """A worker that is still at a structure of the first call does not answer the second call with it."""

    class Slow:
        def __init__(self) -> None:
            self.pipe: queue.Queue[int] = queue.Queue()
            self.turns = itertools.count()

        def send(self, atoms: Atoms) -> None:
            self.pipe.put(len(atoms))

        def receive(self) -> dict[str, int]:
            time.sleep((0.1, 0.02)[next(self.turns) % 4 == 3])
            return {"atoms": self.pipe.get()}

    teacher = object.__new__(Teacher)
    teacher._workers = [Slow(), Slow()]  # type: ignore[list-item]
    for first in (1, 11, 21):
        answers = teacher.label((n, Atoms("H" * n)) for n in range(first, first + 10))
        found = list(itertools.islice(answers, 3))
        answers.close()  # type: ignore[attr-defined]
        assert all(tag == len(atoms) == answer["atoms"] for tag, atoms, answer in found)
        assert {tag for tag, *_ in found} <= set(range(first, first + 10))


def test_a_frame_torn_by_a_kill_is_cut_off_and_labelled_again(tmp_path: Path) -> None:
    atoms = bulk("Cu")
    atoms.calc = EMT()
    atoms.get_potential_energy()
    texts = []
    for number in range(3):
        atoms.info["number"] = number
        texts.append(frame_text(atoms))
    whole = "".join(texts).encode()
    first_two = len("".join(texts[:2]).encode())
    for length in range(first_two, len(whole), 41):
        (tmp_path / "labels.extxyz").write_bytes(whole[:length])
        (tmp_path / "left_out.jsonl").write_bytes(b'{"number": 7, "reason": "x"}\n{"numb')
        store = LabelStore(tmp_path)
        assert store.numbers() == {0, 1, 7}
        store.close()


def test_two_processes_give_the_labels_of_one(crystals: Path, tmp_path: Path) -> None:
    structures = [(number, atoms) for number, (atoms, _) in enumerate(read_frames(crystals))]
    found = []
    for workers in (1, 2):
        with Teacher(TeacherConfig(name="emt", workers=workers), tmp_path) as teacher:
            found.append({number: answer["energy"] for number, _, answer in teacher.label(structures)})
    assert found[0] == found[1]
    assert len(found[0]) == len(structures)


def test_a_teacher_in_another_folder_and_one_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("from ase.calculators.lj import LennardJones\ndef lj(): return LennardJones()\n")
    monkeypatch.chdir(tmp_path)
    with Teacher(TeacherConfig(name="mine:lj"), tmp_path) as teacher:
        answer = next(teacher.label([(0, Atoms("Ar2", [[0, 0, 0], [0, 0, 1.2]]))]))[2]
    assert answer["stress"] is None
    assert answer["forces"][0][2] == -answer["forces"][1][2] != 0
    with pytest.raises(TeacherError, match="nothing_such"):
        Teacher(TeacherConfig(name="nothing_such:f"), tmp_path)
    with pytest.raises(TeacherError, match="cannot be run"):
        Teacher(TeacherConfig(name="emt", python=str(tmp_path / "python")), tmp_path)


@pytest.mark.usefixtures("forks")
def test_what_a_second_teacher_contradicts_is_left_out(crystals: Path, tmp_path: Path) -> None:
    """EMT against Lennard-Jones: no forces agree, so nothing is kept; against itself, everything is."""
    recipes = {"hot": {"share": 1, "supercell": True, "rattle": [0.2, 0.2]}}
    config = configured(crystals, recipes=recipes, labels={"count": 3, "veto_forces": 0.2})
    for veto, kept in (("emt", 3), ("ase.calculators.lj:LennardJones", 0)):
        with Teacher(config.teacher, tmp_path) as teacher, Teacher(TeacherConfig(name=veto), tmp_path / "2") as second:
            labeller = Labeller(config.labels, Source(config, teacher.elements), teacher, tmp_path / veto, second)
            reasons = [answer.get("error") for (_, _, answer), _ in zip(labeller._answers(), range(3), strict=False)]
            labeller.store.close()
        assert sum(reason is None for reason in reasons) == kept, reasons
    same = {"energy": 0.0, "forces": [[1.0, 0, 0]], "stress": None}
    assert contradicts(same, {**same, "forces": [[1.1, 0, 0]]}, config.labels) is None
    assert "differ" in str(contradicts(same, {**same, "forces": [[3.0, 0, 0]]}, config.labels))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"error": "ValueError: no"}, "ValueError"),
        ({"energy": float("nan"), "forces": [[0, 0, 0]], "stress": None}, "finite"),
        ({"energy": 0.0, "forces": [[0, 31.0, 0]], "stress": None}, "force"),
        ({"energy": 0.0, "forces": [[0, 0, 0]], "stress": [0, 0, -2.0, 0, 0, 0]}, "stress"),
    ],
)
def test_labels_that_are_not_kept(crystals: Path, answer: dict[str, object], reason: str) -> None:
    assert reason in str(rejected(answer, configured(crystals).labels))


def test_every_recipe_keeps_atoms_apart_and_elements_known(crystals: Path) -> None:
    rng = np.random.default_rng(0)
    seeds = distinct(read_seeds(str(crystals), max_atoms=10))
    volumes = atomic_volumes(seeds)
    known = [13, 28, CU, 46, 47, 78, AU]
    for recipe in (
        Recipe(share=1, rattle=(0.0, 0.5), volume=(0.8, 1.3)),
        Recipe(share=1, substitute=True, shuffle=True, supercell=True, vacancies=2),
        Recipe(share=1, slab=True, strain=(0, 0.05)),
        Recipe(share=1, dimer=True),
    ):
        for seed in seeds:
            atoms = draw(recipe, seed, known, volumes, rng)
            if atoms is not None:
                assert set(atoms.numbers) <= set(known)
                assert len(atoms) <= recipe.max_atoms
                assert apart(atoms)
    slab = draw(Recipe(share=1, slab=True), seeds[0], known, volumes, rng)
    assert slab is not None
    heights = np.sort(slab.get_scaled_positions()[:, 2]) * slab.cell.lengths()[2]
    assert max(np.diff([*heights, heights[0] + slab.cell.lengths()[2]])) > 10


def test_atomic_volumes_reproduce_additive_crystals() -> None:
    rng = np.random.default_rng(0)
    truth = {CU: 12.0, AU: 17.0, 8: 9.0}
    seeds = []
    for _ in range(6):
        numbers = rng.choice(list(truth), size=4)
        edge = sum(truth[int(z)] for z in numbers) ** (1 / 3)
        seeds.append(Seed(Atoms(numbers, rng.random((4, 3)), cell=[edge] * 3, pbc=True), ""))
    assert atomic_volumes(seeds) == pytest.approx(truth)


def test_the_next_round_draws_where_the_student_is_wrong(crystals: Path) -> None:
    rows = [
        {"set": "teacher", "recipe": "near", "forces": 0.1, "elements": {"Cu": [0.3, 3]}},
        {"set": "teacher", "recipe": "alloys", "forces": 0.3, "elements": {"Au": [0.9, 3]}},
    ]
    weights = weights_of(Judgement(rows))
    assert weights.elements[AU] == pytest.approx(1.5)
    assert weights.recipes == pytest.approx({"near": 0.5, "alloys": 1.5})
    config = configured(crystals)
    plain, led = Source(config, None), Source(config, None, 1, weights)
    assert led.shares[1] > plain.shares[1]
    gold = next(k for k, seed in enumerate(plain.groups["crystals"]) if set(seed.atoms.numbers) == {AU})
    assert led.chances["crystals"][gold] > plain.chances["crystals"][gold]
    assert Weights().of(plain.groups["crystals"][gold]) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipes": {"near": {"share": 1, "seeds": ["oxides"]}}}, "oxides"),
        ({"leave": ["far"]}, "far"),
        ({"student": {"start_from": "x"}}, "start_from"),
        ({"recipes": {"near": {"share": 1, "volume": [1.1, 0.9]}}}, "volume"),
    ],
)
def test_mistakes_are_found_before_anything_is_labelled(
    crystals: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        distill(configured(crystals, **changes), lambda text: None)
    assert not (crystals.parent / "run").exists()


def test_recipes_that_give_nothing_end_with_an_error(
    crystals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlanet.distill.label.MOST_FRUITLESS", 100)  # of nine crystals, all come up
    config = configured(crystals, recipes={"same": {"share": 1}}, labels={"count": 100})
    with Teacher(config.teacher, tmp_path) as teacher:
        for count in (4, 100):  # what was labelled before a stop is not labelled again after it
            labeller = Labeller(config.labels, Source(config, teacher.elements), teacher, tmp_path / "labels")
            if count == 4:
                assert labeller.run(count) == 4
                continue
            with pytest.raises(DataError, match="in a row"):
                labeller.run(count)
    assert len(read(tmp_path / "labels" / "labels.extxyz", ":")) == 9, "each crystal once"


@pytest.mark.usefixtures("forks")
def test_the_command_labels_is_killed_and_goes_on(crystals: Path, tmp_path: Path) -> None:
    from mlanet.config import to_yaml

    place = tmp_path / "distill.yaml"
    place.write_text(to_yaml(configured(crystals, labels={"count": 100_000})))
    command = [sys.executable, "-m", "mlanet", "distill", str(place), "--only-label"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ)
    labels = tmp_path / "run" / "round-0" / "labels.extxyz"
    while process.poll() is None and not (labels.exists() and labels.stat().st_size > 20_000):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    have = len(list(read_frames(labels))) if labels.read_text().endswith("\n") else None
    assert main(["distill", str(place), "labels.count=30", "--only-label"]) == 0
    assert len(list(read_frames(labels))) >= max(30, have or 0)
