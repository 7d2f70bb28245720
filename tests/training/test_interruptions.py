"""A training that is ended at any write can start or go on, and ends as one left alone; it has one owner."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mlanet.checkpoint import load_model, read_model_header
from mlanet.errors import ConfigError
from mlanet.ownership import owned
from mlanet.training.config import TrainConfig
from mlanet.training.trainer import train

Settings = Callable[..., TrainConfig]


class Killed(BaseException):
    """The process is gone: nothing catches it."""


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlanet.training.report.learning_curve", lambda *_: None)


def test_killed_before_any_write_it_can_start_or_go_on(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state_of: Callable[..., Any]
) -> None:
    """Before each checkpoint and each model: the same command, with `--resume` where a checkpoint stands, ends with
    the same weights, best model and metrics; a model never stands alone."""
    from mlanet import model_files

    budget = {"steps": 4, "validate_every": 2, "max_structures": 4}
    train(settings(budget=budget, run={"folder": str(tmp_path / "whole")}), progress=False)
    right, model = state_of(tmp_path / "whole"), load_model(tmp_path / "whole" / "model.safetensors").state_dict()
    for count in range(1, 20):
        config = settings(budget=budget, run={"folder": str(tmp_path / f"cut{count}")})
        folder, calls, write = tmp_path / f"cut{count}", [], model_files.write_whole

        def counted(path: Path, data: bytes) -> None:
            calls.append(path)  # noqa: B023 - used within this turn
            if len(calls) == count:  # noqa: B023
                raise Killed
            write(path, data)  # noqa: B023

        with monkeypatch.context() as patch:
            patch.setattr(model_files, "write_whole", counted)
            try:
                train(config, progress=False)
                break
            except Killed:
                pass
        if (folder / "log.jsonl").exists():
            with open(folder / "log.jsonl", "a") as file:
                file.write('{"event": "half a li')
        assert (folder / "checkpoint.safetensors").exists() or not (folder / "model.safetensors").exists()
        train(config, resume=(folder / "checkpoint.safetensors").exists(), progress=False)
        found = state_of(folder)
        assert found[1] == right[1] and all(torch.equal(found[0][name], right[0][name]) for name in right[0])
        ended = load_model(folder / "model.safetensors").state_dict()
        assert all(torch.equal(ended[name], model[name]) for name in model), count
        steps = [read_model_header(one / "model.safetensors").card["steps"] for one in (folder, tmp_path / "whole")]
        assert steps[0] == steps[1]
        for line in (folder / "log.jsonl").read_text().splitlines():
            json.loads(line)
    else:
        pytest.fail("the run never came to its end")
    assert count > 3


def test_two_trainings_in_one_folder(settings: Settings, tmp_path: Path) -> None:
    """The second is refused, started anew or resumed, and nothing is written."""
    with owned(tmp_path / "run", "mlanet train"):
        before = sorted((tmp_path / "run").iterdir())
        for resume in (False, True):
            with pytest.raises(ConfigError, match=r"mlanet train \(process \d+ on "):
                train(settings(), resume=resume, progress=False)
        assert sorted((tmp_path / "run").iterdir()) == before
