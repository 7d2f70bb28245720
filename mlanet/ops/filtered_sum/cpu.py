"""The filtered sums of scalar-vector networks as an operation in C++ (filtered.hpp)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mlanet.ops.cpp.operation import NativeCall, NativeOperation
from mlanet.ops.cpp.padding import cropped_layers, padded_layers
from mlanet.ops.filtered_sum.reference import FilteredSumOfRows
from mlanet.ops.rows import Rows

ANY_L = 1
"""Filtered sums know no l_max; this library has them."""


class _Sizes(ctypes.Structure):
    """As in filtered.hpp."""

    _fields_ = [(name, ctypes.c_int64) for name in ("centers", "atoms", "channels", "functions", "vectors", "threads")]


class NativeFilteredSum(FilteredSumOfRows, NativeOperation):
    """In C++. Cost per edge 2 K · (2 or 3) F FLOP for the filters. Memory O(N)."""

    def call(self, tensors: Sequence[Tensor]) -> NativeCall:
        """See `NativeOperation`."""
        return _Call(self.rows, tensors)


class _Call(NativeCall):
    """Weight: the transpose of W."""

    kernel = "mlanet_filtered"
    weight_places = 1

    def __init__(self, rows: Rows, tensors: Sequence[Tensor]) -> None:
        *inputs, weight = tensors
        super().__init__(ANY_L, rows, weight.dtype)
        self.groups = 3 if inputs[0].shape[1] > 2 else 2
        self.weights = padded_layers([weight.T], self.groups, self.lanes)
        self.inputs = self.pad(inputs)
        self.sizes = _Sizes(
            centers=self.centers,
            atoms=len(inputs[0]),
            channels=self.inputs[0].shape[2],
            functions=inputs[1].shape[1],
            vectors=self.groups == 3,
            threads=self.threads,
        )

    def given(self, inputs: Any) -> tuple[Any, ...]:
        """See `NativeCall`."""
        return self.graph, inputs, self.weights[0]

    def room(self) -> Tensor:
        """(N, 4, F) zeros."""
        return self.inputs[0].new_zeros(self.centers, 4, self.sizes.channels)

    def crop(self, inputs: list[Tensor], weights: list[Tensor], like: Sequence[Tensor]) -> Sequence[Tensor]:
        """See `NativeCall`."""
        layers = cropped_layers(weights, [like[-1].T], self.groups)
        return [*super().crop(inputs, weights, like), *(layer.T for layer in layers)]
