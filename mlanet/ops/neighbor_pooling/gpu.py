"""The pooled neighbours of an atom by kernels in Triton (`gpu_kernels`)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mlanet.ops.gpu.by_sender import Senders
from mlanet.ops.gpu.operation import GpuOperation
from mlanet.ops.gpu.start import Number, edges_at_a_time, numbers, padded, start
from mlanet.ops.neighbor_pooling.reference import PoolingOfRows

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


class GpuPooling(PoolingOfRows, GpuOperation):
    """By kernels in Triton."""

    def call(self, tensors: Sequence[Tensor], along: Sequence[Tensor] | None = None) -> _Call:
        """See `GpuOperation`."""
        return _Call(self, tensors, along)


class _Call:
    """See `mlanet.ops.gpu.operation.Call`; gradients are computed from what was pooled."""

    def __init__(self, operation: GpuPooling, tensors: Sequence[Tensor], along: Sequence[Tensor] | None) -> None:
        from mlanet.ops.neighbor_pooling import gpu_kernels

        self.kernels, self.operation, self.rows = gpu_kernels, operation, operation.rows
        self.x = gpu_kernels.Inputs(*numbers(tensors, along))
        self.sizes = PoolingSizes.of(tensors[0])

    def run(self, kernel: Any, *arguments: Any) -> None:
        """A program for each atom, of one warp."""
        features = self.x.features[0]
        start(kernel, (len(features),), features.device, 1, self.x, *arguments, S=self.sizes)

    @functools.cached_property
    def pooled(self) -> Number:
        """Of numbers, a number (N, 2, C)."""
        pooled = tuple(self.operation.blank(self.x.features) for _ in self.x.features)
        self.run(self.kernels.pool, *self.rows, pooled)
        return pooled

    def value(self) -> Tensor:
        """Sum and maximum, or their slope."""
        return self.pooled[-1]

    def gradient(self, up: Tensor, with_weights: bool) -> tuple[Tensor, ...]:
        """Of <up, pooled>, or its slope; there are no weights."""
        to_features, to_envelope = (tensor[0].new_empty(tensor[0].shape) for tensor in self.x)
        self.run(self.kernels.envelope_gradient, *self.rows, self.pooled, up, to_envelope)
        senders = Senders.of(self.rows)
        by_sender = (senders.order, senders.center, senders.start)
        self.run(self.kernels.feature_gradient, *by_sender, self.pooled, up, to_features)
        return to_features, to_envelope
