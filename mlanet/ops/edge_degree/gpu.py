"""The first look at the directions around an atom by kernels in Triton (`gpu_kernels`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlanet.ops.edge_degree.reference import N_INPUTS, DirectionsOfRows
from mlanet.ops.gpu.by_sender import Senders
from mlanet.ops.gpu.operation import GpuOperation
from mlanet.ops.gpu.start import edges_at_a_time, numbers, padded, plain, product_precision, start

WIDEST = {"radial functions": 32, "hidden width": 128}
"""Tiles of more than this do not fit the registers."""

CHANNELS = (256, 128)
"""At most so many, without and with a hidden layer."""

TILE_OF_PRODUCTS = 16
"""Edges at a time with a hidden layer: what matrix products want at least. Without one see `start`."""

UNITS = 16
"""Of a hidden layer at a time, what matrix products want at least."""

WARPS_OF_PRODUCTS = 4
"""Of a program with a hidden layer; without one it has a single warp, and sums over channels need no shared memory."""

PROGRAMS = 2048
"""At most so many programs share the centers when weights are summed: each keeps a sum of its own."""


@dataclass(frozen=True)
class DirectionSizes:
    """Constants of one compiled kernel.

    - channels C · functions B · hidden: width of the hidden layer of φ, 0 without one
    - factor f · tile: edges at a time · precision: of matrix products
    """

    l_max: int
    channels: int
    functions: int
    hidden: int
    factor: float
    tile: int
    precision: str

    @property
    def rows(self) -> int:
        """M, of harmonics; of directions M − 1."""
        return (self.l_max + 1) ** 2

    @property
    def width(self) -> int:
        """C, padded; matrix products want 16."""
        return padded(self.channels, 16 if self.hidden else 1)

    @property
    def units(self) -> int:
        """Of the hidden layer, at a time: all would not fit the registers."""
        return UNITS

    @classmethod
    def of(cls, l_max: int, factor: float, sender: Tensor, layers: Sequence[Tensor]) -> DirectionSizes:
        """Read from the tensors of one call."""
        channels, hidden = sender.shape[1], layers[0].shape[1] if len(layers) == 2 else 0
        tile = TILE_OF_PRODUCTS if hidden else edges_at_a_time(padded(channels), sender.dtype)
        return cls(l_max, channels, len(layers[0]), hidden, float(factor), tile, product_precision())


def obstacle(l_max: int, channels: int, layers: Sequence[Tensor]) -> str:
    """Why these sizes have no kernel, in words; empty where they have."""
    if len(layers) not in (1, 2):
        return f"the radial network has {len(layers) - 1} hidden layers, and the kernels know none or one"
    if not 1 <= l_max <= 3:
        return f"l_max is {l_max}, and the kernels go from 1 to 3"
    most = {**WIDEST, "channels": CHANNELS[len(layers) - 1]}
    hidden = layers[0].shape[1] if len(layers) == 2 else 0
    widths = {"radial functions": len(layers[0]), "hidden width": hidden, "channels": channels}
    return "; ".join(f"{name}: {widths[name]}, at most {most[name]}" for name in most if widths[name] > most[name])


class GpuDirections(DirectionsOfRows, GpuOperation):
    """`mlanet.ops.edge_degree.reference` of all centers, by kernels in Triton. Memory O(N), and gradients by edge."""

    def call(self, tensors: Sequence[Tensor], along: Sequence[Tensor] | None = None) -> _Call:
        """See `GpuOperation`."""
        return _Call(self, tensors, along)


class _Call:
    """See `mlanet.ops.gpu.operation.Call`."""

    def __init__(self, operation: GpuDirections, tensors: Sequence[Tensor], along: Sequence[Tensor] | None) -> None:
        from mlanet.ops.edge_degree import gpu_kernels

        self.kernels, self.operation, self.rows = gpu_kernels, operation, operation.rows
        self.x = gpu_kernels.Inputs(*numbers(tensors[:N_INPUTS], along))
        self.layers = plain(tensors[N_INPUTS:])
        self.sizes = DirectionSizes.of(operation.l_max, operation.factor, tensors[0], self.layers)
        self.n = len(self.rows.start) - 1

    def run(self, kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
        """Inputs, layers, arguments, sizes."""
        w = self.kernels.Layers(self.layers[0], self.layers[-1])
        warps = WARPS_OF_PRODUCTS if self.sizes.hidden else 1
        start(kernel, grid, self.layers[0].device, warps, self.x, w, *arguments, S=self.sizes, **constants)

    def value(self) -> Tensor:
        """h (N, M − 1, C), or its slope."""
        out = self.operation.blank([tensor[0] for tensor in self.x])
        self.run(self.kernels.directions, (self.n,), *self.rows, out)
        return out

    def gradient(self, up: Tensor, with_weights: bool) -> tuple[Tensor, ...]:
        """Of <up, h> in the inputs and, if wanted, the layers; or its slope."""
        to = self.kernels.Inputs(*(torch.empty_like(tensor[0]) for tensor in self.x))
        self.run(self.kernels.edge_gradient, (self.n,), *self.rows, up, to)
        known = Senders.of(self.rows)
        by_sender = (known.order, known.center, known.start)
        self.run(self.kernels.sender_gradient, (self.n,), *by_sender, up, to.sender)
        return (*to, *self.layer_gradients(up)) if with_weights else tuple(to)

    def layer_gradients(self, up: Tensor) -> tuple[Tensor, ...]:
        """In the layers of φ."""
        programs = min(self.n, PROGRAMS)
        grid = (programs, max(1, -(-self.sizes.hidden // UNITS)))
        sums = [layer.new_empty(programs, *layer.shape) for layer in self.layers]
        over = (*self.rows, self.n, up)
        if self.sizes.hidden:
            self.run(self.kernels.first_gradient, grid, *over, sums[0])
        for degree in range(1, self.sizes.l_max + 1):
            self.run(self.kernels.last_gradient, grid, *over, sums[-1], DEGREE=degree)
        return tuple(total.sum(0) for total in sums)
