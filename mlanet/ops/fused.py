"""The dual-path message of all centers, block by block: nothing of the size of the edges is kept.

A custom function with first and second derivatives. Forward: `block.message` of a few centers at a time. Backward:
each block is computed again and differentiated; double backward likewise. What is gathered from the neighbours, z,
logits, gates and weights live for one block only, in the cache. The blocks have one shape, so they can be compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mlanet.ops import block
from mlanet.ops.block import N_GATHERED, N_INPUTS, BlockShape, BlockWeights

ROWS = 640
"""Edges of a block, about: what is computed for them fits the second-level cache of current CPUs (measured)."""

DEGREE_STEP = 8
"""Rows per center are rounded up to it, so that few shapes have to be compiled."""

N_CENTER = 3
"""Inputs that belong to centers; those after them belong to edges."""


@dataclass(frozen=True)
class Plan:
    """How one batch is cut into blocks.

    - neighbor (N, D): who sends · centers: of a block · compiled: whether blocks run compiled
    """

    shape: BlockShape
    neighbor: Tensor
    centers: int
    compiled: bool

    @classmethod
    def of(cls, shape: BlockShape, neighbor: Tensor, compiled: bool) -> Plan:
        """Blocks of a power of two of centers, with about `ROWS` edges."""
        n, degree = neighbor.shape
        centers = 1 << max(0, (ROWS // degree).bit_length() - 1)
        return cls(shape, neighbor, min(centers, 1 << (n - 1).bit_length()), compiled)

    def blocks(self) -> list[tuple[int, int]]:
        """First and last center of each."""
        n = len(self.neighbor)
        return [(start, min(n, start + self.centers)) for start in range(0, n, self.centers)]

    def cut(self, tensors: Sequence[Tensor], start: int, stop: int) -> list[Tensor]:
        """Inputs of one block: gathered from neighbours, or sliced; filled up with centers that have no neighbour."""
        rows = self.neighbor[start:stop].flatten()
        found = []
        for index, one in enumerate(tensors):
            gathered = index < N_GATHERED
            piece = one.index_select(0, rows).unflatten(0, (stop - start, -1)) if gathered else one[start:stop]
            found.append(self.filled(piece))
        return found

    def filled(self, rows: Tensor) -> Tensor:
        """(n, …) -> (centers, …), zeros behind."""
        missing = self.centers - len(rows)
        return torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])]) if missing else rows

    def run(self, name: str, static: tuple[Any, ...], arguments: Sequence[Any]) -> Any:
        """A function of `block`, as it is or compiled."""
        function = getattr(block, name)
        if not self.compiled:
            return function(*static, *arguments)
        return KERNELS.run(function, static, arguments)


def fused_message(plan: Plan, inputs: Sequence[Tensor], weights: BlockWeights) -> Tensor:
    """m (N, M, C) of all centers; `inputs` as `BlockInputs`, the gathered ones still by atom (N, …).

    Twice differentiable in all inputs and weights. Memory O(N), computing about half as much again as without blocks.
    """
    found: Tensor = _Message.apply(plan, *inputs, *weights.flat())
    return found


class _Message(torch.autograd.Function):
    """The message."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, *tensors: Tensor) -> Tensor:
        ctx.plan = plan
        ctx.save_for_backward(*tensors)
        inputs, weights = tensors[:N_INPUTS], tensors[N_INPUTS:]
        value = tensors[0]
        out = value.new_empty(len(plan.neighbor), *value.shape[1:])
        for start, stop in plan.blocks():
            arguments = [*plan.cut(inputs, start, stop), *weights]
            out[start:stop] = plan.run("message_flat", (plan.shape,), arguments)[: stop - start]
        return out

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
        wants_weights = any(ctx.needs_input_grad[1 + N_INPUTS :])
        found = _Gradient.apply(ctx.plan, wants_weights, up, *ctx.saved_tensors)
        return None, *found, *([None] * (len(ctx.saved_tensors) - len(found)))


class _Gradient(torch.autograd.Function):
    """Its gradients with respect to inputs and, if wanted, weights."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, wants_weights: bool, up: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(up, *tensors)
        inputs, weights = tensors[:N_INPUTS], tensors[N_INPUTS:]
        wanted = len(tensors) if wants_weights else N_INPUTS
        sums = _Sums(plan, [torch.zeros_like(one) for one in tensors[:wanted]])
        for start, stop in plan.blocks():
            arguments = [plan.filled(up[start:stop]), *plan.cut(inputs, start, stop), *weights]
            sums.add(plan.run("gradient_flat", (plan.shape, wanted), arguments), start, stop)
        return tuple(sums.totals)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *along: Tensor | None) -> tuple[Tensor | None, ...]:
        plan: Plan = ctx.plan
        up, *tensors = ctx.saved_tensors
        inputs, weights = tensors[:N_INPUTS], tensors[N_INPUTS:]
        chosen = tuple(index for index, one in enumerate(along) if one is not None)
        if not chosen:
            return (None,) * (3 + len(tensors))
        given = [torch.zeros_like(one) if a is None else a for one, a in zip(inputs, along, strict=False)]
        of_weights = [along[k] for k in chosen if k >= N_INPUTS]
        sums = _Sums(plan, [torch.zeros_like(one) for one in tensors])
        to_up = torch.empty_like(up)
        for start, stop in plan.blocks():
            pieces = plan.cut(given, start, stop)
            directions = [pieces[k] for k in chosen if k < N_INPUTS] + of_weights
            arguments = [plan.filled(up[start:stop]), *directions, *plan.cut(inputs, start, stop), *weights]
            first, *others = plan.run("second_flat", (plan.shape, chosen), arguments)
            to_up[start:stop] = first[: stop - start]
            sums.add(others, start, stop)
        return None, None, to_up, *sums.totals


@dataclass
class _Sums:
    """Gradients of blocks joined into gradients of everything."""

    plan: Plan
    totals: list[Tensor]

    def add(self, pieces: Sequence[Tensor], start: int, stop: int) -> None:
        """Gathered inputs are added to who sent them, rows put in their place, weights summed."""
        rows = self.plan.neighbor[start:stop].flatten()
        for index, (total, piece) in enumerate(zip(self.totals, pieces, strict=True)):
            if index < N_GATHERED:
                total.index_add_(0, rows, piece[: stop - start].flatten(0, 1))
            elif index < N_INPUTS:
                total[start:stop] = piece[: stop - start]
            else:
                total += piece


@dataclass
class Kernels:
    """Compiled functions by what they compute and for which shapes; traced once with their derivatives inside."""

    known: dict[tuple[Any, ...], Callable[..., Any]] = field(default_factory=dict)

    def run(self, function: Callable[..., Any], static: tuple[Any, ...], arguments: Sequence[Tensor]) -> Any:
        """Call the kernel for these shapes, making it if need be."""
        key = (function.__name__, static, *((one.shape, one.dtype) for one in arguments))
        if key not in self.known:
            self.known[key] = self._made(function, static, arguments)
        with torch.no_grad():
            return self.known[key](*arguments)

    def _made(self, function: Callable[..., Any], static: tuple[Any, ...], arguments: Sequence[Tensor]) -> Any:
        from torch.fx.experimental.proxy_tensor import make_fx

        example = [one.detach().clone() for one in arguments]
        with torch.no_grad():
            graph = make_fx(lambda *tensors: function(*static, *tensors))(*example)
        return torch.compile(graph, dynamic=False)


KERNELS = Kernels()
"""Of this process."""
