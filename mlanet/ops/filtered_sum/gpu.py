"""The filtered sums of scalar-vector networks by kernels in Triton (`gpu_kernels`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlanet.ops.filtered_sum.reference import FilteredSumOfRows
from mlanet.ops.gpu.by_sender import Senders
from mlanet.ops.gpu.operation import GpuOperation
from mlanet.ops.gpu.start import numbers, padded, product_precision, start

TILE = 16
"""Edges at a time."""

CHANNELS = 32
"""Channels of a program, at most: nothing is spilled, and more programs fit on a GPU than with 64."""

FUNCTIONS = 32
"""Functions of the basis at a time, at most."""

WARPS = 4
"""Of a program."""

PROGRAMS = 1024
"""At most so many sum the gradients of weights, all blocks of channels and functions together."""

EDGES_OF_PROGRAM = 256
"""Edges of one of them, at least."""


@dataclass(frozen=True)
class FilterSizes:
    """Constants of one compiled kernel.

    - channels F · functions K · vectors: whether any are sent · precision: of matrix products
    - tile, channel_tile, function_tile: edges, channels and functions at a time
    """

    channels: int
    functions: int
    vectors: bool
    tile: int
    channel_tile: int
    function_tile: int
    precision: str

    @property
    def groups(self) -> int:
        """Filters of a channel."""
        return 3 if self.vectors else 2

    @property
    def rows(self) -> int:
        """Rows that an atom sends."""
        return 5 if self.vectors else 2

    @property
    def channel_blocks(self) -> int:
        """Programs that share the channels."""
        return -(-self.channels // self.channel_tile)

    @property
    def function_blocks(self) -> int:
        """Programs that share the functions, where these are shared."""
        return -(-self.functions // self.function_tile)

    @classmethod
    def of(cls, channels: int, functions: int, vectors: bool) -> FilterSizes:
        """Tiles padded to what matrix products want."""
        tiles = (TILE, min(CHANNELS, padded(channels, 16)), min(FUNCTIONS, padded(functions, 16)))
        return cls(channels, functions, vectors, *tiles, product_precision())


class GpuFilteredSum(FilteredSumOfRows, GpuOperation):
    """By kernels in Triton. Memory O(N)."""

    def call(self, tensors: Sequence[Tensor], along: Sequence[Tensor] | None = None) -> _Call:
        """See `GpuOperation`."""
        return _Call(self, tensors, along)


class _Call:
    """See `mlanet.ops.gpu.operation.Call`; weight (K, 2F or 3F): neighbouring threads read neighbouring channels."""

    def __init__(self, operation: GpuFilteredSum, tensors: Sequence[Tensor], along: Sequence[Tensor] | None) -> None:
        from mlanet.ops.filtered_sum import gpu_kernels

        *inputs, weight = tensors
        self.kernels, self.rows, self.n = gpu_kernels, operation.rows, len(operation.rows.start) - 1
        self.x = gpu_kernels.Sums(*numbers(inputs, along))
        self.weight = weight.detach().T.contiguous()
        self.sizes = FilterSizes.of(inputs[0].shape[2], inputs[1].shape[1], inputs[0].shape[1] > 2)

    def run(self, kernel: Any, grid: tuple[int, ...], *arguments: Any) -> None:
        """Inputs, arguments, sizes."""
        start(kernel, grid, self.weight.device, WARPS, self.x, *arguments, S=self.sizes)

    def value(self) -> Tensor:
        """m and w (N, 4, F), or their slope."""
        out = self.weight.new_empty(self.n, 4, self.sizes.channels)
        self.run(self.kernels.receive, (self.n, self.sizes.channel_blocks), self.weight, *self.rows, out)
        return out

    def gradient(self, up: Tensor, with_weights: bool) -> tuple[Tensor, ...]:
        """Of <up, received> in the inputs and, if wanted, the weight; or its slope."""
        sizes, n_edges = self.sizes, len(self.rows.neighbor)
        to_sent, to_basis = (torch.empty_like(tensor[0]) for tensor in self.x[:2])
        to_direction = self.weight.new_empty(sizes.function_blocks, n_edges, 3)
        edges = (self.weight, *self.rows, n_edges, up, to_basis, to_direction)
        self.run(self.kernels.edge_gradient, (self.n, sizes.function_blocks), *edges)
        senders = Senders.of(self.rows)
        by_sender = (self.weight, senders.order, senders.center, senders.start, up, to_sent)
        self.run(self.kernels.sent_gradient, (self.n, sizes.channel_blocks), *by_sender)
        inputs = (to_sent, to_basis, to_direction[0] if sizes.function_blocks == 1 else to_direction.sum(0))
        return (*inputs, self.weight_gradient(up, senders.center)) if with_weights else inputs

    def weight_gradient(self, up: Tensor, center: Tensor) -> Tensor:
        """(2F or 3F, K)."""
        sizes, n_edges = self.sizes, len(self.rows.neighbor)
        blocks = sizes.channel_blocks * sizes.function_blocks
        programs = max(1, min(PROGRAMS // blocks, n_edges // EDGES_OF_PROGRAM))
        sums = self.weight.new_empty(programs, *self.weight.shape)
        grid = (programs, sizes.channel_blocks, sizes.function_blocks)
        self.run(self.kernels.weight_gradient, grid, self.rows.neighbor, center, n_edges, up, sums)
        return sums.sum(0).T
