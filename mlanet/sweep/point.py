"""One point of a sweep in a process of its own: train, judge on the test part, write the result.

    python -m mlanet.sweep.point FOLDER NAME

Every engine runs this and nothing else, so a point comes out the same wherever it is run.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import torch

from mlanet.checkpoint import load_state
from mlanet.data.dataset import load_samples
from mlanet.data.loader import Loader
from mlanet.data.read import read_frames
from mlanet.errors import ConfigError, MLANetError
from mlanet.execution import Execution
from mlanet.files import write_result
from mlanet.memory import is_out_of_memory
from mlanet.ownership import owned
from mlanet.profiling.measurement import commit
from mlanet.quantities import QUANTITIES
from mlanet.sweep.config import SweepConfig
from mlanet.sweep.engines import FILE_ERROR, TERMINATED, WITH_PARENT
from mlanet.sweep.folder import place_of, read_folder, read_result, save_result
from mlanet.sweep.measure import PeakMemory, microseconds_per_atom
from mlanet.sweep.plan import PARTS, Point, train_config
from mlanet.sweep.table import DONE, Result, Row, failed
from mlanet.training.config import TrainConfig
from mlanet.training.processes import Processes
from mlanet.training.report import machine
from mlanet.training.sets import load_split
from mlanet.training.start import starting_cutoff
from mlanet.training.trainer import STATE, TrainResult, train
from mlanet.workflows.evaluate import collect, evaluate_frames
from mlanet.workflows.model import open_model

_PEAK = "peak_memory.json"
_LONGEST_REMARK = 400


def run_point(folder: Path, name: str) -> int:
    """Run a point, or go on with it, and write its result; returns the exit status.

    An error that belongs to the point (diverged, out of memory, an element that its training set lacks) is its result.
    """
    started = read_folder(folder)
    point = next((candidate for candidate in started.plan.points if candidate.name == name), None)
    if point is None:
        raise ConfigError(f"{folder}: has no point '{name}'; points: {', '.join(p.name for p in started.plan.points)}")
    torch.set_num_threads(started.used.run.threads or 1)
    # A point of a sweep that was killed may still be writing its last checkpoint.
    with owned(place_of(folder, point), f"mlanet sweep, point {name}", wait=math.inf):
        if read_result(folder, point) is not None:
            return 0
        device = Processes(started.used.run.device).device
        try:
            row = _row(started.used, point, folder, device)
        except MLANetError as error:
            if error.exit_status == FILE_ERROR:
                raise
            row = failed(point, str(error)[:_LONGEST_REMARK])
        except Exception as error:
            traceback.print_exc()
            row = failed(point, _reason(error)[:_LONGEST_REMARK])
        if row is None:
            return TERMINATED
        facts = {key: value if isinstance(value, int) else str(value) for key, value in machine(device).items()}
        save_result(folder, Result(row, facts | {"dtype": started.used.run.dtype, "commit": commit()}))
    return 0


def _reason(error: Exception) -> str:
    """Out of memory by its name; anything else with its type."""
    return f"out of memory: {error}" if is_out_of_memory(error) else f"{type(error).__name__}: {error}"


def _row(config: SweepConfig, point: Point, folder: Path, device: torch.device) -> Row | None:
    """Train and judge; None where the training was told to stop."""
    settings = train_config(config, point, folder)
    place = place_of(folder, point)
    result, peak = _train(settings, place, device)
    if result.reason == "terminated":
        return None
    potential = open_model(str(result.model), Execution(device=str(device)))
    test, labels, max_edges = folder / PARTS / "test.extxyz", config.data.labels, config.budget.max_edges
    evaluation, _ = collect(evaluate_frames(potential, read_frames(test), labels, max_edges=max_edges))
    errors: dict[str, Any] = {}
    for each in QUANTITIES:
        if (one := evaluation.quantities.get(each.name)) is not None:
            errors |= {f"{each.name}_mae_{each.column}": one.mae, f"{each.name}_rmse_{each.column}": one.rmse}
    samples = load_samples([test], potential.cutoff, config.data.labels, (), keep_unconverged=True)
    progress = load_state(settings_state(settings))[1]["progress"]
    per_epoch = _steps_per_epoch(settings, progress)
    return Row(
        **point.key,
        status=DONE,
        **errors,
        test_structures=evaluation.frames,
        parameters=sum(parameter.numel() for parameter in potential.parameters()),
        steps=progress["step"],
        epochs=progress["step"] / per_epoch,
        seconds=progress["seconds"],
        seconds_per_epoch=progress["seconds"] / max(1, progress["step"]) * per_epoch,
        microseconds_per_atom=microseconds_per_atom(potential, samples, config.budget.max_edges),
        peak_memory_MiB=peak,
    )


def _train(settings: TrainConfig, place: Path, device: torch.device) -> tuple[TrainResult, float]:
    """Start, or go on from the checkpoint; with the highest memory of this and of former processes, MiB."""
    import matplotlib.backends.backend_agg  # noqa: F401 - loaded before memory is measured, not while

    resume = settings_state(settings).exists()
    memory = PeakMemory(device)
    result = train(settings, resume=resume, progress=False)
    before = json.loads((place / _PEAK).read_text())["MiB"] if resume and (place / _PEAK).exists() else 0.0
    peak = max(before, memory.mebibytes())
    write_result(place / _PEAK, json.dumps({"MiB": peak}).encode())
    return result, peak


def settings_state(settings: TrainConfig) -> Path:
    """The checkpoint of a training."""
    return Path(settings.run.folder) / STATE


def _steps_per_epoch(settings: TrainConfig, progress: dict[str, Any]) -> float:
    """Mean over the epochs that were completed; of the first one where none was."""
    if progress["epoch"]:
        return (progress["step"] - progress["batch"]) / progress["epoch"]
    samples, _ = load_split(settings.data, starting_cutoff(settings))
    budget = settings.budget
    loader = Loader(samples, max_edges=budget.max_edges, seed=settings.run.seed, max_structures=budget.max_structures)
    return loader.len_epoch(0)


def _stop_with_parent() -> None:
    """SIGTERM to oneself when the other end of standard input is gone."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            os.read(0, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main(words: list[str]) -> int:
    """Exit status of `python -m mlanet.sweep.point FOLDER NAME`."""
    folder, name, *rest = words
    if WITH_PARENT in rest:
        _stop_with_parent()
    try:
        return run_point(Path(folder), name)
    except MLANetError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
