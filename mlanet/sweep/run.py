"""A sweep from start to end: finished points are read, the others run by an engine, tables and report written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlanet.errors import OutputError
from mlanet.files import write_result
from mlanet.ownership import owned
from mlanet.sweep.config import SweepConfig
from mlanet.sweep.engines import FILE_ERROR, TERMINATED, Engine, Job
from mlanet.sweep.folder import (
    RESULT,
    TABLE,
    Started,
    open_folder,
    place_of,
    read_result,
    save_result,
)
from mlanet.sweep.plan import Point
from mlanet.sweep.recommend import Recommendation, recommend
from mlanet.sweep.table import DONE, FAILED, Result, Row, failed, to_csv

STOPPED = (TERMINATED, -15)
"""Exit statuses of a point that SIGTERM ended, with and without time for a checkpoint."""

Watch = Callable[[Iterable[Any], str, int], Iterator[Any]]
"""Passes things on while showing how many of how many are done."""


@dataclass(frozen=True)
class SweepResult:
    """What a sweep came to: rows in the order of the plan, points without a result, and the files written."""

    folder: Path
    rows: tuple[Row, ...]
    unfinished: tuple[str, ...]
    remarks: tuple[str, ...]
    recommendation: Recommendation
    files: tuple[Path, ...]

    @property
    def done(self) -> int:
        """Points with errors and costs."""
        return sum(row.status == DONE for row in self.rows)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def sweep(
    config: SweepConfig,
    engine: Engine,
    *,
    at_once: int = 1,
    retry: bool = False,
    watch: Watch = lambda things, label, total: iter(things),
) -> SweepResult:
    """Run what is missing of a sweep and write `table.csv`, `table.json`, pictures and `report.html`.

    Interrupted (SIGTERM, or Ctrl-C as KeyboardInterrupt), it stops what runs, writes what it has, and goes on another
    time from the checkpoints; with a budget of steps the table then is that of a sweep never stopped, but for times
    and memory.

    Args:
        config: everything that decides the results.
        engine: what runs the points; any gives the same table.
        at_once: points that run at once, to share out the cores where the settings do not say.
        retry: run failed points again.
        watch: for a progress bar.
    Raises:
        ConfigError: a folder with other settings, or one that another run holds.
        DataError: data that cannot be used.
        OutputError: a place that cannot be written.
    """
    folder = Path(config.output)
    with owned(folder, "mlanet sweep"):
        started = open_folder(config, max(1, available_cores() // at_once))
        points = started.plan.points
        results = {point: result for point in points if (result := read_result(folder, point)) is not None}
        if retry:
            for point in [point for point, result in results.items() if result.row.status == FAILED]:
                del results[point]
                (place_of(folder, point) / RESULT).unlink()
        try:
            for _ in watch(_results(started, folder, engine, results), "points", len(points)):
                write_result(folder / TABLE, to_csv([results[point].row for point in points if point in results]))
        finally:
            files = _report(started, folder, results)
    rows = tuple(results[point].row for point in points if point in results)
    unfinished = tuple(point.name for point in points if point not in results)
    return SweepResult(folder, rows, unfinished, started.plan.remarks, recommend(rows), files)


def _results(started: Started, folder: Path, engine: Engine, results: dict[Point, Result]) -> Iterator[Point]:
    """Every point as it is known, the finished ones first; they go into `results`."""
    yield from list(results)
    todo = {point.name: point for point in started.plan.points if point not in results}
    threads = started.used.run.threads or 1
    jobs = [Job(str(folder), name, str(place_of(folder, point)), threads) for name, point in todo.items()]
    with contextlib.closing(engine(jobs)) as ended:
        for job, status in ended:
            point = todo[job.name]
            result = read_result(folder, point)
            if result is None and status == FILE_ERROR:
                raise OutputError(f"{job.name}: {_last_words(Path(job.place))}")
            if result is None and status not in STOPPED:
                result = Result(failed(point, _how_it_ended(status, Path(job.place))), {})
                save_result(folder, result)
            if result is not None:
                results[point] = result
                yield point


def _how_it_ended(status: int, place: Path) -> str:
    """Of a process that left no result."""
    if status == -9:
        return "killed by signal 9, as systems do when memory runs out"
    if status < 0:
        return f"killed by signal {-status}"
    return f"ended with status {status}: {_last_words(place)}"


def _last_words(place: Path) -> str:
    """The last line that a point's process wrote."""
    with contextlib.suppress(OSError):
        lines = (place / "output.txt").read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return "it said nothing"


def _report(started: Started, folder: Path, results: dict[Point, Result]) -> tuple[Path, ...]:
    """Tables, pictures and the page, of the points that are known."""
    from mlanet.sweep.report import write_report

    return write_report(folder, started, [results[point] for point in started.plan.points if point in results])
