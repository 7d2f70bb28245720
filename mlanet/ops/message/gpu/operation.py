"""The dual-path message by kernels in Triton."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mlanet.ops.gpu.operation import Call, GpuOperation
from mlanet.ops.message.reference import MessageOfRows


class GpuMessage(MessageOfRows, GpuOperation):
    """Light values, by the kernels of `mlanet.ops.message.gpu.launch`.

    The tangent is, by the symmetry of second derivatives, the gradient of <along, gradient in the inputs> in up, inputs
    and weights. An edge of envelope 0 is absent, whatever its direction says.
    """

    def call(self, tensors: Sequence[Tensor], along: Sequence[Tensor] | None = None) -> Call:
        """See `GpuOperation`."""
        from mlanet.ops.message.gpu import launch

        return launch.Call(self.shape, self.rows, tensors, along)
