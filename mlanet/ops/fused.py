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


class Operation(Protocol):
    """f(x; w), of `n_inputs` inputs x and of weights w that follow them in `tensors`."""

    @property
    def n_inputs(self) -> int:
        """Tensors before the weights."""

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
    gradients: tuple[Tensor, ...] = ()

    def take(self, up: Tensor) -> tuple[Tensor, ...]:
        """Gradients for x and this `up`, if they are there; they are given away."""
        known = self.up is not None and self.up.data_ptr() == up.data_ptr() and self.up.shape == up.shape
        found = self.gradients if known else ()
        self.up, self.gradients = None, ()
        return found


def apply(operation: Operation, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """f(inputs; weights), twice differentiable in all of them.

    Autograd does not tell a function which of its inputs a caller wants gradients of. So weights enter by a term of
    their own, which is worth 0: forces, which ask for no gradient of weights, then never pay for one.
    """
    shared = _Shared()
    fixed = [one.detach() for one in weights]
    out: Tensor = _Value.apply(operation, shared, weights, *inputs, *fixed)
    if not (torch.is_grad_enabled() and any(one.requires_grad for one in weights)):
        return out
    # Made after the other term, so its backward runs before and can leave gradients for it.
    return out + _Weights.apply(operation, shared, out.shape, inputs, *[one.detach() for one in inputs], *weights)


class _Value(torch.autograd.Function):
    """f, with gradients for x alone."""

    @staticmethod
    def forward(ctx: Any, operation: Operation, shared: _Shared, weights: Sequence[Tensor], *tensors: Tensor) -> Tensor:
        ctx.operation, ctx.shared, ctx.weights = operation, shared, weights
        ctx.save_for_backward(*tensors[: operation.n_inputs])
        return operation.value(tensors)

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
        tensors = [*ctx.saved_tensors, *ctx.weights]
        if torch.is_grad_enabled():
            found = _Gradient.apply(ctx.operation, up, *tensors)
        else:
            found = ctx.shared.take(up) or ctx.operation.gradient(up.contiguous(), tensors, False)
        return None, None, None, *found, *([None] * len(ctx.weights))


class _Weights(torch.autograd.Function):
    """0, with the gradients for w."""

    @staticmethod
    def forward(
        ctx: Any, operation: Operation, shared: _Shared, shape: torch.Size, inputs: Sequence[Tensor], *tensors: Tensor
    ) -> Tensor:
        ctx.operation, ctx.shared, ctx.inputs = operation, shared, inputs
        ctx.save_for_backward(*tensors)
        return tensors[0].new_zeros(()).expand(shape)

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
        tensors, n = ctx.saved_tensors, ctx.operation.n_inputs
        if torch.is_grad_enabled():  # nobody trains on gradients of weights, so plain torch will do
            found = torch.autograd.grad(
                ctx.operation.reference([*ctx.inputs, *tensors[n:]]), tensors[n:], up, create_graph=True
            )
        else:
            to_all = ctx.operation.gradient(up.contiguous(), tensors, True)
            ctx.shared.up, ctx.shared.gradients = up, to_all[:n]
            found = to_all[n:]
        return None, None, None, None, *([None] * n), *found


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
        if all(one is None for one in along):
            return (None,) * (2 + len(tensors))
        given = [torch.zeros_like(x) if a is None else a.contiguous() for a, x in zip(along, tensors, strict=False)]
        return None, *ctx.operation.tangent(up.contiguous(), given, tensors)
