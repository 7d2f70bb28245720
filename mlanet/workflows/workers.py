"""Many processes, of this machine or of a Ray cluster, for work that falls into parts; what comes out is in order.

Parts are computed by the same functions as without workers, each in a process that opens the model once, and their
results are written by the process that was started: files come out as from one process.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from mlanet.data.formats import Refused, pass_over
from mlanet.data.read import Frame
from mlanet.errors import MLANetError

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 2
"""Parts for each process that are handed out before the first is back."""
PART_ATOMS = 2_000
PART_FRAMES = 64
"""Of a part; smaller ones spend their time on the way."""


class WorkerLostError(MLANetError):
    """A process that ended without an answer, for want of memory most likely."""


Handle = Callable[[], "R | WorkerLostError"]
"""Waits for a result."""


@dataclass(frozen=True)
class Crew:
    """Who works.

    - workers: processes; 1 is none besides this one · ray: address of a cluster ("auto" finds one, "local" makes a
      small one of this machine), or None: processes of this machine
    """

    workers: int = 1
    ray: str | None = None

    @property
    def alone(self) -> bool:
        """Whether this process does everything."""
        return self.workers == 1 and self.ray is None


@dataclass(frozen=True)
class Part(Generic[T]):
    """What came out of a part.

    - results: in order · refused: errors of what was passed over · error: what ended it, after the results
    - remarks: warnings, to be given by whoever speaks to the user
    """

    results: list[T]
    refused: list[MLANetError] = field(default_factory=list)
    error: MLANetError | None = None
    remarks: list[str] = field(default_factory=list)

    def deliver(self, refused: Refused | None) -> Iterator[T]:
        """Its results, then its errors."""
        yield from self.results
        for error in self.refused:
            pass_over(error, refused)
        if self.error is not None:
            raise self.error


def gathered(work: Callable[[Refused | None], Iterable[T]], keep_going: bool) -> Part[T]:
    """A part, worked off here.

    Args:
        work: a workflow, which takes `refused`.
        keep_going: whether errors of single structures are passed over.
    """
    results: list[T] = []
    refused: list[MLANetError] = []
    error = None
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            results.extend(work(refused.append if keep_going else None))
        except MLANetError as stopped:
            error = stopped
    return Part(results, refused, error, remarks_in(heard))


def remarks_in(heard: Iterable[warnings.WarningMessage]) -> list[str]:
    """What warnings tell a user, each once."""
    return list(dict.fromkeys(str(one.message) for one in heard if issubclass(one.category, UserWarning)))


def parts_of(frames: Iterable[Frame], most: int = PART_FRAMES) -> Iterator[list[Frame]]:
    """Frames by handfuls; an error between frames comes after the frames before it."""
    waiting: list[Frame] = []
    try:
        for frame in frames:
            waiting.append(frame)
            if len(waiting) >= most or sum(len(task.atoms) for task in waiting) >= PART_ATOMS:
                yield waiting
                waiting = []
    except MLANetError:
        if waiting:
            yield waiting
        raise
    if waiting:
        yield waiting


def worked(
    crew: Crew,
    work: Callable[[list[Frame]], Part[T]],
    frames: Iterable[Frame],
    refused: Refused | None,
    most: int = PART_FRAMES,
) -> Iterator[T]:
    """The results of a workflow over frames, in their order.

    Args:
        crew: who works; see `in_order`.
        work: a function of a module, or a `functools.partial` of one, that other processes can import.
        frames: read here.
        refused: is handed the errors of structures; None: the first is raised, after everything before it.
        most: frames of a part.
    Raises:
        MLANetError: as the workflow.
    """
    warned = False
    for part, answer in in_order(crew, work, parts_of(frames, most)):
        if isinstance(answer, WorkerLostError):
            answer = Part([], [type(answer)(f"{frame.where}: {answer}") for frame in part])
        for remark in answer.remarks if not warned else ():  # once, as a process alone
            warned = True
            warnings.warn(remark, stacklevel=2)
        yield from answer.deliver(refused)


def in_order(
    crew: Crew, function: Callable[[T], R], things: Iterable[T], known: Callable[[T], R | None] = lambda _: None
) -> Iterator[tuple[T, R | WorkerLostError]]:
    """Each thing with what a function makes of it, computed by a crew, in the order of the things.

    A process that is killed costs its own part: parts that were on their way with it are computed again, each alone.

    Args:
        crew: who computes; alone, one after another here.
        function: of a module, or a `functools.partial` of one, that other processes can import.
        things: taken as there is room.
        known: what need not be computed.
    Raises:
        ConfigError: Ray is not installed or not there.
        MLANetError: of `things`, after what came before.
    """
    source = iter(things)
    stopped: StopIteration | MLANetError | None = None
    waiting: deque[tuple[T, Handle[R]]] = deque()
    with _engine(crew) as engine:
        while True:
            while stopped is None and len(waiting) < engine.ahead:
                try:
                    thing = next(source)
                except StopIteration as end:
                    stopped = end
                except MLANetError as error:
                    stopped = error
                else:
                    old = known(thing)
                    waiting.append((thing, engine.submit(function, thing) if old is None else _Known(old)))
            if not waiting:
                break
            thing, handle = waiting.popleft()
            yield thing, handle()
    if isinstance(stopped, MLANetError):
        raise stopped


class _Known(Generic[R]):
    """A result that is there."""

    def __init__(self, result: R) -> None:
        self._result = result

    def __call__(self) -> R:
        return self._result


class _Engine(Protocol):
    ahead: int
    """Things that may be on their way at once."""

    def submit(self, function: Callable[[T], R], thing: T) -> Handle[R]:
        """Hand out one thing."""


@contextlib.contextmanager
def _engine(crew: Crew) -> Iterator[_Engine]:
    if crew.alone:
        yield _Here()
        return
    if crew.ray is not None:
        from mlanet.workflows.ray_workers import OnRay

        with contextlib.closing(OnRay(crew.ray, crew.workers)) as engine:
            yield engine
        return
    processes = _Processes(crew.workers)
    try:
        yield processes
    finally:
        processes.close()


class _Here:
    """This process, one thing after another."""

    ahead = 1

    def submit(self, function: Callable[[T], R], thing: T) -> Handle[R]:
        """Nothing is done before the result is asked for."""
        return functools.partial(function, thing)


class _Processes:
    """Fresh processes of this machine, which share its cores."""

    def __init__(self, workers: int) -> None:
        self._workers, self.ahead = workers, AHEAD * workers
        self._before = {process.pid for process in multiprocessing.active_children()}
        self._pool: Executor = _pool(workers, workers)

    def submit(self, function: Callable[[T], R], thing: T) -> Handle[R]:
        """Hand out one thing."""
        try:
            future = self._pool.submit(function, thing)
        except BrokenProcessPool:
            self._pool = _pool(self._workers, self._workers)
            future = self._pool.submit(function, thing)
        return functools.partial(self._result, future, function, thing)

    def _result(self, future: Future[R], function: Callable[[T], R], thing: T) -> R | WorkerLostError:
        try:
            return future.result()
        except BrokenProcessPool:
            pass
        with _pool(1, self._workers) as alone:  # whichever part it was that killed the others' process
            try:
                return alone.submit(function, thing).result()
            except BrokenProcessPool:
                return WorkerLostError("the process that computed it ended without an answer; it may need more memory")

    def close(self) -> None:
        """End all that runs."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            if process.pid not in self._before:
                process.terminate()


def _pool(processes: int, sharing: int) -> ProcessPoolExecutor:
    """A pool whose processes know nothing of this one's threads; so many share the machine.

    Where the system can, they are copies of one that has loaded what they need, and nothing else: torch, which takes
    seconds, where this process has it.
    """
    threads = max(1, (os.cpu_count() or 1) // sharing)
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    with_torch = ["mlanet.checkpoint", "mlanet.kernels"] if "torch" in sys.modules else []
    context.set_forkserver_preload(["mlanet.workflows.predict", "mlanet.workflows.relax_files", *with_torch])
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(threads,))


def _begin(threads: int) -> None:
    """Once in each process: its share of the cores; Ctrl-C is for the process that was started."""
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for whoever is loaded later
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
