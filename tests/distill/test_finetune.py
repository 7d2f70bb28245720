from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write

from mlanet.checkpoint import load_model, save_model
from mlanet.cli.main import main
from mlanet.config import parse
from mlanet.models import ModelConfig
from mlanet.potential import Potential
from mlanet.statistics import Statistics


def labelled(path: Path, symbol: str, count: int, seed: int) -> Path:
    rng, frames = np.random.default_rng(seed), []
    for _ in range(count):
        atoms = bulk(symbol, cubic=True)
        atoms.positions += 0.1 * rng.normal(size=(4, 3))
        atoms.calc = EMT()
        atoms.get_potential_energy()
        frames.append(atoms)
    write(path, frames)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    keys = {"model": "mlanet", "irreps": "8x0e+8x1o", "layers": 1, "heads": 2, "hidden": 8, "cutoff": 3.5}
    potential = Potential.build(parse(keys, ModelConfig, "test"), Statistics((29,), (-3.0,), (1.0,), 12.0))
    save_model(potential, tmp_path / "old.safetensors")
    return tmp_path / "old.safetensors"


def test_the_command_learns_a_new_element_and_compares(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Gold after copper: known afterwards, with errors on both; a repeated call computes nothing again."""
    new, old = labelled(tmp_path / "new.extxyz", "Au", 6, 1), labelled(tmp_path / "cu.extxyz", "Cu", 3, 2)
    words = ["finetune", str(model), str(new), "-o", str(tmp_path / "out"), "--set", "budget.steps=3", "--json"]
    words += ["--old", str(old), "--replay", str(old), "--replay-limit", "2", "--freeze", "sender", "--curve", "2,4"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["before"]) == set() and set(found["after"]) == {"new data", "cu"}
    assert load_model(found["model"]).species == (29, 79)
    assert "Against training from scratch" in Path(found["page"]).read_text()
    assert {path.parent.name for path in (tmp_path / "out").rglob("model.safetensors")} == {
        "out",
        "tuned",
        *(f"{kind}-{size}" for kind in ("tuned", "scratch") for size in (2, 4)),
    }
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out) == found
    assert times == {path: path.stat().st_mtime_ns for path in times}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--curve", "a"], "--curve 'a'"),
        (["--curve", "9"], "9 structures asked for"),
        (["--freeze", "x"], "no weights"),
    ],
)
def test_mistakes(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    new = labelled(tmp_path / "new.extxyz", "Cu", 4, 1)
    assert main(["finetune", str(model), str(new), "-o", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [("--replay-share", "0.3"), ("--replay-limit", "5")])
def test_words_about_old_data_that_are_not_there(words: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Refused at once, rather than training on new data alone."""
    assert main(["finetune", "elemental", "new.extxyz", *words]) == 2
    assert "--replay names" in capsys.readouterr().err
