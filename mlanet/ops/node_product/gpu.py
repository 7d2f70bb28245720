"""The product of a node's features with themselves by kernels in Triton (`gpu_kernels`)."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlanet.ops.gpu.operation import GpuOperation
from mlanet.ops.gpu.start import numbers, padded, start
from mlanet.ops.node_product.reference import Product, terms
from mlanet.ops.tensor_product import on_cpu

ELEMENTS = 512
"""Nodes times channels of a program."""

CHANNELS = 64
"""Channels of a program, at most."""

WARPS = 4
"""Of a program."""

PROGRAMS = 1024
"""At most so many sum the gradients of weights, all paths and blocks of channels together."""

TILES_OF_PROGRAM = 4
"""Tiles of nodes of one of them, at least."""


class Table(NamedTuple):
    """Groups of terms by place (`gpu_kernels`), int32 but for the values.

    - groups (places + 1,): groups[p] … groups[p+1] − 1 are those of place p · outer (groups,) · terms (groups + 1,):
    where the terms of each group begin · left, right, value (terms,)
    """

    groups: Tensor
    outer: Tensor
    terms: Tensor
    left: Tensor
    right: Tensor
    value: Tensor

    @classmethod
    def of(cls, entries: Iterable[tuple[int, int, int, int, float]], places: int, dtype: torch.dtype) -> Table:
        """From (place, outer, left, right, value) of every term, in any order.

        >>> table = Table.of([(1, 0, 2, 2, 0.5), (1, 3, 0, 1, 2.0), (1, 0, 0, 1, 1.0)], 2, torch.float64)
        >>> table.groups.tolist(), table.outer.tolist(), table.terms.tolist(), table.value.tolist()
        ([0, 0, 2], [0, 3], [0, 2, 3], [1.0, 0.5, 2.0])
        """
        ordered = sorted(entries)
        grouped = [(key, len(list(each))) for key, each in itertools.groupby(ordered, key=lambda one: one[:2])]
        sizes = [sum(1 for (place, _), _ in grouped if place == p) for p in range(places)]
        return cls(
            groups=_whole([0, *itertools.accumulate(sizes)]),
            outer=_whole([outer for (_, outer), _ in grouped]),
            terms=_whole([0, *itertools.accumulate(size for _, size in grouped)]),
            left=_whole([entry[2] for entry in ordered]),
            right=_whole([entry[3] for entry in ordered]),
            value=torch.tensor([entry[4] for entry in ordered], dtype=dtype),
        )


def _whole(numbers: list[int]) -> Tensor:
    """int32."""
    return torch.tensor(numbers, dtype=torch.int32)


class Tables(NamedTuple):
    """y by row, outer: paths · gradient in x by row, outer: paths, left: of `up` · in w by path, outer: of `up`."""

    by_row: Table
    by_source: Table
    by_path: Table


@functools.cache
@on_cpu
def tables(l_in: int, l_out: int, dtype: torch.dtype, device: torch.device) -> Tables:
    """Of all paths, once for a device."""
    known = terms(l_in, l_out, torch.float64)
    paths = len(known.begin) - 1
    path = torch.repeat_interleave(torch.arange(paths), known.begin.diff().long())
    listed = list(zip(*(tensor.tolist() for tensor in (path, *known[1:])), strict=True))
    # x_a x_b has the slopes x_b in a and x_a in b, which for a = b are twice the same.
    back = [(a, p, m, b, value) for p, m, a, b, value in listed if a != b]
    back += [(b, p, m, a, value if a != b else 2 * value) for p, m, a, b, value in listed]
    three = (
        Table.of([(m, p, a, b, value) for p, m, a, b, value in listed], (l_out + 1) ** 2, dtype),
        Table.of(back, (l_in + 1) ** 2, dtype),
        Table.of(listed, paths, dtype),
    )
    return Tables(*(Table(*(tensor.to(device) for tensor in table)) for table in three))


@dataclass(frozen=True)
class ProductSizes:
    """Constants of one compiled kernel: channels C, rows (l_in+1)² of x, nodes and channels of a program."""

    channels: int
    rows_in: int
    node_tile: int
    channel_tile: int

    @classmethod
    def of(cls, channels: int, rows_in: int) -> ProductSizes:
        """Tiles padded to powers of two."""
        tile = min(CHANNELS, padded(channels))
        return cls(channels, rows_in, ELEMENTS // tile, tile)


class GpuProduct(Product, GpuOperation):
    """By kernels in Triton. Memory O(N)."""

    def call(self, tensors: Sequence[Tensor], along: Sequence[Tensor] | None = None) -> _Call:
        """See `GpuOperation`."""
        return _Call(self.l_out, tensors, along)


class _Call:
    """See `mlanet.ops.gpu.operation.Call`."""

    def __init__(self, l_out: int, tensors: Sequence[Tensor], along: Sequence[Tensor] | None) -> None:
        from mlanet.ops.node_product import gpu_kernels

        (self.x,) = numbers(tensors[:1], along)
        self.weight = tensors[1].detach().contiguous()
        self.kernels, self.rows_out = gpu_kernels, (l_out + 1) ** 2
        self.n, rows_in, channels = self.x[0].shape
        self.sizes = ProductSizes.of(channels, rows_in)
        self.tables = tables(math.isqrt(rows_in) - 1, l_out, self.weight.dtype, self.weight.device)
        self.tiles = -(-self.n // self.sizes.node_tile)
        self.blocks = -(-channels // self.sizes.channel_tile)

    def run(self, kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
        """Arguments and sizes."""
        start(kernel, grid, self.weight.device, WARPS, *arguments, S=self.sizes, **constants)

    def weighed_rows(self, left: tuple[Tensor, ...], table: Table, rows: int) -> Tensor:
        """(N, rows, C)."""
        out, lists = self.weight.new_empty(self.n, rows, self.sizes.channels), self.kernels.Lists(*table)
        grid, constants = (self.tiles * rows, self.blocks), {"ROWS_LEFT": left[0].shape[1], "ROWS": rows}
        self.run(self.kernels.weighed_rows, grid, left, self.x, self.weight, lists, self.n, out, **constants)
        return out

    def value(self) -> Tensor:
        """y, or its slope."""
        return self.weighed_rows(self.x, self.tables.by_row, self.rows_out)

    def gradient(self, up: Tensor, with_weights: bool) -> tuple[Tensor, ...]:
        """Of <up, y> in x and, if wanted, in the weight; or its slope."""
        to_features = self.weighed_rows((up,), self.tables.by_source, self.sizes.rows_in)
        return (to_features, self.weight_gradient(up)) if with_weights else (to_features,)

    def weight_gradient(self, up: Tensor) -> Tensor:
        """(paths, C)."""
        paths = len(self.weight)
        programs = max(1, min(PROGRAMS // (self.blocks * paths), self.tiles // TILES_OF_PROGRAM))
        sums = self.weight.new_empty(programs, *self.weight.shape)
        grid, lists = (programs, self.blocks, paths), self.kernels.Lists(*self.tables.by_path)
        self.run(self.kernels.path_sums, grid, self.x, up, lists, self.n, sums, ROWS_UP=self.rows_out)
        return sums.sum(0)
