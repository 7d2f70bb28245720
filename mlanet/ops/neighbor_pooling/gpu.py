"""The pooled neighbours of an atom on GPUs as an operation (`mlanet.ops.autograd.Operation`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mlanet.ops.gpu.start import Number, edges_at_a_time, numbers, start
from mlanet.ops.message.gpu.sizes import padded
from mlanet.ops.neighbor_pooling.reference import pooled_neighbors
from mlanet.ops.rows import Rows

WIDEST = 256
"""Channels; more do not fit the registers."""


@dataclass(frozen=True)
class PoolingSizes:
    """Constants of one compiled kernel: channels C, tile: edges at a time."""

    channels: int
    tile: int

    @property
    def width(self) -> int:
        """C, padded."""
        return padded(self.channels)

    @classmethod
    def of(cls, features: Tensor) -> PoolingSizes:
        """For features (N, C)."""
        channels = features.shape[1]
        return cls(channels, edges_at_a_time(padded(channels), features.dtype))


def obstacle(channels: int) -> str:
    """Why pooling over so many channels has no kernel, in words; empty where it has."""
    return f"channels: {channels}, at most {WIDEST}" if channels > WIDEST else ""


@dataclass(frozen=True)
class GpuPooling:
    """`reference.pooled_neighbors` of all centers, by the kernels in Triton, which are imported when first run."""

    rows: Rows
    n_inputs: int = field(default=2, init=False)

    def blank(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `Operation`."""
        return tensors[0].new_empty(self.rows.start.shape[0] - 1, 2, tensors[0].shape[1])

    def value(self, tensors: Sequence[Tensor]) -> Tensor:
        """(N, 2, C)."""
        return self._pooled(numbers(tensors, None))[0]

    def gradient(self, up: Tensor, tensors: Sequence[Tensor], with_weights: bool) -> tuple[Tensor, ...]:
        """See `Operation`."""
        given = numbers(tensors, None)
        return self._gradient(given, self._pooled(given), up)

    def tangent(self, up: Tensor, along: Sequence[Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """See `Operation`."""
        given = numbers(tensors, along)
        pooled = self._pooled(given)
        return pooled[1], *self._gradient(given, pooled, up)

    def reference(self, tensors: Sequence[Tensor]) -> Tensor:
        """In plain torch."""
        return pooled_neighbors(tensors[0], tensors[1], self.rows.neighbor, self.rows.around())

    def _pooled(self, given: Sequence[Number]) -> Number:
        """Of numbers, a number."""
        from mlanet.ops.neighbor_pooling import gpu_kernels

        pooled = tuple(self.blank(given[0]) for _ in given[0])
        self._start(gpu_kernels.pool, given, *self.rows, pooled)
        return pooled

    def _gradient(self, given: Sequence[Number], pooled: Number, up: Tensor) -> tuple[Tensor, ...]:
        """Of <up, pooled>, or its slope."""
        from mlanet.ops.gpu.by_sender import Senders
        from mlanet.ops.neighbor_pooling import gpu_kernels

        to_features, to_envelope = (tensor[0].new_empty(tensor[0].shape) for tensor in given)
        known, up = Senders.of(self.rows), up.detach().contiguous()
        self._start(gpu_kernels.envelope_gradient, given, *self.rows, pooled, up, to_envelope)
        by_sender = (known.order, known.center, known.start)
        self._start(gpu_kernels.feature_gradient, given, *by_sender, pooled, up, to_features)
        return to_features, to_envelope

    def _start(self, kernel: Any, given: Sequence[Number], *arguments: Any) -> None:
        """A program for each atom, of one warp."""
        from mlanet.ops.neighbor_pooling import gpu_kernels

        features = given[0][0]
        sizes = PoolingSizes.of(features)
        start(kernel, (len(features),), features.device, 1, gpu_kernels.Inputs(*given), *arguments, S=sizes)
