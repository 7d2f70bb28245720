"""Two processes train what one would: uneven structures, an uneven last step, one set of decisions."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mlanet.checkpoint import load_state
from mlanet.training.config import TrainConfig
from mlanet.training.trainer import train

Settings = Callable[..., TrainConfig]
Command = Callable[..., "subprocess.Popen[str]"]


def test_two_processes_take_the_steps_of_one(
    settings: Settings, command: Command, tmp_path: Path, state_of: Callable[..., Any]
) -> None:
    """Batches of one structure on two processes = batches of two on one: weights, average and errors to 1e-12 in
    float64, with structures of 4 and 8 atoms, and a last step in which the second process has nothing."""
    run, optimizer = {"dtype": "float64"}, {"weight_decay": 0.1}
    shared = command(settings(budget={"max_structures": 1}, run=run, optimizer=optimizer), processes=2)
    alone = settings(budget={"max_structures": 2}, run=run | {"folder": str(tmp_path / "alone")}, optimizer=optimizer)
    train(alone, progress=False)
    _, errors = shared.communicate(timeout=120)
    assert shared.returncode == 0, errors
    (two, story), (one, expected) = state_of(tmp_path / "run"), state_of(tmp_path / "alone")
    assert story["step"] == expected["step"] == 12
    for name, tensor in one.items():
        if tensor.is_floating_point():
            scale = float(tensor.abs().max()) + 1e-300
            assert float((two[name] - tensor).abs().max()) <= 1e-12 * scale, name
    for mine, theirs in zip(story["rows"], expected["rows"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-9)


@pytest.mark.slow
def test_one_signal_stops_all_processes(settings: Settings, command: Command, tmp_path: Path) -> None:
    """SIGTERM to the launcher ends every process after one common step, with a checkpoint."""
    config = settings(budget={"steps": 100_000, "max_structures": 1, "validate_every": 50}, run={"checkpoint_every": 5})
    process = command(config, processes=2)
    path = tmp_path / "run/checkpoint.safetensors"
    start = time.monotonic()
    while not path.exists():
        assert process.poll() is None and time.monotonic() - start < 90, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert load_state(path)[1]["progress"]["step"] > 0


@pytest.mark.slow
def test_a_wish_of_one_process_is_shared(
    settings: Settings, command: Command, tmp_path: Path, state_of: Callable[..., Any]
) -> None:
    """SIGUSR1 to one of two processes: all agree to save, and the run goes on to its end with the same numbers."""
    budget = {"steps": 80, "max_structures": 1, "validate_every": 80}
    process = command(settings(budget=budget, run={"dtype": "float64", "checkpoint_every": 10}), processes=2)
    path = tmp_path / "run/checkpoint.safetensors"
    start = time.monotonic()
    while not path.exists():
        assert process.poll() is None and time.monotonic() - start < 90, process.communicate()
        time.sleep(0.02)
    ranks = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True)
    workers = sorted(int(word) for word in ranks.stdout.split())
    subprocess.run(["kill", "-USR1", str(workers[-1])], check=True)
    try:
        _, errors = process.communicate(timeout=45)
    except subprocess.TimeoutExpired:
        process.kill()
        for pid in workers:
            subprocess.run(["kill", "-9", str(pid)], check=False)
        pytest.fail("the processes wait for one another")
    assert process.returncode == 0, errors
    alone = settings(budget=budget | {"max_structures": 2}, run={"dtype": "float64", "folder": str(tmp_path / "alone")})
    train(alone, progress=False)
    (two, _), (one, _) = state_of(tmp_path / "run"), state_of(tmp_path / "alone")
    for name in one:
        if name.startswith("model."):
            torch.testing.assert_close(two[name], one[name], rtol=1e-8, atol=1e-9)
