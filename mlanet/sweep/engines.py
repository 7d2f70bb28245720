"""Ways to run points: processes of this machine, one after another or several at once, and Ray on a cluster.

All of them start the same command for each point (`mlanet.sweep.point`) in a fresh process, and hand on exit statuses
as points end. Leaving an engine early stops what runs; every point then goes on from its checkpoint another time.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import NamedTuple

import mlanet
from mlanet.errors import ConfigError
from mlanet.interruption import Signals
from mlanet.workflows.ray_workers import ray_module

GRACE = 20.0
"""s for a point to write its checkpoint after SIGTERM; one that is killed instead goes on from an earlier one."""

POLL = 0.05
"""s between looks at running processes."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")

TERMINATED = 143
"""Exit status of a point that was told to stop; it goes on from its checkpoint."""

FILE_ERROR = 3
"""Exit status where files could not be written or read: no fault of the point's, so no result either."""

WITH_PARENT = "--with-parent"
"""Stop when standard input closes: no process outlives the one that started it, however that ended."""


class Job(NamedTuple):
    """A point to run: the sweep's folder, the point's name and folder, and its CPU threads."""

    folder: str
    name: str
    place: str
    threads: int


class Ended(NamedTuple):
    """A job with its exit status; negative: killed by that signal."""

    job: Job
    status: int


Engine = Callable[[Sequence[Job]], Generator[Ended, None, None]]
"""Hands on each job as it ends; returns before all have ended only where SIGTERM came."""


def processes(jobs_at_once: int = 1, gpus: int = 0) -> Engine:
    """Fresh processes of this machine.

    Args:
        jobs_at_once: 1 is one after another.
        gpus: with several jobs at once, each gets one of these.
    """

    def run(jobs: Sequence[Job]) -> Generator[Ended, None, None]:
        waiting, free = deque(jobs), deque(range(jobs_at_once))
        running: dict[int, tuple[Job, subprocess.Popen[bytes]]] = {}
        with Signals() as signals:
            try:
                while (waiting or running) and not signals.take_stop():
                    while waiting and free:
                        slot = free.popleft()
                        job = waiting.popleft()
                        running[slot] = job, _start(job, str(slot % gpus) if gpus > 1 and jobs_at_once > 1 else None)
                    for slot in [slot for slot, (_, process) in running.items() if process.poll() is not None]:
                        job, process = running.pop(slot)
                        free.append(slot)
                        _close(process)
                        yield Ended(job, process.returncode)
                    time.sleep(POLL)
            finally:
                _stop([process for _, process in running.values()])

    return run


def on_ray(address: str | None = None, gpu: bool = False) -> Engine:
    """Tasks of Ray, on a cluster or (without an address) on this machine.

    The folder of the sweep must be the same on all nodes, and mlanet installed there. A task asks for the point's
    threads as CPUs and, with `gpu`, for one GPU.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster at the address.
    """
    ray = ray_module()

    def run(jobs: Sequence[Job]) -> Generator[Ended, None, None]:
        _connect(ray, address)
        try:
            # After the start of Ray, which installs a handler of its own.
            with Signals() as signals:
                task = ray.remote(max_retries=0)(_run_here)
                resources = {"num_gpus": 1} if gpu else {}
                waiting = {task.options(num_cpus=job.threads, **resources).remote(job): job for job in jobs}
                try:
                    while waiting and not signals.take_stop():
                        for reference in ray.wait(list(waiting), num_returns=1, timeout=10 * POLL)[0]:
                            job = waiting.pop(reference)
                            yield Ended(job, _status(ray, reference))
                finally:
                    for reference in waiting:
                        ray.cancel(reference, force=False)
                    if waiting:
                        ray.wait(list(waiting), num_returns=len(waiting), timeout=GRACE)
        finally:
            ray.shutdown()

    return run


def _start(job: Job, gpu: str | None = None) -> subprocess.Popen[bytes]:
    """The point's process: its own session, so that Ctrl-C reaches the sweep alone, which then stops it in order."""
    environment = os.environ | {name: str(job.threads) for name in THREAD_VARIABLES}
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        environment.pop(name, None)
    root = str(Path(mlanet.__file__).resolve().parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    Path(job.place).mkdir(parents=True, exist_ok=True)
    with open(Path(job.place) / "output.txt", "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "mlanet.sweep.point", job.folder, job.name, WITH_PARENT],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def _run_here(job: Job) -> int:
    """A point from start to end, inside a task of Ray; the process is fresh there too."""
    process = _start(job)
    try:
        while process.poll() is None:  # a cancelled task is interrupted between Python's steps, not inside a wait
            time.sleep(POLL)
        return process.returncode
    finally:
        _stop([process])


def _stop(running: Sequence[subprocess.Popen[bytes]]) -> None:
    """SIGTERM to all, time for a checkpoint, then SIGKILL; a second interruption kills at once."""
    try:
        for process in running:
            process.terminate()
        end = time.monotonic() + GRACE
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()
            _close(process)


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()


def _status(ray, one) -> int:  # type: ignore[no-untyped-def]  # Ray is optional
    """What a task returned; a task that Ray lost counts as killed."""
    try:
        return int(ray.get(one))
    except ray.exceptions.RayError as error:
        print(f"Ray lost a point: {error}", file=sys.stderr)
        return -9


def _connect(ray, address: str | None) -> None:  # type: ignore[no-untyped-def]  # Ray is optional
    """To a cluster, or a small one of this machine."""
    quiet = {"logging_level": "ERROR", "log_to_driver": False, "include_dashboard": False}
    if address is not None:
        quiet.pop("include_dashboard")
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"Ray at '{address or 'this machine'}' does not answer: {error}") from None
