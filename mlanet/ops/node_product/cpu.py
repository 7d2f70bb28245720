"""The product of a node's features with themselves as an operation in C++ (product.hpp)."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mlanet.ops.cpp import library
from mlanet.ops.cpp.calls import addresses, interleaved, joined, own_places, run
from mlanet.ops.cpp.padding import rounded_up, wider
from mlanet.ops.node_product.reference import node_product, terms


class _Sizes(ctypes.Structure):
    """As in product.hpp."""

    _fields_ = [(name, ctypes.c_int64) for name in ("nodes", "channels", "rows_in", "rows_out", "paths", "threads")]


@dataclass(frozen=True)
class NativeProduct:
    """`mlanet.ops.node_product.reference.node_product`, an `Operation` with one input x and one weight. Memory O(N)."""

    l_out: int
    n_inputs: int = field(default=1, init=False)

    def blank(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `Operation`."""
        return tensors[0].new_empty(tensors[0].shape[0], (self.l_out + 1) ** 2, tensors[0].shape[2])

    def value(self, tensors: Sequence[Tensor]) -> Tensor:
        """(N, (l_out+1)², C)."""
        features, weight = self._wide(tensors)
        out = self._new_product(features)
        self._run("mlanet_product", features, weight, addresses([features]), out)
        return out[:, :, : tensors[0].shape[2]]

    def gradient(self, up: Tensor, tensors: Sequence[Tensor], with_weights: bool) -> tuple[Tensor, ...]:
        """See `Operation`."""
        features, weight = self._wide(tensors)
        _, above = self._wide([tensors[0], up])
        to_features = torch.empty_like(features)
        to_weight = own_places(torch.get_num_threads(), [weight])[0] if with_weights else None
        sums = addresses([None, to_features, to_weight])
        self._run("mlanet_product_gradient", features, weight, addresses([features]), above, sums)
        channels = up.shape[2]
        return (to_features[:, :, :channels], *([] if to_weight is None else [joined(to_weight)[:, :channels]]))

    def tangent(self, up: Tensor, along: Sequence[Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """See `Operation`."""
        features, weight = self._wide(tensors)
        change, above = self._wide([along[0], up])
        out, to_features = self._new_product(features), torch.empty_like(features)
        (to_weight,) = own_places(torch.get_num_threads(), [weight])
        both = interleaved([features], [change])
        sums = addresses([out, to_features, to_weight])
        self._run("mlanet_product_tangent", features, weight, addresses(both), above, sums)
        channels = up.shape[2]
        return out[:, :, :channels], to_features[:, :, :channels], joined(to_weight)[:, :channels]

    def reference(self, tensors: Sequence[Tensor]) -> Tensor:
        """In plain torch."""
        return node_product(tensors[0], tensors[1], self.l_out)

    def _new_product(self, features: Tensor) -> Tensor:
        return features.new_empty(len(features), (self.l_out + 1) ** 2, features.shape[2])

    def _wide(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        lanes = library.load(math.isqrt(tensors[0].shape[1]) - 1, tensors[0].dtype).mlanet_lanes()
        return [wider(tensor, rounded_up(tensor.shape[-1], lanes)).contiguous() for tensor in tensors]

    def _run(self, name: str, features: Tensor, weight: Tensor, *arguments: object) -> None:
        nodes, rows, channels = features.shape
        l_in = math.isqrt(rows) - 1
        table = addresses(terms(l_in, self.l_out, features.dtype))
        sizes = _Sizes(nodes, channels, rows, (self.l_out + 1) ** 2, len(weight), torch.get_num_threads())
        run(library.load(l_in, features.dtype), name, sizes, table, weight, *arguments)
