"""The first look at the directions around an atom as an operation in C++ (directions.hpp)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from torch import Tensor

from mlanet.ops.cpp.calls import MAX_DEPTH, widths_field
from mlanet.ops.cpp.operation import NativeCall, NativeOperation
from mlanet.ops.cpp.padding import cropped_layers, padded_layers
from mlanet.ops.edge_degree.reference import N_INPUTS, DirectionsOfRows


class _Sizes(ctypes.Structure):
    """As in directions.hpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("centers", "atoms", "channels", "functions", "depth")),
        ("widths", ctypes.c_int64 * (MAX_DEPTH + 1)),
        ("factor", ctypes.c_double),
        ("threads", ctypes.c_int64),
    ]


class NativeDirections(DirectionsOfRows, NativeOperation):
    """`mlanet.ops.edge_degree.reference` of all centers, an `Operation`. Memory O(N)."""

    def call(self, tensors: Sequence[Tensor]) -> NativeCall:
        """See `NativeOperation`."""
        return _Call(self, tensors)


class _Call(NativeCall):
    """Weights: the layers of the radial network."""

    kernel = "mlanet_directions"
    weight_places = MAX_DEPTH

    def __init__(self, operation: NativeDirections, tensors: Sequence[Tensor]) -> None:
        super().__init__(operation.l_max, operation.rows, tensors[0].dtype)
        self.groups = operation.l_max
        self.weights = padded_layers(tensors[N_INPUTS:], self.groups, self.lanes)
        self.inputs = self.pad(tensors[:N_INPUTS])
        widths = [len(self.weights[0]), *(layer.shape[1] for layer in self.weights)]
        self.sizes = _Sizes(
            centers=self.centers,
            atoms=len(tensors[0]),
            channels=self.inputs[0].shape[1],
            functions=widths[0],
            depth=len(self.weights),
            widths=widths_field(widths),
            factor=operation.factor,
            threads=self.threads,
        )

    def room(self) -> Tensor:
        """(N, M − 1, C) zeros."""
        harmonics = self.inputs[3]
        return harmonics.new_zeros(self.centers, harmonics.shape[1] - 1, self.sizes.channels)

    def crop(self, inputs: list[Tensor], weights: list[Tensor], like: Sequence[Tensor]) -> Sequence[Tensor]:
        """See `NativeCall`."""
        return [*super().crop(inputs, weights, like), *cropped_layers(weights, like[N_INPUTS:], self.groups)]
