"""The product of a node's features with themselves as an operation in C++ (product.hpp)."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mlanet.ops.cpp.calls import addresses
from mlanet.ops.cpp.operation import NativeCall, NativeOperation
from mlanet.ops.node_product.reference import Product, terms


class _Sizes(ctypes.Structure):
    """As in product.hpp."""

    _fields_ = [(name, ctypes.c_int64) for name in ("nodes", "channels", "rows_in", "rows_out", "paths", "threads")]


class NativeProduct(Product, NativeOperation):
    """In C++. Memory O(N)."""

    def call(self, tensors: Sequence[Tensor]) -> NativeCall:
        """See `NativeOperation`."""
        return _Call(self.l_out, tensors)


class _Call(NativeCall):
    """Over nodes, not edges."""

    kernel = "mlanet_product"
    gathered = 0
    weight_places = 1

    def __init__(self, l_out: int, tensors: Sequence[Tensor]) -> None:
        l_in = math.isqrt(tensors[0].shape[1]) - 1
        super().__init__(l_in, None, tensors[0].dtype)
        self.inputs, self.weights = self.pad(tensors[:1]), [self.wide(tensors[1])]
        self.table = addresses(terms(l_in, l_out, tensors[0].dtype))
        nodes, rows, channels = self.inputs[0].shape
        self.sizes = _Sizes(nodes, channels, rows, (l_out + 1) ** 2, len(tensors[1]), self.threads)

    def given(self, inputs: Any) -> tuple[Any, ...]:
        """See `NativeCall`."""
        return self.table, self.weights[0], inputs

    def room(self) -> Tensor:
        """(N, (l_out+1)², C), unfilled."""
        return self.inputs[0].new_empty(self.sizes.nodes, self.sizes.rows_out, self.sizes.channels)

    def crop(self, inputs: list[Tensor], weights: list[Tensor], like: Sequence[Tensor]) -> Sequence[Tensor]:
        """See `NativeCall`."""
        return [each[..., : like[0].shape[-1]] for each in (*inputs, *weights)]
