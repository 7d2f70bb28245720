"""`--resume` of `mlanet relax`, `predict` and `evaluate`: whatever stopped a run, the next ends as if nothing had."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from forked import Forked

from mlanet.cli.main import main
from mlanet.workflows import predict as predicting
from mlanet.workflows import relax_files, shares

RELAX = ("relax", "set.extxyz", "--index", ":", "--fmax", "0.2", "--steps", "30", "--method", "lbfgs")
PREDICT = ("predict", "set.extxyz", "--csv", "out.csv", "--max-edges", "1")
EVALUATE = ("evaluate", "set.extxyz", "--csv", "out.csv", "--max-edges", "1", "--plots", "plots")
FILES = {"relax": ["out.extxyz"], "predict": ["out.extxyz", "out.csv"], "evaluate": ["out.csv"]}
COMMANDS = [RELAX, PREDICT, EVALUATE, (*RELAX, "--batched")]
WRITERS = ((relax_files, "frame_text"), (predicting, "frame_text"), (shares, "share_of"))
"""What is called once for each structure that is computed and written."""


class Stopped(BaseException):
    """Whatever ends a process without a word."""


@pytest.fixture
def crystals(mlanet) -> list[ase.Atoms]:
    """Six in one file, with one between of an element that the model does not know."""
    frames = [bulk("Si", cubic=bool(k % 2), a=5.35 + 0.03 * k) for k in range(6)]
    for k, one in enumerate(frames):
        one.rattle(0.05, seed=k)
        one.calc = SinglePointCalculator(one, energy=-5.4 * len(one) + k, forces=0.1 * one.get_scaled_positions())
    unknown = frames[2].copy()
    unknown.numbers[0] = 26
    ase.io.write("set.extxyz", [*frames[:3], unknown, *frames[3:]])
    return frames


def words(command: tuple[str, ...]) -> list[str]:
    """A whole command line."""
    output = ["-o", "out.extxyz"] if "out.extxyz" in FILES[command[0]] else []
    return [*command, "-m", "elemental", *output, "--keep-going", "--json"]


def stops_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands are stopped before they write one more than so many structures."""
    for module, name in WRITERS:
        written, right = [], getattr(module, name)

        def text(*given: object, written: list[int] = written, right: Callable[..., str] = right) -> str:
            written.append(1)
            if len(written) > count:
                raise Stopped
            return right(*given)

        monkeypatch.setattr(module, name, text)


def whole(mlanet, words: list[str]) -> tuple[dict[str, object], dict[str, bytes]]:
    """The answer and the files of a run that is left alone, which are taken away."""
    outcome = mlanet(*words)
    assert outcome.status == 1, outcome.err  # for the structure that was passed over, and steps that did not suffice
    files = {name: Path(name).read_bytes() for name in FILES[words[0]]}
    for name in files:
        Path(name).unlink()
    assert not list(Path().glob("*.partial*"))
    return outcome.document, files


@pytest.mark.parametrize("command", COMMANDS, ids=["relax", "predict", "evaluate", "batched"])
@pytest.mark.usefixtures("crystals")
def test_stopped_and_resumed_is_the_same_run(command, mlanet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped twice, before and after a structure that is passed over: answer and files are those of one run, and what
    was there is not computed again. Half a line and bytes that no line knows, as a kill leaves them, do not matter."""
    answer, files = whole(mlanet, words(command))
    computed = []
    for count in (2, 1):
        with monkeypatch.context() as patch:
            stops_after(count, patch)
            with pytest.raises(Stopped):
                mlanet(*words(command), "--resume")
        for place in Path().glob("out.partial*"):
            place.write_bytes(place.read_bytes() + b"3\nLattice=")
    with monkeypatch.context() as patch:
        for module, name in WRITERS:
            right = getattr(module, name)
            patch.setattr(module, name, lambda *given, right=right: computed.append(1) or right(*given))
        resumed = mlanet(*words(command), "--resume")
    assert resumed.document == answer and len(computed) == 3
    assert {name: Path(name).read_bytes() for name in files} == files
    assert not list(Path().glob("*.partial*"))


@pytest.mark.parametrize("command", [RELAX, PREDICT, EVALUATE], ids=["relax", "predict", "evaluate"])
@pytest.mark.usefixtures("crystals")
def test_killed_and_resumed_is_the_same_run(command, mlanet) -> None:
    """SIGKILL, then --resume."""
    answer, files = whole(mlanet, words(command))
    victim = Forked(lambda: main(words(command)))
    journal = Path(f"out.partial{Path(FILES[command[0]][0]).suffix}.jsonl")
    while victim.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") > 2):
        time.sleep(0.002)
    victim.kill()
    victim.communicate()
    assert victim.returncode == -signal.SIGKILL
    assert mlanet(*words(command), "--resume").document == answer
    assert {name: Path(name).read_bytes() for name in files} == files


@pytest.mark.usefixtures("crystals")
def test_without_resume_everything_begins_anew(mlanet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after a run with other settings; and the message of one that is stopped says how to go on."""
    answer, files = whole(mlanet, words(RELAX))
    with monkeypatch.context() as patch:
        stops_after(2, patch)
        with pytest.raises(Stopped):
            mlanet(*words(RELAX), "--fmax", 0.5)
    assert mlanet(*words(RELAX)).document == answer
    assert Path("out.extxyz").read_bytes() == files["out.extxyz"]


def test_other_settings_and_other_input_are_refused(mlanet, crystals, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, and nothing is lost by it."""
    with monkeypatch.context() as patch:
        stops_after(3, patch)
        with pytest.raises(Stopped):
            mlanet(*words(RELAX))
    before = Path("out.partial.extxyz").read_bytes()
    refused = mlanet(*words(RELAX), "--resume", "--fmax", "0.3")
    assert refused.status == 2 and "fmax (was 0.2, now 0.3)" in refused.err
    refused = mlanet(*words(RELAX), "--resume", "-m", "universal")
    assert refused.status == 2 and "the model is another one" in refused.err
    moved = crystals[0].copy()
    moved.positions[0] += 0.1
    for changed in ([moved, *crystals[1:]], crystals[:1]):
        ase.io.write("set.extxyz", changed)
        refused = mlanet(*words(RELAX), "--resume")
        assert refused.status == 2 and "the input has changed" in refused.err
        assert Path("out.partial.extxyz").read_bytes() == before


def test_files_of_their_own_that_are_finished_stay(mlanet, crystals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --output each file has a result of its own: those that are finished are known."""
    for k, one in enumerate(crystals[:3]):
        ase.io.write(f"{k}.extxyz", one)
    command = ("relax", "0.extxyz", "1.extxyz", "2.extxyz", "--steps", "3", "-m", "elemental", "--json")
    answer = mlanet(*command).document
    files = {path.name: path.read_bytes() for path in Path().glob("*_relaxed.extxyz")}
    for name in files:
        Path(name).unlink()
    with monkeypatch.context() as patch:
        stops_after(2, patch)
        with pytest.raises(Stopped):
            mlanet(*command)
    with monkeypatch.context() as patch:
        stops_after(1, patch)
        assert mlanet(*command, "--resume").document == answer
    assert {path.name: path.read_bytes() for path in Path().glob("*_relaxed.extxyz")} == files
    assert not list(Path().glob("*.jsonl"))


@pytest.mark.usefixtures("crystals")
def test_what_the_disk_lost_is_computed_again(mlanet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is shorter than the journal says, as after a power cut."""
    answer, files = whole(mlanet, words(RELAX))
    with monkeypatch.context() as patch:
        stops_after(4, patch)
        with pytest.raises(Stopped):
            mlanet(*words(RELAX))
    partial = Path("out.partial.extxyz")
    sizes = [json.loads(line)["sizes"][0] for line in Path(f"{partial}.jsonl").read_text().splitlines()[1:]]
    partial.write_bytes(partial.read_bytes()[: sizes[2] - 5])
    assert mlanet(*words(RELAX), "--resume").document == answer
    assert Path("out.extxyz").read_bytes() == files["out.extxyz"]


@pytest.mark.usefixtures("crystals")
def test_resume_needs_a_place(mlanet) -> None:
    """Predictions that are only printed leave nothing to go on from."""
    assert mlanet("predict", "set.extxyz", "-m", "elemental", "--resume").status == 2


def test_other_labels_are_another_input(mlanet, crystals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of `evaluate`, which compares with them."""
    with monkeypatch.context() as patch:
        stops_after(3, patch)
        with pytest.raises(Stopped):
            mlanet(*words(EVALUATE))
    crystals[1].calc.results["energy"] += 0.1
    ase.io.write("set.extxyz", crystals)
    refused = mlanet(*words(EVALUATE), "--resume")
    assert refused.status == 2 and "holds another structure at this place" in refused.err
