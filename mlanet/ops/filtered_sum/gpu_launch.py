"""Runs the kernels of the filtered sums: what centers receive, gradients of edges, of senders, of weights."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlanet.ops.filtered_sum import gpu_kernels
from mlanet.ops.filtered_sum.gpu_kernels import Sums
from mlanet.ops.gpu.by_sender import Senders
from mlanet.ops.message.gpu.sizes import padded
from mlanet.ops.rows import Rows

TILE = 16
"""Edges at a time."""

CHANNELS = 32
"""Channels of a program, at most: nothing is spilled, and more programs fit on a GPU than with 64."""

FUNCTIONS = 32
"""Functions of the basis at a time, at most."""

WARPS = {"receive": 4, "edge_gradient": 4, "sent_gradient": 4, "weight_gradient": 4}
"""Of a program."""

PROGRAMS = 1024
"""At most so many sum the gradients of weights, all blocks of channels and functions together."""

EDGES_OF_PROGRAM = 256
"""Edges of one of them, at least."""

KERNELS = {
    kernel.__name__: kernel
    for kernel in (
        gpu_kernels.receive,
        gpu_kernels.edge_gradient,
        gpu_kernels.sent_gradient,
        gpu_kernels.weight_gradient,
    )
}


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
        """Tiles padded to what matrix products want, which are as precise as torch's own are asked to be."""
        tiles = (TILE, min(CHANNELS, padded(channels, 16)), min(FUNCTIONS, padded(functions, 16)))
        precision = "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"
        return cls(channels, functions, vectors, *tiles, precision)


@dataclass(frozen=True)
class Call:
    """One problem on its way through the kernels, with or without a direction of the inputs.

    - weight (K, 2F or 3F), transposed: neighbouring threads read neighbouring channels
    """

    sizes: FilterSizes
    rows: Rows
    x: Sums
    weight: Tensor

    @classmethod
    def of(cls, rows: Rows, tensors: Sequence[Tensor], along: Sequence[Tensor] | None = None) -> Call:
        """Contiguous tensors."""
        *inputs, weight = (tensor.detach().contiguous() for tensor in tensors)
        changes = () if along is None else (tensor.detach().contiguous() for tensor in along)
        x = Sums(*(zip(inputs, changes, strict=True) if along is not None else ((tensor,) for tensor in inputs)))
        sizes = FilterSizes.of(inputs[0].shape[2], inputs[1].shape[1], inputs[0].shape[1] > 2)
        return cls(sizes, rows, x, weight.T.contiguous())

    @property
    def n(self) -> int:
        """N."""
        return len(self.rows.start) - 1

    def run(self, name: str, grid: tuple[int, ...], *arguments: Any) -> None:
        """One kernel: inputs, arguments, sizes."""
        device = self.weight.device
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            KERNELS[name][grid](self.x, *arguments, S=self.sizes, num_warps=WARPS[name], num_stages=1)

    def received(self) -> Tensor:
        """m and w (N, 4, F), or their slope."""
        out = self.weight.new_empty(self.n, 4, self.sizes.channels)
        self.run("receive", (self.n, self.sizes.channel_blocks), self.weight, *self.rows, out)
        return out

    def gradient(self, up: Tensor, with_weights: bool) -> tuple[Tensor, ...]:
        """Of <up, received> in the inputs and, if wanted, the weight; or its slope."""
        sizes, n_edges = self.sizes, len(self.rows.neighbor)
        to_sent, to_basis = (torch.empty_like(tensor[0]) for tensor in self.x[:2])
        to_direction = self.weight.new_empty(sizes.function_blocks, n_edges, 3)
        edges = (self.weight, *self.rows, n_edges, up, to_basis, to_direction)
        self.run("edge_gradient", (self.n, sizes.function_blocks), *edges)
        senders = Senders.of(self.rows)
        by_sender = (self.weight, senders.order, senders.center, senders.start, up, to_sent)
        self.run("sent_gradient", (self.n, sizes.channel_blocks), *by_sender)
        inputs = (to_sent, to_basis, to_direction[0] if sizes.function_blocks == 1 else to_direction.sum(0))
        return (*inputs, self.weight_sums(up, senders.center)) if with_weights else inputs

    def weight_sums(self, up: Tensor, center: Tensor) -> Tensor:
        """Gradient of the weight (2F or 3F, K)."""
        sizes, n_edges = self.sizes, len(self.rows.neighbor)
        blocks = sizes.channel_blocks * sizes.function_blocks
        programs = max(1, min(PROGRAMS // blocks, n_edges // EDGES_OF_PROGRAM))
        sums = self.weight.new_empty(programs, *self.weight.shape)
        grid = (programs, sizes.channel_blocks, sizes.function_blocks)
        self.run("weight_gradient", grid, self.rows.neighbor, center, n_edges, up, sums)
        return sums.sum(0).T


def received(rows: Rows, tensors: Sequence[Tensor]) -> Tensor:
    """m and w (N, 4, F); tensors: sent, basis, direction, weight."""
    if len(rows.start) == 1:
        return tensors[0].new_zeros(0, 4, tensors[0].shape[2])
    return Call.of(rows, tensors).received()


def gradient(rows: Rows, with_weights: bool, up: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of <up, received> in the three inputs and, if wanted, in the weight; up (N, 4, F)."""
    if len(rows.start) == 1:
        return tuple(torch.zeros_like(tensor) for tensor in tensors[: 4 if with_weights else 3])
    return Call.of(rows, tensors).gradient(up.detach().contiguous(), with_weights)


def tangent(rows: Rows, up: Tensor, along: Sequence[Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Derivatives along `along` (like the inputs) of what is received, then of all gradients; up and weight stay."""
    if len(rows.start) == 1:
        return tuple(torch.zeros_like(tensor) for tensor in (up, *tensors))
    call = Call.of(rows, tensors, along)
    return call.received(), *call.gradient(up.detach().contiguous(), True)
