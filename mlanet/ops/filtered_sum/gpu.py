"""The filtered sums of scalar-vector networks on GPUs as an operation (`mlanet.ops.autograd.Operation`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from mlanet.ops.filtered_sum.reference import received_of_rows
from mlanet.ops.rows import Rows


@dataclass(frozen=True)
class GpuFilteredSum:
    """`NativeFilteredSum` by kernels in Triton (`gpu_launch`), which are imported when first run.

    Inputs: sent (N, 2 or 5, F) · basis b (E, K) · direction û (E, 3). Weight W (2F or 3F, K). Result (N, 4, F).
    """

    rows: Rows
    n_inputs: int = field(default=3, init=False)

    def blank(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `Operation`."""
        return tensors[0].new_empty(self.rows.start.shape[0] - 1, 4, tensors[0].shape[2])

    def value(self, tensors: Sequence[Tensor]) -> Tensor:
        """m, then w (N, 4, F)."""
        from mlanet.ops.filtered_sum import gpu_launch

        return gpu_launch.received(self.rows, tensors)

    def gradient(self, up: Tensor, tensors: Sequence[Tensor], with_weights: bool) -> tuple[Tensor, ...]:
        """See `Operation`."""
        from mlanet.ops.filtered_sum import gpu_launch

        return gpu_launch.gradient(self.rows, with_weights, up, tensors)

    def tangent(self, up: Tensor, along: Sequence[Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """See `Operation`."""
        from mlanet.ops.filtered_sum import gpu_launch

        return gpu_launch.tangent(self.rows, up, along, tensors)

    def reference(self, tensors: Sequence[Tensor]) -> Tensor:
        """In plain torch, edge by edge."""
        return received_of_rows(self.rows, tensors)
