"""The first look at the directions around an atom as an operation in C++ (directions.hpp)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mlanet.ops.cpp import library
from mlanet.ops.cpp.calls import MAX_DEPTH, addresses, call, interleaved, joined, own_places, widths_field
from mlanet.ops.cpp.padding import cropped_layers, padded_layers, rounded_up, wider
from mlanet.ops.edge_degree.reference import N_INPUTS, DirectionInputs, directions
from mlanet.ops.rows import Rows


class _Sizes(ctypes.Structure):
    """As in directions.hpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("centers", "atoms", "channels", "functions", "depth")),
        ("widths", ctypes.c_int64 * (MAX_DEPTH + 1)),
        ("factor", ctypes.c_double),
        ("threads", ctypes.c_int64),
    ]


@dataclass(frozen=True)
class NativeDirections:
    """`mlanet.ops.edge_degree.reference` of all centers, an `Operation`. Memory O(N)."""

    l_max: int
    factor: float
    rows: Rows
    n_inputs: int = field(default=N_INPUTS, init=False)

    def blank(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `Operation`."""
        return tensors[0].new_empty(self.rows.start.shape[0] - 1, (self.l_max + 1) ** 2 - 1, tensors[0].shape[1])

    def value(self, tensors: Sequence[Tensor]) -> Tensor:
        """(N, (L+1)² − 1, C)."""
        run = _Run(self, tensors)
        out = run.new_message()
        run("mlanet_directions", run.inputs, out)
        return out[:, :, : tensors[0].shape[1]]

    def gradient(self, up: Tensor, tensors: Sequence[Tensor], with_weights: bool) -> tuple[Tensor, ...]:
        """See `Operation`."""
        run = _Run(self, tensors)
        sums = _Sums(run, with_weights)
        run("mlanet_directions_gradient", run.inputs, run.wide(up), addresses([None, *sums.places]))
        return sums.result(tensors)

    def tangent(self, up: Tensor, along: Sequence[Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """See `Operation`."""
        run = _Run(self, tensors)
        sums, out = _Sums(run, with_weights=True), run.new_message()
        both = interleaved(run.inputs, [run.wide(along[0]), *(tensor.contiguous() for tensor in along[1:])])
        run("mlanet_directions_tangent", both, run.wide(up), addresses([out, *sums.places]))
        return out[:, :, : up.shape[2]], *sums.result(tensors)

    def reference(self, tensors: Sequence[Tensor]) -> Tensor:
        """In plain torch."""
        inputs = DirectionInputs(*tensors[:N_INPUTS])
        return directions(self.factor, self.rows.around(), self.rows.neighbor, inputs, tensors[N_INPUTS:])


class _Run:
    """One call of the library: tensors padded to whole vectors, and their sizes."""

    def __init__(self, operation: NativeDirections, tensors: Sequence[Tensor]) -> None:
        self.operation, self.threads = operation, torch.get_num_threads()
        self.library = library.load(operation.l_max, tensors[0].dtype)
        self.lanes = self.library.mlanet_lanes()
        self.layers = padded_layers(tensors[N_INPUTS:], operation.l_max, self.lanes)
        self.inputs = [self.wide(tensors[0]), *(tensor.contiguous() for tensor in tensors[1:N_INPUTS])]
        widths = [len(self.layers[0]), *(layer.shape[1] for layer in self.layers)]
        self.sizes = _Sizes(
            centers=len(operation.rows.start) - 1,
            atoms=len(tensors[0]),
            channels=self.inputs[0].shape[1],
            functions=widths[0],
            depth=len(self.layers),
            widths=widths_field(widths),
            factor=operation.factor,
            threads=self.threads,
        )

    def __call__(self, name: str, inputs: Sequence[Tensor], *arguments: object) -> None:
        call(self.library, name, self.sizes, self.operation.rows, addresses(inputs), addresses(self.layers), *arguments)

    def new_message(self) -> Tensor:
        """(N, M − 1, C) zeros, padded."""
        harmonics = self.inputs[3]
        return harmonics.new_zeros(self.sizes.centers, harmonics.shape[1] - 1, self.sizes.channels)

    def wide(self, tensor: Tensor) -> Tensor:
        """Channels filled up."""
        return wider(tensor, rounded_up(tensor.shape[-1], self.lanes)).contiguous()


class _Sums:
    """Where the gradients go: those of senders and weights to a place of each thread's own."""

    def __init__(self, run: _Run, with_weights: bool) -> None:
        self.groups = run.operation.l_max
        self.sender = own_places(run.threads, run.inputs[:1])
        self.others = [torch.empty_like(tensor) for tensor in run.inputs[1:]]
        self.layers = own_places(run.threads, run.layers) if with_weights else []
        missing: list[Tensor | None] = [None] * (MAX_DEPTH - len(self.layers))
        self.places: list[Tensor | None] = [*self.sender, *self.others, *self.layers, *missing]

    def result(self, like: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """In the sizes of `like`."""
        sender = joined(self.sender[0])[:, : like[0].shape[1]]
        layers = cropped_layers([joined(layer) for layer in self.layers], like[N_INPUTS:], self.groups)
        return (sender, *self.others, *layers)
