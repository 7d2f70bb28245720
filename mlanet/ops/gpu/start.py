"""How kernels in Triton are started: their numbers, sizes of tiles, and the programs of a grid."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Number = tuple[Tensor, ...]
"""A value, or a value and its slope."""

REGISTERS = 8
"""Of a thread of a program of one warp, for a plane of edges × channels: a dozen planes are alive at a time."""

LANES = 32
"""Threads of a warp."""


def padded(size: int, least: int = 1) -> int:
    """The next power of two, at least `least`; the inner size of matrix products wants 16.

    >>> padded(10, 16), padded(48, 16)
    (16, 64)
    """
    return max(least, 1 << (size - 1).bit_length())


def product_precision() -> str:
    """Of matrix products in kernels: as precise as torch's own are asked to be."""
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"


def edges_at_a_time(width: int, dtype: torch.dtype) -> int:
    """So many that a plane fills REGISTERS, at most 16; width: padded channels.

    >>> edges_at_a_time(64, torch.float32), edges_at_a_time(64, torch.float64), edges_at_a_time(4, torch.float32)
    (4, 2, 16)
    """
    return max(1, min(16, REGISTERS * LANES * 4 // (width * dtype.itemsize)))


def plain(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Contiguous, without history."""
    return [tensor.detach().contiguous() for tensor in tensors]


def numbers(values: Sequence[Tensor], along: Sequence[Tensor] | None) -> list[Number]:
    """Values, with their slopes along a direction if one is given."""
    if along is None:
        return [(tensor,) for tensor in plain(values)]
    return list(zip(plain(values), plain(along), strict=True))


def start(
    kernel: Any, grid: tuple[int, ...], device: torch.device, warps: int, *arguments: Any, **constants: Any
) -> None:
    """One kernel on a device; nothing if there are no programs."""
    if all(grid):
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            kernel[grid](*arguments, num_warps=warps, num_stages=1, **constants)
