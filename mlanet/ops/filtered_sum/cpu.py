"""The filtered sums of scalar-vector networks as an operation in C++ (filtered.hpp)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mlanet.ops.cpp import library
from mlanet.ops.cpp.calls import addresses, call, interleaved, joined, own_places
from mlanet.ops.cpp.padding import cropped_layers, padded_layers, rounded_up, wider
from mlanet.ops.filtered_sum.reference import received_of_rows
from mlanet.ops.rows import Rows

ANY_L = 1
"""Filtered sums know no l_max; this library has them."""


class _Sizes(ctypes.Structure):
    """As in filtered.hpp."""

    _fields_ = [(name, ctypes.c_int64) for name in ("centers", "atoms", "channels", "functions", "vectors", "threads")]


@dataclass(frozen=True)
class NativeFilteredSum:
    """m and w of all centers (`mlanet.ops.filtered_sum.reference`), an `Operation`; an edge whose basis is 0 is absent.

    Inputs: sent (N, 2 or 5, F), scalars, arrows and vectors · basis b (E, K) · direction û (E, 3). Weight W (2F or 3F,
    K). Result (N, 4, F): m, then w. Cost per edge 2 K · (2 or 3) F FLOP for the filters. Memory O(N).
    """

    rows: Rows
    n_inputs: int = field(default=3, init=False)

    def blank(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `Operation`."""
        return tensors[0].new_empty(self.rows.start.shape[0] - 1, 4, tensors[0].shape[2])

    def value(self, tensors: Sequence[Tensor]) -> Tensor:
        """(N, 4, F)."""
        run = _Run(self, tensors)
        out = run.new_sums()
        run("mlanet_filtered", run.inputs, out)
        return out[:, :, : tensors[0].shape[2]]

    def gradient(self, up: Tensor, tensors: Sequence[Tensor], with_weights: bool) -> tuple[Tensor, ...]:
        """See `Operation`."""
        run = _Run(self, tensors)
        sums = _Sums(run, with_weights)
        run("mlanet_filtered_gradient", run.inputs, run.wide(up), addresses([None, *sums.places]))
        return sums.result(tensors)

    def tangent(self, up: Tensor, along: Sequence[Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """See `Operation`."""
        run = _Run(self, tensors)
        sums, out = _Sums(run, with_weights=True), run.new_sums()
        both = interleaved(run.inputs, [run.wide(along[0]), *(tensor.contiguous() for tensor in along[1:])])
        run("mlanet_filtered_tangent", both, run.wide(up), addresses([out, *sums.places]))
        return out[:, :, : up.shape[2]], *sums.result(tensors)

    def reference(self, tensors: Sequence[Tensor]) -> Tensor:
        """In plain torch, edge by edge."""
        return received_of_rows(self.rows, tensors)


class _Run:
    """One call of the library: tensors padded to whole vectors, and their sizes."""

    def __init__(self, operation: NativeFilteredSum, tensors: Sequence[Tensor]) -> None:
        sent, basis, direction, weight = tensors
        self.operation, self.threads = operation, torch.get_num_threads()
        self.library = library.load(ANY_L, sent.dtype)
        self.lanes = self.library.mlanet_lanes()
        self.groups = 3 if sent.shape[1] > 2 else 2
        (self.weight,) = padded_layers([weight.T], self.groups, self.lanes)
        self.inputs = [self.wide(sent), basis.contiguous(), direction.contiguous()]
        self.sizes = _Sizes(
            centers=len(operation.rows.start) - 1,
            atoms=len(sent),
            channels=self.inputs[0].shape[2],
            functions=basis.shape[1],
            vectors=self.groups == 3,
            threads=self.threads,
        )

    def __call__(self, name: str, inputs: Sequence[Tensor], *arguments: object) -> None:
        call(self.library, name, self.sizes, self.operation.rows, addresses(inputs), self.weight, *arguments)

    def new_sums(self) -> Tensor:
        """(N, 4, F) zeros, padded."""
        return self.weight.new_zeros(self.sizes.centers, 4, self.sizes.channels)

    def wide(self, tensor: Tensor) -> Tensor:
        """Channels filled up."""
        return wider(tensor, rounded_up(tensor.shape[-1], self.lanes)).contiguous()


class _Sums:
    """Where the gradients go: those of senders and weights to a place of each thread's own."""

    def __init__(self, run: _Run, with_weights: bool) -> None:
        self.groups = run.groups
        self.sent = own_places(run.threads, run.inputs[:1])
        self.others = [torch.empty_like(tensor) for tensor in run.inputs[1:]]
        self.weight = own_places(run.threads, [run.weight]) if with_weights else []
        last = self.weight[0] if with_weights else None
        self.places: list[Tensor | None] = [*self.sent, *self.others, last]

    def result(self, like: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """In the sizes of `like`."""
        sent = joined(self.sent[0])[:, :, : like[0].shape[2]]
        weight = cropped_layers([joined(layer) for layer in self.weight], [like[-1].T], self.groups)
        return (sent, *self.others, *(layer.T for layer in weight))
