"""An operation by kernels in Triton, from a call of its kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor


class Call(Protocol):
    """One problem on its way through the kernels, on numbers with or without a slope (`dual`)."""

    def value(self) -> Tensor:
        """f; where a direction was given, its slope."""

    def gradient(self, up: Tensor, with_weights: bool) -> tuple[Tensor, ...]:
        """∂<up, f> in the inputs and, if wanted, the weights; where a direction was given, its slope."""


class GpuOperation:
    """An `Operation` (`mlanet.ops.autograd`) whose three functions are those of a `Call`.

    What its room's `reference` states has `n_inputs`, `blank` and `reference`; subclasses of both say `call`. That
    imports the kernels, and triton with them, so that nothing of it is loaded before. The first input is by atom, and
    without atoms no kernel is started.
    """

    n_inputs: int
    blank: Callable[[Sequence[Tensor]], Tensor]

    def call(self, tensors: Sequence[Tensor], along: Sequence[Tensor] | None = None) -> Call:
        """For inputs and weights, and a direction of the inputs."""
        raise NotImplementedError

    def value(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `Operation`."""
        return self.call(tensors).value() if len(tensors[0]) else self.blank(tensors)

    def gradient(self, up: Tensor, tensors: Sequence[Tensor], with_weights: bool) -> tuple[Tensor, ...]:
        """See `Operation`."""
        if not len(tensors[0]):
            return tuple(map(torch.zeros_like, tensors if with_weights else tensors[: self.n_inputs]))
        return self.call(tensors).gradient(up.detach().contiguous(), with_weights)

    def tangent(self, up: Tensor, along: Sequence[Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """See `Operation`."""
        if not len(tensors[0]):
            return tuple(map(torch.zeros_like, (up, *tensors)))
        call = self.call(tensors, along)
        return call.value(), *call.gradient(up.detach().contiguous(), True)
