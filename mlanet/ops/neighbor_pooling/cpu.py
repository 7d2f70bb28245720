"""The pooled neighbours of an atom as an operation in C++ (pooling.hpp)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mlanet.ops.cpp import library
from mlanet.ops.cpp.calls import addresses, call, interleaved, joined, own_places
from mlanet.ops.cpp.padding import rounded_up, wider
from mlanet.ops.neighbor_pooling.reference import pooled_neighbors
from mlanet.ops.rows import Rows


class _Sizes(ctypes.Structure):
    """As in pooling.hpp."""

    _fields_ = [(name, ctypes.c_int64) for name in ("centers", "atoms", "channels", "threads")]


@dataclass(frozen=True)
class NativePooling:
    """`mlanet.ops.neighbor_pooling.reference.pooled_neighbors` of all centers, an `Operation`. Memory O(N).

    It knows no l_max; that of the model says which library is at hand.
    """

    l_max: int
    rows: Rows
    n_inputs: int = field(default=2, init=False)

    def blank(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `Operation`."""
        return tensors[0].new_empty(self.rows.start.shape[0] - 1, 2, tensors[0].shape[1])

    def value(self, tensors: Sequence[Tensor]) -> Tensor:
        """(N, 2, C)."""
        features, envelope = self._inputs(tensors)
        out = features.new_empty(self._centers, 2, features.shape[1])
        self._call("mlanet_pooling", features, addresses([features, envelope]), out)
        return out[:, :, : tensors[0].shape[1]]

    def gradient(self, up: Tensor, tensors: Sequence[Tensor], with_weights: bool) -> tuple[Tensor, ...]:
        """See `Operation`."""
        given = self._inputs(tensors)
        places = [*own_places(torch.get_num_threads(), given[:1]), torch.empty_like(given[1])]
        self._call("mlanet_pooling_gradient", given[0], addresses(given), self._wide(up), addresses([None, *places]))
        return joined(places[0])[:, : up.shape[2]], places[1]

    def tangent(self, up: Tensor, along: Sequence[Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """See `Operation`."""
        given = self._inputs(tensors)
        out = given[0].new_empty(self._centers, 2, given[0].shape[1])
        places = [*own_places(torch.get_num_threads(), given[:1]), torch.empty_like(given[1])]
        both = interleaved(given, self._inputs(along))
        self._call("mlanet_pooling_tangent", given[0], addresses(both), self._wide(up), addresses([out, *places]))
        return out[:, :, : up.shape[2]], joined(places[0])[:, : up.shape[2]], places[1]

    def reference(self, tensors: Sequence[Tensor]) -> Tensor:
        """In plain torch."""
        return pooled_neighbors(tensors[0], tensors[1], self.rows.neighbor, self.rows.around())

    @property
    def _centers(self) -> int:
        return len(self.rows.start) - 1

    def _inputs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [self._wide(tensors[0]), tensors[1].contiguous()]

    def _wide(self, tensor: Tensor) -> Tensor:
        lanes = library.load(self.l_max, tensor.dtype).mlanet_lanes()
        return wider(tensor, rounded_up(tensor.shape[-1], lanes)).contiguous()

    def _call(self, name: str, features: Tensor, *arguments: object) -> None:
        kernels = library.load(self.l_max, features.dtype)
        sizes = _Sizes(self._centers, len(features), features.shape[1], torch.get_num_threads())
        call(kernels, name, sizes, self.rows, *arguments)
