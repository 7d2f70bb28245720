"""A custom function with first and second derivatives, from an operation that states three things: its value, its
gradient, and how both change along a direction.

The second derivative needs nothing else. What force training asks of a gradient g(x) = ∂<up, f(x; w)>/∂x is
∂<a, g>/∂(up, x, w), and because the Hessian is symmetric that is the derivative along a of (f, ∂<up, f>/∂(x, w)).
Nothing of the size of the edges is kept between the passes: what is needed is computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mlanet.ops.traced import TracedOperation, is_tracing


class Operation(Protocol):
    """f(x; w), of `n_inputs` inputs x and of weights w that follow them in `tensors`."""

    @property
    def n_inputs(self) -> int:
        """Tensors before the weights."""

    def blank(self, tensors: Sequence[Tensor]) -> Tensor:
        """A tensor of the shape and kind of f, whose numbers mean nothing."""

    def value(self, tensors: Sequence[Tensor]) -> Tensor:
        """f."""

    def gradient(self, up: Tensor, tensors: Sequence[Tensor], with_weights: bool) -> tuple[Tensor, ...]:
        """∂<up, f>/∂x, and ∂<up, f>/∂w behind it if asked for."""

    def tangent(self, up: Tensor, along: Sequence[Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Derivatives of f, ∂<up, f>/∂x and ∂<up, f>/∂w along a change of x; up and w stay."""

    def reference(self, tensors: Sequence[Tensor]) -> Tensor:
        """f in plain torch, differentiable to any order."""


@dataclass
class _Shared:
    """What the two halves of one call know of each other: gradients for x that were computed with those for w."""

    up: Tensor | None = None
    version: int = 0
    gradients: tuple[Tensor, ...] = ()

    def give(self, up: Tensor, gradients: tuple[Tensor, ...]) -> None:
        """Leave gradients for x and this `up`."""
        self.up, self.version, self.gradients = up, up._version, gradients

    def take(self, up: Tensor) -> tuple[Tensor, ...]:
        """Gradients for x and this `up`, unchanged since, if they are there; they are given away."""
        was = self.up
        known = was is up or (was is not None and not is_tracing() and _place(was) == _place(up))
        gradients = self.gradients if known and up._version == self.version else ()
        self.up, self.gradients = None, ()
        return gradients


def _place(tensor: Tensor) -> tuple[object, ...]:
    """Where a tensor's numbers are."""
    return tensor.data_ptr(), tensor.shape, tensor.stride()


def apply(operation: Operation, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """f(inputs; weights), twice differentiable in all of them.

    Autograd does not tell a function which of its inputs a caller wants gradients of. So weights enter by a term of
    their own, which is worth 0: forces, which ask for no gradient of weights, then never pay for one.

    Raises:
        TypeError: tensors of several types or devices.
    """
    kinds = {(tensor.dtype, tensor.device) for tensor in (*inputs, *weights)}
    if len(kinds) > 1:
        named = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
        raise TypeError(f"fused kernels need one precision and one device, got {named}")
    shared = _Shared()
    operation = TracedOperation(operation) if is_tracing() else operation
    out: Tensor = _Value.apply(operation, shared, weights, *inputs)
    if not (torch.is_grad_enabled() and any(weight.requires_grad for weight in weights)):
        return out
    # Made after the other term, so its backward runs before and can leave gradients for it.
    return out + _Weights.apply(operation, shared, out.shape, inputs, *weights)


class _Value(torch.autograd.Function):
    """f, with gradients for x alone; the weights come in a list, where autograd does not see them."""

    @staticmethod
    def forward(ctx: Any, operation: Operation, shared: _Shared, weights: Sequence[Tensor], *inputs: Tensor) -> Tensor:
        ctx.operation, ctx.shared = operation, shared
        ctx.save_for_backward(*inputs, *weights)
        return operation.value([*inputs, *weights])

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            gradients = _Gradient.apply(ctx.operation, up, *ctx.saved_tensors)
        else:
            gradients = ctx.shared.take(up) or ctx.operation.gradient(up.contiguous(), ctx.saved_tensors, False)
        return None, None, None, *gradients


class _Weights(torch.autograd.Function):
    """0, with the gradients for w; the inputs come in a list."""

    @staticmethod
    def forward(
        ctx: Any, operation: Operation, shared: _Shared, shape: torch.Size, inputs: Sequence[Tensor], *weights: Tensor
    ) -> Tensor:
        ctx.operation, ctx.shared = operation, shared
        ctx.save_for_backward(*inputs, *weights)
        return weights[0].new_zeros(()).expand(shape)

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
        tensors, n = ctx.saved_tensors, ctx.operation.n_inputs
        if torch.is_grad_enabled():  # nobody trains on gradients of weights, so plain torch will do
            gradients = _by_reference(ctx.operation, tensors, up)
        else:
            to_all = ctx.operation.gradient(up.contiguous(), tensors, True)
            ctx.shared.give(up, to_all[:n])
            gradients = to_all[n:]
        return None, None, None, None, *gradients


def _by_reference(operation: Operation, tensors: Sequence[Tensor], up: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients for w that can be differentiated to any order; None for weights that are not trained."""
    weights = tensors[operation.n_inputs :]
    asked = [weight for weight in weights if weight.requires_grad]
    given = iter(torch.autograd.grad(operation.reference(tensors), asked, up, create_graph=True))
    return tuple(next(given) if weight.requires_grad else None for weight in weights)


class _Gradient(torch.autograd.Function):
    """∂<up, f>/∂x, differentiable once more."""

    @staticmethod
    def forward(ctx: Any, operation: Operation, up: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.operation = operation
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(up, *tensors)
        return operation.gradient(up.contiguous(), tensors, False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *along: Tensor | None) -> tuple[Tensor | None, ...]:
        up, *tensors = ctx.saved_tensors
        if all(tensor is None for tensor in along):
            return (None,) * (2 + len(tensors))
        given = [torch.zeros_like(x) if a is None else a.contiguous() for a, x in zip(along, tensors, strict=False)]
        return None, *ctx.operation.tangent(up.contiguous(), given, tensors)
