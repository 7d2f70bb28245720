"""Processes and Ray: the same table, and nothing left running, however a sweep ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from forked import Forked
from sweeping import here, lasting

from mlanet.config import to_yaml
from mlanet.sweep.config import SweepConfig
from mlanet.sweep.engines import on_ray
from mlanet.sweep.run import sweep

Settings = Callable[..., SweepConfig]
STEPS = {"steps": 150, "max_structures": 2, "validate_every": 50}


def command(config: SweepConfig, *words: str) -> Forked:
    """`mlanet sweep` in a process of its own."""
    settings = Path(config.output).with_suffix(".yaml")
    settings.write_text(to_yaml(config))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return Forked([sys.executable, "-m", "mlanet", "sweep", str(settings), "--json", *words], text=True, **pipes)


def workers(folder: str) -> list[int]:
    """Processes that train points of this sweep: what they print goes to a file in its folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/fd/1"):
        with contextlib.suppress(OSError):
            if os.readlink(path).startswith(f"{folder}/points/"):
                found.append(int(path.parts[2]))
    return found


def wait_for(condition: Callable[[], object], seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks for processes in /proc")
def test_stopped_and_killed_it_ends_with_the_same_table(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped by SIGTERM in a training and killed by SIGKILL in the next, then ended by a new interpreter, a sweep
    leaves the table of one that ran undisturbed in one process; no worker outlives it."""
    axes = {"sizes": [8], "seeds": [1, 2], "budget": STEPS}
    sweep(settings(output=str(tmp_path / "whole"), **axes), here)
    config = settings(output=str(tmp_path / "cut"), **axes)
    first, second = (tmp_path / f"cut/points/tiny-l1-n8-s{seed}" for seed in (1, 2))
    monkeypatch.setattr(subprocess, "Popen", Forked)
    running = command(config)
    wait_for((first / "training/checkpoint.safetensors").exists)
    assert workers(config.output)
    running.send_signal(signal.SIGTERM)
    _, told = running.communicate(timeout=240)
    assert running.returncode == 143 and f"go on with: mlanet sweep {config.output}" in told
    assert not workers(config.output) and not (first / "result.json").exists()
    running = command(config)
    wait_for((second / "training/checkpoint.safetensors").exists)
    running.kill()
    running.communicate(timeout=240)
    wait_for(lambda: not workers(config.output))
    assert (first / "result.json").exists() and not (second / "result.json").exists()
    monkeypatch.undo()
    running = command(config, "--jobs", "2")
    _, told = running.communicate(timeout=240)
    assert running.returncode == 0, told
    assert lasting(tmp_path / "cut") == lasting(tmp_path / "whole")


def test_ray_gives_the_same_table(settings: Settings, tmp_path: Path) -> None:
    """Another engine, the same points."""
    pytest.importorskip("ray")
    sweep(settings(output=str(tmp_path / "whole")), here)
    sweep(settings(output=str(tmp_path / "ray")), on_ray())
    assert lasting(tmp_path / "ray") == lasting(tmp_path / "whole")
