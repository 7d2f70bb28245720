"""The filtered sum for inference on a CPU: a few centers at a time, so that what is gathered stays in the cache.

Same values as `filtered_sum.reference`, once differentiable. The backward pass gathers again instead of keeping what
the forward pass gathered, so memory grows with atoms: nothing of size edges × channels is ever stored.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_BYTES = 1 << 20
"""Of gathered neighbours at a time; half of a core's second-level cache on current CPUs."""


class BlockedSum(torch.autograd.Function):
    """m (N, F) and w (N, 3, F) from tables of the edges and what the atoms send.

    - plain (N, D, K): basis b · directed (N, D, 3K): b û · neighbor (N D,)
    - sent (N, F or 4F): scalars, then vectors · arrows (N, F) · filters (2 or 3, K, F): W of scalars, arrows, vectors
    """

    @staticmethod
    def forward(
        ctx: Any, plain: Tensor, directed: Tensor, neighbor: Tensor, sent: Tensor, arrows: Tensor, filters: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Block by block."""
        ctx.save_for_backward(plain, directed, neighbor, sent, arrows, filters)
        n, width = arrows.shape
        scalars, vectors = arrows.new_empty(n, width), arrows.new_empty(n, 3, width)
        for block in _blocks(plain, sent):
            gathered, pointed = _gather(block, plain, neighbor, sent, arrows)
            sums = torch.bmm(plain[block].transpose(1, 2), gathered)
            along = torch.bmm(directed[block].transpose(1, 2), pointed).unflatten(1, (3, -1))
            torch.sum(sums[:, :, :width] * filters[0], dim=1, out=scalars[block])
            torch.sum(along.mul_(filters[1]), dim=2, out=vectors[block])
            if len(filters) == 3:
                carried = sums[:, :, width:].unflatten(2, (3, width)) * filters[2][:, None, :]
                vectors[block] += carried.sum(1)
        return scalars, vectors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scalars: Tensor, vectors: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of everything but the neighbours; those of the filters only where they are asked for."""
        plain, directed, neighbor, sent, arrows, filters = ctx.saved_tensors
        to_plain, to_directed = torch.empty_like(plain), torch.empty_like(directed)
        to_sent, to_arrows = torch.zeros_like(sent), torch.zeros_like(arrows)
        to_filters = torch.zeros_like(filters) if ctx.needs_input_grad[5] else None
        degree = plain.shape[1]
        for block in _blocks(plain, sent):
            gathered, pointed = _gather(block, plain, neighbor, sent, arrows)
            m, w = scalars[block], vectors[block]
            pull = m[:, None, :] * filters[0]
            if len(filters) == 3:
                pull = torch.cat([pull, (w[:, None] * filters[2][:, None, :]).flatten(2)], dim=2)
            push = (w[:, :, None, :] * filters[1]).flatten(1, 2)
            torch.bmm(gathered, pull.transpose(1, 2), out=to_plain[block])
            torch.bmm(pointed, push.transpose(1, 2), out=to_directed[block])
            rows = neighbor[block.start * degree : block.stop * degree, None]
            for target, pulled in (
                (to_sent, torch.bmm(plain[block], pull)),
                (to_arrows, torch.bmm(directed[block], push)),
            ):
                target.scatter_add_(0, rows.expand(-1, target.shape[1]), pulled.flatten(0, 1))
            if to_filters is not None:
                to_filters += _filter_gradient(plain[block], directed[block], gathered, pointed, m, w, len(filters))
        return to_plain, to_directed, None, to_sent, to_arrows, to_filters


def _blocks(plain: Tensor, sent: Tensor) -> list[slice]:
    """Ranges of centers whose neighbours fit the cache."""
    n, degree, _ = plain.shape
    size = max(1, BLOCK_BYTES // max(1, degree * sent.shape[1] * sent.element_size()))
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _gather(block: slice, plain: Tensor, neighbor: Tensor, sent: Tensor, arrows: Tensor) -> tuple[Tensor, Tensor]:
    """(B, D, F or 4F) and (B, D, F): what the neighbours of a block's centers send."""
    degree = plain.shape[1]
    rows = neighbor[block.start * degree : block.stop * degree]
    shape = (block.stop - block.start, degree, -1)
    return sent.index_select(0, rows).view(shape), arrows.index_select(0, rows).view(shape)


def _filter_gradient(
    plain: Tensor, directed: Tensor, gathered: Tensor, pointed: Tensor, m: Tensor, w: Tensor, count: int
) -> Tensor:
    """(2 or 3, K, F) of one block."""
    width = m.shape[1]
    sums = torch.bmm(plain.transpose(1, 2), gathered)
    along = torch.bmm(directed.transpose(1, 2), pointed).unflatten(1, (3, -1))
    parts = [torch.einsum("bkf,bf->kf", sums[:, :, :width], m), torch.einsum("bxkf,bxf->kf", along, w)]
    if count == 3:
        parts.append(torch.einsum("bkxf,bxf->kf", sums[:, :, width:].unflatten(2, (3, width)), w))
    return torch.stack(parts)
