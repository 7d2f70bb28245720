"""The queue: every training in a process of its own, one or several at a time; rows are added as trainings end.

Nothing is lost by any interruption. A training that is stopped or killed goes on from its checkpoint, and its row is
added to the table whole or not at all, by the one process that holds the folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from accuracy.one import ROW, STOPPED
from accuracy.plan import Benchmark, Row, Training, fits, of_equal_time, row_of, trainings
from mlanet.files import append_whole, cut_back, end_of_lines
from mlanet.interruption import Signals
from mlanet.ownership import owned

POLL = 0.2
GRACE = 30.0
"""s for a checkpoint after SIGTERM."""
TABLE = "rows.jsonl"


def read_rows(table: Path) -> list[Row]:
    """All rows; a line that was cut off by a full disk is none."""
    if not table.exists():
        return []
    return [json.loads(line) for line in table.read_bytes()[: end_of_lines(table)].splitlines()]


def missing(benchmarks: Sequence[Benchmark], rows: Sequence[Row], only: dict[str, str]) -> list[Training]:
    """What is to be trained, in order: a seed of every set before the next seed; then those of equal time.

    Args:
        benchmarks: what is compared.
        rows: what has been trained.
        only: values of switches; variants with others wait for another time.
    """
    first = [training for one in benchmarks for training in trainings(one)]
    first.sort(key=lambda one: one.benchmark.seeds.index(one.seed))
    later = [training for one in benchmarks for training in of_equal_time(one, rows)]
    chosen = [one for one in [*first, *later] if fits(one.variant, only)]
    return [one for one in chosen if row_of(one, rows) is None]


def work(benchmarks: Sequence[Benchmark], folder: Path, results: Path, at_once: int, only: dict[str, str]) -> bool:
    """Run what is missing; True when all is done, False when stopped by SIGTERM or Ctrl-C.

    Args:
        benchmarks: what is compared.
        folder: for data, checkpoints and logs of the trainings.
        results: where the table is.
        at_once: trainings at a time, one core each.
        only: values of switches; variants with others are left out.
    """
    table = results / TABLE
    results.mkdir(parents=True, exist_ok=True)
    running: dict[str, tuple[Training, subprocess.Popen[bytes]]] = {}
    failed: set[str] = set()
    with owned(folder, "accuracy, the queue"), owned(results, "accuracy, the queue"), Signals() as signals:
        if table.exists():
            cut_back(table, end_of_lines(table))
        try:
            with signals.keyboard():
                waiting = missing(benchmarks, read_rows(table), only)
                while not signals.take_stop() and (waiting or running):
                    for one in waiting[: at_once - len(running)]:
                        running[one.name] = one, _start(one, folder)
                        waiting.remove(one)
                    time.sleep(POLL)
                    ended = [name for name, (_, process) in running.items() if process.poll() is not None]
                    for name in ended:
                        if not _ended(*running.pop(name), folder, table):
                            failed.add(name)
                    if ended:
                        todo = missing(benchmarks, read_rows(table), only)
                        waiting = [one for one in todo if one.name not in running.keys() | failed]
                return not (waiting or failed or running)
        finally:
            _stop([process for _, process in running.values()])


def _start(one: Training, folder: Path) -> subprocess.Popen[bytes]:
    """In the queue's own session, so that a priority given to that reaches it."""
    place = folder / one.name
    place.mkdir(parents=True, exist_ok=True)
    words = ["one", str(folder), one.benchmark.name, one.name, str(one.steps)]
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    print(f"{time.strftime('%H:%M:%S')} {one.name}, {one.steps} steps", flush=True)
    with open(place / "output.txt", "ab") as output:
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).parent), *words],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | threads,
        )


def _ended(one: Training, process: subprocess.Popen[bytes], folder: Path, table: Path) -> bool:
    """Add the row of a training; False if it left none, of which a line tells."""
    if process.stdin is not None:
        process.stdin.close()
    row = folder / one.name / ROW
    if process.returncode == 0 and row.exists():
        ended = json.loads(row.read_text())
        append_whole(table, (json.dumps(ended) + "\n").encode())
        print(f"{time.strftime('%H:%M:%S')} {one.name}: {ended['status']}, {ended.get('processor_s')} s", flush=True)
        return True
    stopped = process.returncode in (STOPPED, -15)
    print(f"{one.name}: ended with {process.returncode}; see {folder / one.name / 'output.txt'}", flush=True)
    return stopped


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """SIGTERM, time for a checkpoint, SIGKILL."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
