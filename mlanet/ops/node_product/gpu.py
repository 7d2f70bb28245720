"""The product of a node's features with themselves on GPUs as an operation (`mlanet.ops.autograd.Operation`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from mlanet.ops.node_product.reference import node_product


@dataclass(frozen=True)
class GpuProduct:
    """`node_product` by kernels in Triton (`gpu_launch`), which are imported when first run. Memory O(N).

    Input x (N, (l_in+1)², C) · weight (paths, C). Result (N, (l_out+1)², C).
    """

    l_out: int
    n_inputs: int = field(default=1, init=False)

    def blank(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `Operation`."""
        return tensors[0].new_empty(tensors[0].shape[0], (self.l_out + 1) ** 2, tensors[0].shape[2])

    def value(self, tensors: Sequence[Tensor]) -> Tensor:
        """(N, (l_out+1)², C)."""
        from mlanet.ops.node_product import gpu_launch

        return gpu_launch.product(self.l_out, tensors)

    def gradient(self, up: Tensor, tensors: Sequence[Tensor], with_weights: bool) -> tuple[Tensor, ...]:
        """See `Operation`."""
        from mlanet.ops.node_product import gpu_launch

        return gpu_launch.gradient(self.l_out, with_weights, up, tensors)

    def tangent(self, up: Tensor, along: Sequence[Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """See `Operation`."""
        from mlanet.ops.node_product import gpu_launch

        return gpu_launch.tangent(self.l_out, up, along, tensors)

    def reference(self, tensors: Sequence[Tensor]) -> Tensor:
        """In plain torch."""
        return node_product(tensors[0], tensors[1], self.l_out)
