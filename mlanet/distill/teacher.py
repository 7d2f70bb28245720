"""Labels from processes of another interpreter, in the order in which they are ready."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from ase import Atoms

from mlanet.distill.config import TeacherConfig
from mlanet.errors import MLANetError

T = TypeVar("T")


class TeacherError(MLANetError):
    """A teacher that cannot be started or died."""


class Teacher:
    """Worker processes with one ASE calculator each; a context manager that ends them.

    Raises:
        TeacherError: the interpreter or the teacher is missing; the message holds the last line it said.
    """

    def __init__(self, config: TeacherConfig, folder: Path) -> None:
        self.name = config.name
        self._workers = [_Worker(config, folder / f"teacher-{index}.log") for index in range(config.workers)]
        self.elements: tuple[int, ...] | None = None
        for worker in self._workers:
            elements = worker.receive()["elements"]
            self.elements = tuple(elements) if elements else None

    def __enter__(self) -> Teacher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for worker in self._workers:
            worker.end()

    def label(self, structures: Iterable[tuple[T, Atoms]]) -> Iterator[tuple[T, Atoms, dict[str, Any]]]:
        """Yield (tag, structure, answer of `worker.labels`) for each (tag, structure), first ready first.

        Whoever stops early waits for what the workers are at: an answer left in a pipe would be taken for the next one.
        """
        given, answers = queue.Queue[Any](maxsize=len(self._workers)), queue.Queue[Any]()
        stop = threading.Event()

        def feed() -> None:
            try:
                for structure in structures:
                    while not stop.is_set():
                        try:
                            given.put(structure, timeout=0.2)
                            break
                        except queue.Full:
                            continue
                    if stop.is_set():
                        return
            except BaseException as error:
                answers.put(error)
            finally:
                for _ in self._workers:
                    given.put(None)

        def work(worker: _Worker) -> None:
            try:
                while (one := given.get()) is not None:
                    if not stop.is_set():
                        worker.send(one[1])
                        answers.put((*one, worker.receive()))
            except BaseException as error:
                answers.put(error)
            answers.put(None)

        threads = [threading.Thread(target=feed, daemon=True)]
        threads += [threading.Thread(target=work, args=(worker,), daemon=True) for worker in self._workers]
        for thread in threads:
            thread.start()
        try:
            working = len(self._workers)
            while working:
                answer = answers.get()
                if isinstance(answer, BaseException):
                    raise answer
                if answer is None:
                    working -= 1
                else:
                    yield answer
        finally:
            stop.set()
            for thread in threads:
                thread.join()


class _Worker:
    """One process of `worker.py`."""

    def __init__(self, config: TeacherConfig, log: Path) -> None:
        self._log = log
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"} | _MALLOC
        if config.python:  # the other interpreter has packages of its own
            environment.pop("PYTHONPATH", None)
        command = [config.python or sys.executable, str(Path(__file__).with_name("worker.py")), config.name]
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(log, "wb") as errors:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True
                )
        except OSError as error:
            raise TeacherError(f"teacher '{config.name}': {command[0]} cannot be run: {error.strerror}") from None

    def send(self, atoms: Atoms) -> None:
        """Ask for labels."""
        request = {
            "numbers": atoms.numbers.tolist(),
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.array.tolist(),
            "pbc": atoms.pbc.tolist(),
        }
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self._died() from None

    def receive(self) -> dict[str, Any]:
        """The next answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """Close its input, which ends it; kill it if it does not."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _died(self) -> TeacherError:
        """With the last line of what it said."""
        said = self._log.read_text(errors="replace").strip().splitlines()
        return TeacherError(f"the teacher's process ended: {said[-1] if said else 'it said nothing'} (see {self._log})")


_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "8589934592", "MALLOC_TRIM_THRESHOLD_": "8589934592"}
"""Memory of one step is kept for the next: without, a fifth of the time goes into empty pages."""
