"""How tensors get into and out of the C++ kernels: addresses, sizes, a place for each thread's sums."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mlanet.ops.rows import Rows

MAX_DEPTH = 4
"""Layers of a radial network, as in radial.hpp."""


class Graph(ctypes.Structure):
    """As in attention.hpp."""

    _fields_ = [("neighbor", ctypes.c_void_p), ("start", ctypes.c_void_p)]


def widths_field(mlp: Sequence[int]) -> Any:
    """Widths of a radial network in an array of fixed length."""
    return (ctypes.c_int64 * (MAX_DEPTH + 1))(*mlp)


def addresses(tensors: Sequence[Tensor | None]) -> Any:
    """A structure of pointers, in the order of the fields that it stands for."""
    return (ctypes.c_void_p * len(tensors))(*(None if tensor is None else tensor.data_ptr() for tensor in tensors))


def interleaved(values: Sequence[Tensor], changes: Sequence[Tensor]) -> list[Tensor]:
    """Each value with its derivative behind it, as dual numbers lie in `Array<T, 2>`."""
    return [tensor for pair in zip(values, changes, strict=True) for tensor in pair]


def graph_of(rows: Rows) -> Any:
    """A pointer to a `Graph` of edges, which live as long as their rows."""
    return ctypes.byref(Graph(rows.neighbor.data_ptr(), rows.start.data_ptr()))


def run(library: ctypes.CDLL, name: str, sizes: ctypes.Structure, *arguments: Any) -> None:
    """Run a kernel, in view of torch's profiler; tensors must be contiguous and live as long as the call."""
    given = [
        ctypes.c_void_p(argument.data_ptr()) if isinstance(argument, Tensor) else argument for argument in arguments
    ]
    watched = torch.autograd._profiler_enabled()  # entering a name costs as much as a small kernel
    with torch.profiler.record_function(name) if watched else contextlib.nullcontext():
        getattr(library, name)(ctypes.byref(sizes), *given)


def own_places(threads: int, like: Sequence[Tensor]) -> list[Tensor]:
    """Zeros (threads, …): each thread adds to its own, so sums depend on nothing but the number of threads."""
    return [tensor.new_zeros(threads, *tensor.shape) for tensor in like]


def joined(place: Tensor) -> Tensor:
    """Σ over the threads."""
    return place[0] if len(place) == 1 else torch.sum(place, 0)
