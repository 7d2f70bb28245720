"""The pooled neighbours of an atom as an operation in C++ (pooling.hpp)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mlanet.ops.cpp.operation import NativeCall, NativeOperation
from mlanet.ops.neighbor_pooling.reference import PoolingOfRows


class _Sizes(ctypes.Structure):
    """As in pooling.hpp."""

    _fields_ = [(name, ctypes.c_int64) for name in ("centers", "atoms", "channels", "threads")]


@dataclass(frozen=True)
class NativePooling(PoolingOfRows, NativeOperation):
    """In C++. Memory O(N). It knows no l_max; that of the model says which library is at hand."""

    l_max: int

    def call(self, tensors: Sequence[Tensor]) -> NativeCall:
        """See `NativeOperation`."""
        return _Call(self, tensors)


class _Call(NativeCall):
    """Without weights."""

    kernel = "mlanet_pooling"

    def __init__(self, operation: NativePooling, tensors: Sequence[Tensor]) -> None:
        super().__init__(operation.l_max, operation.rows, tensors[0].dtype)
        self.inputs = self.pad(tensors)
        self.sizes = _Sizes(self.centers, *self.inputs[0].shape, self.threads)

    def room(self) -> Tensor:
        """(N, 2, C), unfilled."""
        return self.inputs[0].new_empty(self.centers, 2, self.sizes.channels)
