"""The dual-path message by kernels in Triton."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mlanet.ops.gpu.operation import Call, GpuOperation
from mlanet.ops.message.reference import N_INPUTS, MessageShape, message_of_rows
from mlanet.ops.rows import Rows


@dataclass(frozen=True)
class GpuMessage(GpuOperation):
    """Light values, by the kernels of `mlanet.ops.message.gpu.launch`.

    The tangent is, by the symmetry of second derivatives, the gradient of <along, gradient in the inputs> in up, inputs
    and weights. An edge of envelope 0 is absent, whatever its direction says.
    """

    shape: MessageShape
    rows: Rows
    n_inputs = N_INPUTS

    def blank(self, tensors: Sequence[Tensor]) -> Tensor:
        """m (N, M, C)."""
        return tensors[0].new_empty(self.rows.start.shape[0] - 1, *tensors[0].shape[1:])

    def call(self, tensors: Sequence[Tensor], along: Sequence[Tensor] | None = None) -> Call:
        """See `GpuOperation`."""
        from mlanet.ops.message.gpu import launch

        return launch.Call(self.shape, self.rows, tensors, along)

    def reference(self, tensors: Sequence[Tensor]) -> Tensor:
        """In plain torch."""
        return message_of_rows(self.shape, self.rows, tensors)
