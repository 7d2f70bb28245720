"""Two processes train what one would: uneven structures, an uneven last step, one set of decisions."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked import Forked

from mlanet.checkpoint import load_state
from mlanet.potential import Potential
from mlanet.training.config import TrainConfig
from mlanet.training.state import Averaged
from mlanet.training.trainer import train

Settings = Callable[..., TrainConfig]


def test_two_processes_take_the_steps_of_one(
    settings: Settings, ranks: Callable[..., list[Forked]], tmp_path: Path, state_of: Callable[..., Any]
) -> None:
    """Batches of one structure on two processes = batches of two on one: weights, average and errors to 1e-12 in
    float64, with structures of 4 and 8 atoms, and a last step in which the second process has nothing; also where
    SIGUSR1 comes to one of them only: both agree to save."""
    run, optimizer = {"dtype": "float64"}, {"weight_decay": 0.1}
    right, path = Averaged.update, tmp_path / "run/checkpoint.safetensors"

    def watch(rank: int) -> None:
        def watched(self: Averaged, potential: Potential, now: int) -> None:
            right(self, potential, now)
            if now == 5 and rank == 1:
                signal.raise_signal(signal.SIGUSR1)
            if now == 8 and rank == 0:
                assert load_state(path)[1]["progress"]["step"] in (5, 6), "nothing was saved since the validation"

        Averaged.update = watched  # type: ignore[method-assign]

    both = ranks(settings(budget={"max_structures": 1}, run=run, optimizer=optimizer), watch)
    alone = settings(budget={"max_structures": 2}, run=run | {"folder": str(tmp_path / "alone")}, optimizer=optimizer)
    train(alone, progress=False)
    said = [one.communicate(timeout=120) for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    (two, story), (one, expected) = state_of(tmp_path / "run"), state_of(tmp_path / "alone")
    assert story["step"] == expected["step"] == 12
    for name, tensor in one.items():
        if tensor.is_floating_point():
            scale = float(tensor.abs().max()) + 1e-300
            assert float((two[name] - tensor).abs().max()) <= 1e-12 * scale, name
    for mine, theirs in zip(story["rows"], expected["rows"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-9)


@pytest.mark.slow
def test_one_signal_stops_all_processes(
    settings: Settings, launched: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """SIGTERM to the launcher ends every process after one common step, with a checkpoint."""
    config = settings(budget={"steps": 100_000, "max_structures": 1, "validate_every": 50}, run={"checkpoint_every": 5})
    process = launched(config)
    path = tmp_path / "run/checkpoint.safetensors"
    start = time.monotonic()
    while not path.exists():
        assert process.poll() is None and time.monotonic() - start < 200, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert load_state(path)[1]["progress"]["step"] > 0
