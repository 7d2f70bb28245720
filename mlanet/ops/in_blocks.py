"""The dual-path message a few centers at a time, in plain torch: needs no compiler and memory of the size of atoms.

What is gathered from the neighbours, z, logits, gates and weights live for one block only, in the cache of a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mlanet.ops.block import (
    N_CENTER,
    N_GATHERED,
    N_INPUTS,
    BlockInputs,
    BlockShape,
    BlockWeights,
    message,
    message_of_rows,
)
from mlanet.ops.rows import Rows

ROWS = 640
"""Edges of a block, about: what is computed for them fits the second-level cache of current CPUs (measured)."""


@dataclass(frozen=True)
class MessageInBlocks:
    """An `Operation` on a table of neighbours, `degree` rows for each center."""

    shape: BlockShape
    rows: Rows
    degree: int
    n_inputs: int = field(default=N_INPUTS, init=False)

    def blank(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `Operation`."""
        return tensors[0].new_empty(self.rows.start.shape[0] - 1, *tensors[0].shape[1:])

    def value(self, tensors: Sequence[Tensor]) -> Tensor:
        """m (N, M, C)."""
        with torch.no_grad():
            return torch.cat([self._message(self._cut(tensors, *block)) for block in self._blocks()])

    def gradient(self, up: Tensor, tensors: Sequence[Tensor], with_weights: bool) -> tuple[Tensor, ...]:
        """See `Operation`."""
        wanted = len(tensors) if with_weights else N_INPUTS
        sums = [torch.zeros_like(one) for one in tensors[:wanted]]
        for start, stop in self._blocks():
            leaves = _leaves(self._cut(tensors, start, stop))
            with torch.enable_grad():
                found = torch.autograd.grad(self._message(leaves), leaves[:wanted], up[start:stop])
            self._add(sums, found, start, stop)
        return tuple(sums)

    def tangent(self, up: Tensor, along: Sequence[Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """See `Operation`; by differentiating the gradient of each block."""
        sums, change = [torch.zeros_like(one) for one in tensors], torch.empty_like(up)
        for start, stop in self._blocks():
            leaves, pieces = _leaves(self._cut(tensors, start, stop)), self._cut(along, start, stop)
            above = up[start:stop].detach().requires_grad_()
            with torch.enable_grad():
                first = torch.autograd.grad(self._message(leaves), leaves[:N_INPUTS], above, create_graph=True)
                total = torch.stack([(one * a).sum() for one, a in zip(first, pieces, strict=True)]).sum()
                change[start:stop], *found = torch.autograd.grad(total, [above, *leaves], materialize_grads=True)
            self._add(sums, found, start, stop)
        return change, *sums

    def reference(self, tensors: Sequence[Tensor]) -> Tensor:
        """All centers at once."""
        return message_of_rows(self.shape, self.rows, tensors)

    def _message(self, tensors: Sequence[Tensor]) -> Tensor:
        return message(self.shape, BlockInputs(*tensors[:N_INPUTS]), BlockWeights.of(tensors[N_INPUTS:]))

    def _blocks(self) -> list[tuple[int, int]]:
        """First and last center of each block."""
        n, step = len(self.rows.start) - 1, max(1, ROWS // self.degree)
        return [(start, min(n, start + step)) for start in range(0, n, step)]

    def _cut(self, tensors: Sequence[Tensor], start: int, stop: int) -> list[Tensor]:
        """Of one block: gathered from neighbours, sliced by center, sliced by edge; weights as they are."""
        first, last = start * self.degree, stop * self.degree
        senders = self.rows.neighbor[first:last]
        found = []
        for index, one in enumerate(tensors):
            if index < N_GATHERED:
                one = one.index_select(0, senders).unflatten(0, (stop - start, self.degree))
            elif index < N_CENTER:
                one = one[start:stop]
            elif index < N_INPUTS:
                one = one[first:last].unflatten(0, (stop - start, self.degree))
            found.append(one)
        return found

    def _add(self, sums: Sequence[Tensor], pieces: Sequence[Tensor], start: int, stop: int) -> None:
        """Gathered inputs are added to who sent them, others put in their place, weights summed."""
        first, last = start * self.degree, stop * self.degree
        for index, (total, piece) in enumerate(zip(sums, pieces, strict=True)):
            if index < N_GATHERED:
                total.index_add_(0, self.rows.neighbor[first:last], piece.flatten(0, 1))
            elif index < N_CENTER:
                total[start:stop] = piece
            elif index < N_INPUTS:
                total[first:last] = piece.flatten(0, 1)
            else:
                total += piece


def _leaves(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [one.detach().requires_grad_() for one in tensors]
