"""The dual-path message on GPUs as an operation (`mlanet.ops.autograd.Operation`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from mlanet.ops.message.reference import N_INPUTS, MessageShape, MessageWeights, message_of_rows
from mlanet.ops.rows import Rows


@dataclass(frozen=True)
class GpuMessage:
    """Light values, by the kernels in Triton (`mlanet.ops.message.gpu.launch`), which are imported when first run."""

    shape: MessageShape
    rows: Rows
    n_inputs: int = field(default=N_INPUTS, init=False)

    def blank(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `Operation`."""
        return tensors[0].new_empty(self.rows.start.shape[0] - 1, *tensors[0].shape[1:])

    def value(self, tensors: Sequence[Tensor]) -> Tensor:
        """m (N, M, C)."""
        from mlanet.ops.message.gpu import launch

        return launch.message(self.shape, self.rows, *_parted(tensors))

    def gradient(self, up: Tensor, tensors: Sequence[Tensor], with_weights: bool) -> tuple[Tensor, ...]:
        """See `Operation`."""
        from mlanet.ops.message.gpu import launch

        return launch.gradient(self.shape, self.rows, with_weights, up, *_parted(tensors))

    def tangent(self, up: Tensor, along: Sequence[Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """See `Operation`."""
        from mlanet.ops.message.gpu import launch

        return launch.tangent(self.shape, self.rows, up, along, *_parted(tensors))

    def reference(self, tensors: Sequence[Tensor]) -> Tensor:
        """In plain torch."""
        return message_of_rows(self.shape, self.rows, tensors)


def _parted(tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], MessageWeights]:
    """Inputs, and weights."""
    return tensors[:N_INPUTS], MessageWeights.of(tensors[N_INPUTS:])
