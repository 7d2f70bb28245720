"""The timing code itself: costs that are known, waiting that must not be forgotten."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from mlanet.profiling.clock import Sample, Stopwatch, interleaved, overhead

CPU = torch.device("cpu")


class Device:
    """Works on for `seconds` after a call has returned, as a GPU does."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.work = seconds, []

    def launch(self) -> None:
        self.work.append(threading.Thread(target=time.sleep, args=(self.seconds,)))
        self.work[-1].start()

    def wait(self) -> None:
        for one in self.work:
            one.join()
        self.work.clear()


@pytest.mark.parametrize("cost", [0.01, 0.04])
def test_a_known_cost_is_reported_within_its_noise(cost: float) -> None:
    """The median of calls that sleep for a known time is that time, and no call is reported as shorter."""
    watch = Stopwatch(CPU)
    values = [watch.time(lambda: time.sleep(cost)) for _ in range(15)]
    sample = Sample(values)
    assert min(values) >= 1e3 * cost
    assert sample.quantile(0.5) - 1e3 * cost <= max(1.0, 3 * sample.noise * sample.quantile(0.5)) + overhead(watch)


def test_waiting_for_a_processor_is_told_from_work() -> None:
    """Sleep costs wall time only; work costs both, and never less of the wall's than of one thread's processor."""

    def work() -> None:
        start = time.process_time()
        while time.process_time() - start < 0.03:
            pass

    slept, worked = (Stopwatch(CPU).clocks(run) for run in (lambda: time.sleep(0.05), work))
    assert slept.ms >= 50 and slept.processor_ms < 25
    assert worked.processor_ms >= 30 and worked.ms >= 0.95 * worked.processor_ms


def test_a_forgotten_synchronisation_is_caught() -> None:
    """A device that works on after the call returns is waited for; without the waiting almost nothing is seen."""
    device = Device(0.05)
    assert Stopwatch(CPU, device.wait).time(device.launch) >= 50
    assert Stopwatch(CPU, lambda: None).time(device.launch) < 25
    device.wait()


def test_work_left_over_from_before_is_not_counted() -> None:
    """What the device was still doing when the timed call begins is not the call's."""
    device = Device(0.05)
    device.launch()
    assert Stopwatch(CPU, device.wait).time(lambda: None) < 25


class Slow(torch.autograd.Function):
    """x², with a known time in each pass."""

    @staticmethod
    def forward(ctx, x, depth):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        ctx.depth = depth
        time.sleep((0.01, 0.03, 0.06)[min(depth, 2)])
        return x.square() if depth == 0 else x.clone()

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        slope = 2 * x if ctx.depth == 0 else torch.ones_like(x)
        if ctx.depth == 1:
            time.sleep(0.06)
        return Slow.apply(gradient * slope, ctx.depth + 1) if ctx.depth == 0 else gradient, None


def test_phases_are_told_apart() -> None:
    """Forward, derivative and derivative of the derivative get their own times, wherever they are called."""

    def step() -> None:
        x = torch.ones(3, requires_grad=True)
        energy = Slow.apply(x, 0).sum()
        (force,) = torch.autograd.grad(energy, x, create_graph=True)
        force.square().sum().backward()

    found = Stopwatch(CPU).phases(step)
    assert list(found) == ["forward", "backward", "double backward"]
    assert 10 <= found["forward"] < 30 <= found["backward"] < 60 <= found["double backward"] < 120


def test_derivatives_are_themselves_again_afterwards() -> None:
    """Watching leaves torch as it was, also when the computation fails."""
    before = torch.autograd.grad, torch.Tensor.backward
    with pytest.raises(ZeroDivisionError):
        Stopwatch(CPU).phases(lambda: 1 / 0)
    assert (torch.autograd.grad, torch.Tensor.backward) == before


def test_rounds_are_interleaved() -> None:
    """A B A B …, the first rounds not counted."""
    found = interleaved(["a", "b"], rounds=2, warm_up=1)
    assert "".join(key for _, key in found) == "ababab"
    assert [key for counts, key in found if counts] == ["a", "b", "a", "b"] and found[2][0] and not found[1][0]
