"""One training in a process of its own: train or go on from the checkpoint, and write its row.

    python benchmarks/accuracy one FOLDER SET NAME STEPS

The process ends with the one that started it (standard input closes), leaving a checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import threading
import time
from pathlib import Path
from typing import Any

import torch

from accuracy.data import parts
from accuracy.plan import Row, Training
from mlanet.checkpoint import load_model, load_state
from mlanet.data.read import read_frames
from mlanet.errors import DivergedError
from mlanet.files import write_whole
from mlanet.ownership import owned
from mlanet.profiling import worker
from mlanet.profiling.measurement import provenance
from mlanet.quantities import QUANTITIES
from mlanet.sweep.measure import PeakMemory
from mlanet.training.folder import STATE
from mlanet.training.trainer import FINISHED, train

ROW = "row.json"
PEAK = "peak_memory.json"
STOPPED = 143
"""Exit status of one that was told to stop and goes on another time."""


def run(training: Training, folder: Path) -> int:
    """Train, judge, write `row.json` into the training's folder; returns the exit status."""
    torch.set_num_threads(1)
    _stop_with_parent()
    place = folder / training.name
    with owned(place, f"accuracy, {training.name}", wait=float("inf")):
        data = parts(training.benchmark, folder / "data")
        row = _train(training, data, place)
        if row is None:
            return STOPPED
        write_whole(place / ROW, json.dumps(training.key | row).encode())
    return 0


def _train(training: Training, data: Path, place: Path) -> Row | None:
    """Results and costs; None where it was stopped before the end."""
    import matplotlib.backends.backend_agg  # noqa: F401 - loaded before memory is measured, not while

    run = place / "training"
    limit = 4 * training.benchmark.processor_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 60))
    signal.signal(signal.SIGXCPU, lambda *_: os._exit(1))
    memory = PeakMemory(torch.device("cpu"))
    before = json.loads((place / PEAK).read_text())["MiB"] if (place / PEAK).exists() else 0.0
    begun = time.time()
    try:
        result = train(training.train_config(data, run), resume=(run / STATE).exists(), progress=False)
    except DivergedError as error:
        return {"status": "diverged", "remark": str(error)} | _machine()
    peak = max(before, memory.mebibytes())
    write_whole(place / PEAK, json.dumps({"MiB": peak}).encode())
    if result.reason not in FINISHED:
        return None
    rows = load_state(run / STATE)[1]["progress"]["rows"]
    last = rows[-1]
    row: Row = {"status": "done", "steps": last["step"], "processor_s": round(60 * last["processor_minutes"], 2)}
    row |= {name: len(list(read_frames(data / f"{name}.extxyz"))) for name in ("train", "test")}
    row |= _errors(last)
    row["curve"] = [{"step": one["step"], "processor_s": 60 * one["processor_minutes"], **_errors(one)} for one in rows]
    row["parameters"] = sum(one.numel() for one in load_model(result.model).parameters())
    row |= {"peak_memory_MiB": round(peak), "finished": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(begun))}
    return row | _machine()


def _errors(row: dict[str, float]) -> dict[str, float]:
    """Of all quantities, in the units of tables."""
    errors = {}
    for one in QUANTITIES:
        for kind in ("mae", "rmse"):
            if (value := row.get(f"valid_{one.name}_{kind}")) is not None:
                errors[f"{one.name}_{kind}_{one.column}"] = value * one.factor
    return errors


def _machine() -> dict[str, Any]:
    """Commit, hardware, versions."""
    return {**worker.machine(torch.device("cpu")), **provenance()}


def _stop_with_parent() -> None:
    """SIGTERM to oneself when the other end of standard input is gone."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            os.read(0, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
