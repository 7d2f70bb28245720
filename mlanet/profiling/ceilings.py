"""What this machine can do at best: bytes moved and floating-point operations per second, measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mlanet.profiling.clock import Stopwatch

REPEATS = 7


@dataclass(frozen=True)
class Ceilings:
    """gb_per_s: of a copy between large arrays, reads and writes · gflop_per_s: of a large matrix product."""

    gb_per_s: float
    gflop_per_s: float


def measure_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """The best of some repetitions; a copy of arrays far larger than any cache, and a square matrix product."""
    on_gpu = device.type == "cuda"
    watch = Stopwatch(device)
    count = (1 << 28 if on_gpu else 1 << 25) // dtype.itemsize
    source, target = (torch.ones(count, dtype=dtype, device=device) for _ in range(2))
    copied = min(watch.time(lambda: target.copy_(source)) for _ in range(REPEATS))
    size = 8192 if on_gpu else 1024
    left, right = (torch.rand(size, size, dtype=dtype, device=device) for _ in range(2))
    product = torch.empty_like(left)
    multiplied = min(watch.time(lambda: torch.mm(left, right, out=product)) for _ in range(REPEATS))
    return Ceilings(2e-6 * count * dtype.itemsize / copied, 2e-6 * size**3 / multiplied)
