"""`mlanet train`: from a YAML and labelled frames to a model that predicts, and back from every mistake."""

from __future__ import annotations

import os
import re
import shlex
import signal
from pathlib import Path

import ase.io
import pytest

from mlanet.config import parse, read_yaml, to_yaml
from mlanet.potential import Potential
from mlanet.training.config import TrainConfig
from mlanet.training.state import Averaged

CONFIG = """
data: {train: [LABELLED], valid_fraction: 0.2, require: [energy, forces]}
model: {model: mlanet, irreps: 8x0e+8x1o, layers: 1, hidden: 8, radial_hidden: [8], cutoff: 3.5}
budget: {steps: 6, validate_every: 3, max_structures: 2}
run: {folder: run}
"""


@pytest.fixture
def config(tmp_path: Path, labelled: Path) -> Path:
    path = tmp_path / "train.yaml"
    path.write_text(CONFIG.replace("LABELLED", str(labelled)))
    return path


def test_train_then_use(mlanet, config: Path, labelled: Path) -> None:
    """The model that a training leaves evaluates and describes itself; overrides reach the run."""
    result = mlanet("train", config, "budget.steps=8", "--json")
    assert result.status == 0 and result.document["steps"] == 8
    assert mlanet("evaluate", labelled, "-m", "run/model.safetensors", "--json").status == 0
    card = mlanet("info", "run/model.safetensors", "--json").document["card"]
    text = mlanet("info", "run/model.safetensors").out
    for name, unit, factor in (("energy", "meV/atom", 1000), ("forces", "meV/Å", 1000)):
        told = re.search(rf"card\.validation\.{name} MAE +([\d.]+) {unit}", text)
        assert told and float(told[1]) == pytest.approx(factor * card["validation"][f"valid_{name}_mae"], rel=1e-3)
    assert text.index("card.") < text.index("config.") and not re.search(r"\d\.\d{12}", text)
    for name in (
        "metrics.csv",
        "log.jsonl",
        "learning_curve.png",
        "config.yaml",
        "checkpoint.safetensors",
        "audit.txt",
    ):
        assert Path("run", name).stat().st_size > 0
    written = parse(read_yaml("run/config.yaml"), TrainConfig, "run/config.yaml")  # complete, and can be used again
    assert written.budget.steps == 8 and "max_edges" in to_yaml(written)


def test_a_warning_is_told_once(mlanet, config: Path, labelled: Path, tmp_path: Path) -> None:
    """Two energies that differ, as of VASP: said by the audit, not again by its summary nor as a remark."""
    frames = ase.io.read(labelled, ":")
    for atoms in frames:
        atoms.calc.results["free_energy"] = atoms.calc.results["energy"] - 0.002
    ase.io.write("two.extxyz", frames)
    result = mlanet("train", config, "data.train=[two.extxyz]", "budget.steps=1", "budget.validate_every=1")
    assert result.status == 0 and (result.out + result.err).count("'free_energy' says something else") == 1


def test_dry_run_writes_nothing(mlanet, config: Path) -> None:
    """Sizes are told, and no folder is made."""
    result = mlanet("train", config, "--dry-run", "--json")
    assert result.status == 0 and result.document["parameters"] > 100 and result.document["training structures"] > 0
    assert result.document["optimizer"] == "muon, highest learning rate 0.005"
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optimizer.lrr=1"], "unknown key 'optimizer.lrr'; did you mean 'lr'"),
        (["optimizer.lr=fast"], "'optimizer.lr'"),
        (["budget.epochs=3"], "exactly one of epochs, steps and minutes"),
        (["data.train=[nowhere.xyz]"], "nowhere.xyz"),
        (["data.labels.energy=nothing"], "nothing"),
        (["model.irreps=8x0e+8x1e"], "natural parity"),
    ],
)
def test_mistakes_are_told(mlanet, config: Path, words: list[str], message: str) -> None:
    """One message that says what and where, exit status 2, no run begun."""
    result = mlanet("train", config, *words)
    assert result.status == 2 and message in result.err and "Traceback" not in result.err
    assert not Path("run", "model.safetensors").exists()


def test_a_run_is_never_overwritten_and_resumes(mlanet, config: Path) -> None:
    """The second start is refused; `--resume` with a larger budget goes on from the last step."""
    assert mlanet("train", config).status == 0
    again = mlanet("train", config)
    assert again.status == 2 and "--resume" in again.err
    more = mlanet("train", config, "budget.steps=9", "--resume", "--json")
    assert more.status == 0 and more.document["steps"] == 9


def test_disk_full_while_saving(mlanet, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clear error with status 3, and no half-written file."""
    right = os.fsync

    def full(descriptor: int) -> None:
        right(descriptor)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = mlanet("train", config)
    assert result.status == 3 and "No space left" in result.err
    assert not list(Path("run").glob("*.partial")) and not list(Path("run").glob(".*partial"))


def test_ctrl_c_says_what_was_kept_and_how_to_go_on(mlanet, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 130, the files, and a command with the same words that works; before a checkpoint: nothing was kept."""
    right = Averaged.update

    def watched(self: Averaged, potential: Potential, now: int) -> None:
        right(self, potential, now)
        if now == 4:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Averaged, "update", watched)
    outcome = mlanet("train", config, "budget.steps=7", "optimizer.lr=1e-3")
    assert outcome.status == 130 and "run/checkpoint.safetensors of step" in outcome.err
    again = outcome.err.partition("go on with: mlanet ")[2].splitlines()[0]
    assert shlex.split(again) == ["train", str(config), "budget.steps=7", "optimizer.lr=1e-3", "--resume"]
    outcome = mlanet(*shlex.split(again), "--json")
    assert outcome.status == 0 and outcome.document["steps"] == 7

    monkeypatch.setattr("mlanet.training.trainer.load_split", lambda *_: signal.raise_signal(signal.SIGINT))
    outcome = mlanet("train", config, "run.folder=other")
    assert outcome.status == 130 and "other has nothing to go on from" in outcome.err


def test_redirected_output_has_a_line_per_validation(mlanet, config: Path) -> None:
    """Step, share of the budget, errors with units, and which was the best; with --json there is none."""
    lines = [line for line in mlanet("train", config).err.splitlines() if line.startswith("step ")]
    assert [line.split(" · ")[:2] for line in lines] == [["step 3", "50%"], ["step 6", "100%"]]
    assert all("meV/atom" in line and "meV/Å" in line for line in lines) and "best so far" in lines[0]
    assert not mlanet("train", config, "run.folder=quiet", "--json").err


def test_the_bar_ends_on_the_best_values(mlanet, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands there when all is over is what was saved, not the last look."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    rows = iter([1.0, 5.0, 7.0])
    monkeypatch.setattr("mlanet.metrics.Errors.mae", lambda _: dict.fromkeys(("energy", "forces"), next(rows)))
    outcome = mlanet("train", config, "budget.steps=9")
    lines = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", outcome.err).splitlines()
    last = [line for line in lines if "step " in line][-1]
    assert "best: step 3 · E 1000.00 meV/atom · F 1000.0 meV/Å" in last
