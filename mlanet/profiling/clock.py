"""How long a call takes, on a device that may still be working when the call returns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar
from unittest import mock

import torch

Key = TypeVar("Key")

WARM_UP = 3
"""Calls before the first that counts: libraries load, caches fill, kernels are chosen."""

PHASES = ("forward", "backward", "double backward")


class Clocks(NamedTuple):
    """One call: wall time (on CUDA that between two events), and time of all threads of this process on a processor.

    On a quiet machine the second is at least the first, one thread being at work at any moment; less of it means that
    the process waited while others were served. None on CUDA, where the processor only gives orders.
    """

    ms: float
    processor_ms: float | None


class Stopwatch:
    """Times one call after another, waiting for the device before and after each.

    On CUDA the time is that between two events in the stream, which is what the device was busy or waiting for; on
    the CPU it is wall time. `wait` stands for the device's synchronisation, so that a test can put another device
    there.
    """

    def __init__(self, device: torch.device, wait: Callable[[], None] | None = None) -> None:
        self.device = device
        self._wait = wait or (lambda: torch.cuda.synchronize(device) if device.type == "cuda" else None)

    def time(self, run: Callable[[], object]) -> float:
        """Milliseconds of one call."""
        return self.clocks(run).ms

    def clocks(self, run: Callable[[], object]) -> Clocks:
        """One call by both clocks."""
        if self.device.type == "cuda":
            return Clocks(self._time_events(run), None)
        self._wait()
        start, processor = time.perf_counter(), time.process_time()
        run()
        self._wait()
        return Clocks(1e3 * (time.perf_counter() - start), 1e3 * (time.process_time() - processor))

    def _time_events(self, run: Callable[[], object]) -> float:
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        self._wait()
        first.record()
        run()
        last.record()
        self._wait()
        return first.elapsed_time(last)

    def phases(self, run: Callable[[], object]) -> dict[str, float]:
        """Milliseconds of the phases of one call: up to the first derivative, that derivative, the derivative of it.

        Found where the computation calls torch.autograd.grad and Tensor.backward, whoever wrote it; the device is
        waited for at every border, so the sum is somewhat larger than `time`.
        """
        spent: list[float] = []

        def total() -> None:
            with _watched(self, spent):
                run()

        whole = self.time(total)
        named = dict(zip(PHASES[1:], spent, strict=False))
        return {"forward": max(0.0, whole - sum(spent)), **named}


@contextmanager
def _watched(watch: Stopwatch, spent: list[float]) -> Iterator[None]:
    """Append the milliseconds of every outermost derivative taken inside the block."""
    depth = 0

    def timed(original: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal depth
            if depth:
                return original(*args, **kwargs)
            depth += 1
            answers: list[object] = []
            try:
                spent.append(watch.time(lambda: answers.append(original(*args, **kwargs))))
            finally:
                depth -= 1
            return answers[0]

        return call

    with (
        mock.patch("torch.autograd.grad", timed(torch.autograd.grad)),
        mock.patch("torch.Tensor.backward", timed(torch.Tensor.backward)),
    ):
        yield


@dataclass
class Sample:
    """Times of the same call in many rounds, ms."""

    values: list[float] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """Between the sorted values by linear interpolation; 0.5 is the median.

        >>> Sample([3.0, 1.0, 2.0]).quantile(0.5)
        2.0
        """
        if len(self.values) == 1:
            return self.values[0]
        return float(torch.tensor(self.values, dtype=torch.float64).quantile(share))

    @property
    def noise(self) -> float:
        """Half of the distance from p20 to p80 over the median."""
        return 0.5 * (self.quantile(0.8) - self.quantile(0.2)) / self.quantile(0.5)


def interleaved(keys: Iterable[Key], rounds: int, warm_up: int = WARM_UP) -> list[tuple[bool, Key]]:
    """(whether it counts, key) in rounds A B C A B C …, so that a busy machine slows all alike.

    Args:
        rounds: that count.
        warm_up: rounds before them, which do not.
    """
    keys = list(keys)
    return [(turn >= warm_up, key) for turn in range(warm_up + rounds) for key in keys]


def overhead(watch: Stopwatch, calls: int = 200) -> float:
    """Milliseconds that timing an empty call takes: what no shorter time can be trusted below."""
    return statistics.median(watch.time(lambda: None) for _ in range(calls))
