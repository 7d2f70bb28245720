"""Runs the kernels of the product of a node's features with themselves."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlanet.ops.message.gpu.sizes import padded
from mlanet.ops.node_product import gpu_kernels
from mlanet.ops.node_product.gpu_kernels import Lists
from mlanet.ops.node_product.reference import terms
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

KERNELS = {kernel.__name__: kernel for kernel in (gpu_kernels.weighed_rows, gpu_kernels.path_sums)}


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


@dataclass(frozen=True)
class Call:
    """One product on its way through the kernels, with or without a direction of x."""

    l_out: int
    x: tuple[Tensor, ...]
    weight: Tensor

    @classmethod
    def of(cls, l_out: int, tensors: Sequence[Tensor], along: Tensor | None = None) -> Call:
        """Contiguous tensors."""
        given = (tensors[0],) if along is None else (tensors[0], along)
        return cls(l_out, tuple(tensor.detach().contiguous() for tensor in given), tensors[1].detach().contiguous())

    @property
    def sizes(self) -> ProductSizes:
        """Of its kernels."""
        return ProductSizes.of(self.x[0].shape[2], self.x[0].shape[1])

    @property
    def lists(self) -> Tables:
        """Of its sums."""
        return tables(math.isqrt(self.sizes.rows_in) - 1, self.l_out, self.weight.dtype, self.weight.device)

    @property
    def rows_out(self) -> int:
        """(l_out+1)²."""
        return (self.l_out + 1) ** 2

    def tiles(self) -> tuple[int, int]:
        """Programs that share the nodes, and the channels."""
        return -(-len(self.x[0]) // self.sizes.node_tile), -(-self.sizes.channels // self.sizes.channel_tile)

    def run(self, name: str, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
        """One kernel."""
        device = self.weight.device
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            KERNELS[name][grid](*arguments, S=self.sizes, num_warps=WARPS, num_stages=1, **constants)

    def rows(self, left: tuple[Tensor, ...], table: Table, rows: int) -> Tensor:
        """`weighed_rows` (N, rows, C)."""
        n, channels = len(self.x[0]), self.sizes.channels
        out, (nodes, blocks) = self.weight.new_empty(n, rows, channels), self.tiles()
        constants = {"ROWS_LEFT": left[0].shape[1], "ROWS": rows}
        self.run("weighed_rows", (nodes * rows, blocks), left, self.x, self.weight, Lists(*table), n, out, **constants)
        return out

    def product(self) -> Tensor:
        """y, or its slope."""
        return self.rows(self.x, self.lists.by_row, self.rows_out)

    def gradient(self, up: Tensor, with_weights: bool) -> tuple[Tensor, ...]:
        """Of <up, y> in x and, if wanted, in the weight; or its slope."""
        to_features = self.rows((up,), self.lists.by_source, self.sizes.rows_in)
        return (to_features, self.weight_sums(up)) if with_weights else (to_features,)

    def weight_sums(self, up: Tensor) -> Tensor:
        """Gradient of the weight (paths, C)."""
        n, paths, (nodes, blocks) = len(self.x[0]), len(self.weight), self.tiles()
        programs = max(1, min(PROGRAMS // (blocks * paths), nodes // TILES_OF_PROGRAM))
        sums = self.weight.new_empty(programs, *self.weight.shape)
        lists = Lists(*self.lists.by_path)
        self.run("path_sums", (programs, blocks, paths), self.x, up, lists, n, sums, ROWS_UP=self.rows_out)
        return sums.sum(0)


def product(l_out: int, tensors: Sequence[Tensor]) -> Tensor:
    """y (N, (l_out+1)², C); tensors: x and weight."""
    if not len(tensors[0]):
        return tensors[0].new_zeros(0, (l_out + 1) ** 2, tensors[0].shape[2])
    return Call.of(l_out, tensors).product()


def gradient(l_out: int, with_weights: bool, up: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of <up, y> in x and, if wanted, in the weight; up like y."""
    if not len(tensors[0]):
        return tuple(torch.zeros_like(tensor) for tensor in tensors[: 2 if with_weights else 1])
    return Call.of(l_out, tensors).gradient(up.detach().contiguous(), with_weights)


def tangent(l_out: int, up: Tensor, along: Sequence[Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Derivatives along a change of x of y, then of both gradients; up and weight stay."""
    if not len(tensors[0]):
        return tuple(torch.zeros_like(tensor) for tensor in (up, *tensors))
    call = Call.of(l_out, tensors, along[0])
    return call.product(), *call.gradient(up.detach().contiguous(), True)
