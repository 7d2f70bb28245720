"""`mlanet train`: from a YAML and labelled frames to a model that predicts, and back from every mistake."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlanet.config import to_yaml

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
    assert mlanet("info", "run/model.safetensors", "--json").status == 0
    for name in (
        "metrics.csv",
        "log.jsonl",
        "learning_curve.png",
        "config.yaml",
        "checkpoint.safetensors",
        "audit.txt",
    ):
        assert Path("run", name).stat().st_size > 0


def test_dry_run_writes_nothing(mlanet, config: Path) -> None:
    """Sizes are told, and no folder is made."""
    result = mlanet("train", config, "--dry-run", "--json")
    assert result.status == 0 and result.document["parameters"] > 100 and result.document["training structures"] > 0
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


def test_written_config_can_be_used_again(mlanet, config: Path) -> None:
    """`config.yaml` in the run's folder is a complete configuration."""
    from mlanet.config import parse, read_yaml
    from mlanet.training.config import TrainConfig

    assert mlanet("train", config).status == 0
    written = parse(read_yaml("run/config.yaml"), TrainConfig, "run/config.yaml")
    assert written.budget.steps == 6 and "max_edges" in to_yaml(written)
