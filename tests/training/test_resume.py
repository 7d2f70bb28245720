"""A run that was stopped, at any step and in any way, goes on as if nothing had happened."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Forked

from mlanet.checkpoint import load_model, load_state
from mlanet.errors import CheckpointError, ConfigError, MLANetError
from mlanet.potential import Potential
from mlanet.training.config import TrainConfig
from mlanet.training.state import Averaged
from mlanet.training.trainer import train

Settings = Callable[..., TrainConfig]


@pytest.fixture
def stopped_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[TrainConfig, int], None]:
    """Train until a signal of a queue system ends the run after that many steps."""

    def inner(config: TrainConfig, step: int, *, resume: bool = False) -> None:
        right = Averaged.update

        def watched(self: Averaged, potential: Potential, now: int) -> None:
            right(self, potential, now)
            if now == step - 1:  # noticed in this step, obeyed after the next
                signal.raise_signal(signal.SIGTERM)

        with monkeypatch.context() as patch:
            patch.setattr(Averaged, "update", watched)
            result = train(config, resume=resume, progress=False)
        assert result.reason == "terminated" and result.steps == step

    return inner


def require_equal(first: tuple[dict[str, torch.Tensor], Any], second: tuple[dict[str, torch.Tensor], Any]) -> None:
    """Weights, average, optimizer, generators, counters and metrics, bit by bit."""
    assert first[1] == second[1]
    assert first[0].keys() == second[0].keys()
    assert [name for name in first[0] if not torch.equal(first[0][name], second[0][name])] == []


@pytest.mark.parametrize(
    ("kind", "dtype", "steps"),
    [("cosine", "float32", (4, 5)), ("cosine", "float64", (6,)), ("plateau", "float32", (6,))],
)
def test_stopping_is_not_felt(
    settings: Settings,
    stopped_after: Callable[..., None],
    tmp_path: Path,
    state_of: Callable[..., Any],
    kind: str,
    dtype: str,
    steps: tuple[int, ...],
) -> None:
    """Stopped in the middle of an epoch, at its end, and twice, a run ends with the same weights, average, optimizer,
    generators and metrics as one that was never stopped."""
    run = {"dtype": dtype}
    schedule = {"kind": kind, "patience": 1}
    whole = settings(run=run | {"folder": str(tmp_path / "whole")}, schedule=schedule)
    train(whole, progress=False)
    for step in steps:
        config = settings(run=run | {"folder": str(tmp_path / f"cut{step}")}, schedule=schedule)
        stopped_after(config, step)
        if step == 5:
            stopped_after(config, 9, resume=True)
        torch.randn(step)  # the resumed process may have drawn other numbers
        assert train(config, resume=True, progress=False).steps == 12
        require_equal(state_of(tmp_path / "whole"), state_of(tmp_path / f"cut{step}"))
        mine, theirs = (load_model(tmp_path / name / "model.safetensors") for name in ("whole", f"cut{step}"))
        for name, tensor in mine.state_dict().items():
            assert torch.equal(tensor, theirs.state_dict()[name]), name


def test_a_finished_run_takes_no_further_step(settings: Settings, tmp_path: Path, state_of: Callable[..., Any]) -> None:
    """Resuming a run whose budget is spent changes no weight and no file of results."""
    config = settings(budget={"steps": 3})
    train(config, progress=False)
    before = state_of(tmp_path / "run"), (tmp_path / "run/model.safetensors").read_bytes()
    result = train(config, resume=True, progress=False)
    assert result.steps == 3 and result.reason == "budget spent"
    require_equal(before[0], state_of(tmp_path / "run"))
    assert (tmp_path / "run/model.safetensors").read_bytes() == before[1]


def test_other_settings_are_another_run(settings: Settings, stopped_after: Callable[..., None], tmp_path: Path) -> None:
    """What touches the weights must not change, and the error says what did."""
    stopped_after(settings(), 3)
    before = (tmp_path / "run/checkpoint.safetensors").read_bytes()
    changes: list[dict[str, Any]] = [
        {"optimizer": {"lr": 4e-3}},
        {"run": {"seed": 4}},
        {"run": {"dtype": "float64"}},
        {"data": {"valid": [], "valid_fraction": 0.5}},
    ]
    names = ["optimizer.lr: was 0.005, is 0.004", "run.seed", "run.dtype", "data.valid"]
    for change, name in zip(changes, names, strict=True):
        with pytest.raises(ConfigError, match=name):
            train(settings(**change), resume=True, progress=False)
    with pytest.raises(ConfigError, match="write them as they were, also those that the file left to defaults"):
        train(settings(optimizer={"kind": "adamw"}), resume=True, progress=False)
    assert (tmp_path / "run/checkpoint.safetensors").read_bytes() == before


@pytest.mark.parametrize("change", [{"max_structures": 3}, {"max_edges": 100}], ids=str)
def test_other_batches_in_the_middle_of_an_epoch_are_another_run(
    settings: Settings, stopped_after: Callable[..., None], change: dict[str, int]
) -> None:
    """The place in an epoch counts batches: with batches of another size some structures would be skipped."""
    stopped_after(settings(), 6)
    with pytest.raises(MLANetError, match=next(iter(change))):
        train(settings(budget=change), resume=True, progress=False)


def test_other_data_under_the_same_name_are_another_run(
    settings: Settings, stopped_after: Callable[..., None], write: Callable[..., str], seven: str, four: list[Any]
) -> None:
    """References, scales and batches come from the data: a file that changed meanwhile is noticed."""
    file = write([], "mine.extxyz")
    shutil.copy(seven, file)
    config = settings(data={"train": [file]})
    stopped_after(config, 3)
    write([*four, *four], "mine.extxyz")
    with pytest.raises(MLANetError, match=r"data"):
        train(config, resume=True, progress=False)


def test_nothing_to_resume_is_an_error(settings: Settings, tmp_path: Path) -> None:
    """`--resume` in an empty folder starts nothing."""
    with pytest.raises(ConfigError, match="no checkpoint to resume from"):
        train(settings(), resume=True, progress=False)
    assert not (tmp_path / "run").exists()


def test_a_damaged_checkpoint_is_refused(
    settings: Settings, stopped_after: Callable[..., None], tmp_path: Path
) -> None:
    """A flipped bit is an error, not a slightly different run."""
    stopped_after(settings(), 3)
    path = tmp_path / "run/checkpoint.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="damaged"):
        train(settings(), resume=True, progress=False)


def test_sigusr1_saves_and_goes_on(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A checkpoint at the end of the running or the next step, and no other effect; handlers are put back."""
    right, seen = Averaged.update, []

    def watched(self: Averaged, potential: Potential, now: int) -> None:
        right(self, potential, now)
        path = tmp_path / "run/checkpoint.safetensors"
        if now == 3:
            assert not path.exists()
            signal.raise_signal(signal.SIGUSR1)
        if now == 5:
            seen.append(load_state(path)[1]["progress"]["step"])

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)
    monkeypatch.setattr(Averaged, "update", watched)
    result = train(settings(budget={"steps": 6, "validate_every": 6}), progress=False)
    assert seen in ([3], [4]) and result.reason == "budget spent"
    assert before == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1))


def test_ctrl_c_finishes_the_step_and_saves(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state_of: Callable[..., Any]
) -> None:
    """KeyboardInterrupt, but after a checkpoint of the running step; resumed it ends as if never interrupted."""
    right = Averaged.update

    def watched(self: Averaged, potential: Potential, now: int) -> None:
        right(self, potential, now)
        if now == 5:
            signal.raise_signal(signal.SIGINT)

    train(settings(run={"folder": str(tmp_path / "whole")}), progress=False)
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Averaged, "update", watched)
    with pytest.raises(KeyboardInterrupt):
        train(settings(), progress=False)
    assert signal.getsignal(signal.SIGINT) == before
    assert state_of(tmp_path / "run")[1]["step"] in (5, 6)
    assert json.loads((tmp_path / "run/log.jsonl").read_text().splitlines()[-1])["reason"] == "interrupted"
    monkeypatch.undo()
    train(settings(), resume=True, progress=False)
    require_equal(state_of(tmp_path / "whole"), state_of(tmp_path / "run"))


def test_a_second_ctrl_c_is_not_waited_for(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is noticed, the second raises where it comes."""
    reached = []

    def watched(self: Averaged, potential: Potential, now: int) -> None:
        signal.raise_signal(signal.SIGINT)
        reached.append(now)
        signal.raise_signal(signal.SIGINT)
        reached.append("beyond")

    monkeypatch.setattr(Averaged, "update", watched)
    with pytest.raises(KeyboardInterrupt):
        train(settings(), progress=False)
    assert reached == [1]


def _wait_for_step(process: Forked, path: Path, step: int = 1) -> None:
    """Until the process has written a checkpoint of that step or later; every checkpoint seen must be readable."""
    start = time.monotonic()
    while time.monotonic() - start < 200:
        assert process.poll() is None, process.communicate(timeout=200)
        if path.exists() and load_state(path)[1]["progress"]["step"] >= step:
            return
        time.sleep(0.01)
    raise AssertionError("no checkpoint")


def test_a_queue_system_ends_a_process(
    settings: Settings, command: Callable[..., Forked], tmp_path: Path, state_of: Callable[..., Any]
) -> None:
    """SIGTERM: a checkpoint, exit status 143, and the resumed run equals one that was never stopped."""
    budget = {"steps": 30, "validate_every": 12}
    config = settings(budget=budget, run={"checkpoint_every": 5})
    process = command(config)
    _wait_for_step(process, tmp_path / "run/checkpoint.safetensors")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 143, errors
    assert 0 < state_of(tmp_path / "run")[1]["step"] < 30
    again = command(config, "--resume")
    _, errors = again.communicate(timeout=200)
    assert again.returncode == 0, errors
    train(settings(budget=budget, run={"folder": str(tmp_path / "whole")}), progress=False)
    require_equal(state_of(tmp_path / "whole"), state_of(tmp_path / "run"))


def test_a_killed_process_leaves_a_readable_checkpoint(
    settings: Settings, command: Callable[..., Forked], tmp_path: Path
) -> None:
    """kill -9 while a checkpoint is written at every step: what is there can always be read and resumed from."""
    config = settings(budget={"steps": 100_000, "validate_every": 50}, run={"checkpoint_every": 1})
    path, words, last = tmp_path / "run/checkpoint.safetensors", [], 0
    for wait in (0.0, 0.013):
        process = command(config, *words)
        _wait_for_step(process, path, last + 2)
        time.sleep(wait)
        process.kill()
        process.communicate(timeout=200)
        last, words = load_state(path)[1]["progress"]["step"], ["--resume"]
    assert last >= 4
