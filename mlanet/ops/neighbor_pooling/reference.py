"""Two ways to pool the neighbours of an atom, in plain torch: their weighted sum and their smooth maximum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mlanet.ops.rows import Rows
from mlanet.ops.segment import Neighborhoods


def pooled_neighbors(features: Tensor, envelope: Tensor, neighbor: Tensor, around: Neighborhoods) -> Tensor:
    """Σ_j u x_j and log(1 + Σ_j u e^{x_j}): a maximum that fades at the cutoff; both 0 without neighbours.

    - features x (N, C) · envelope u (E,) -> (N, 2, C)
    """
    sender = features.index_select(0, neighbor)
    total = around.sum(envelope[:, None] * sender)
    # An edge that weighs nothing must not set the scale of the others: they would all underflow.
    sender = sender * (envelope > 0)[:, None]
    peak = around.max(sender).clamp(min=0)
    weight = envelope[:, None] * torch.exp(sender - around.spread(peak))
    highest = peak + torch.log(torch.exp(-peak) + around.sum(weight))
    return torch.stack([total, highest], dim=1)


@dataclass(frozen=True)
class PoolingOfRows:
    """`pooled_neighbors` of all centers, for edges in rows, as far as its kernels have it in common."""

    rows: Rows
    n_inputs = 2

    def blank(self, tensors: Sequence[Tensor]) -> Tensor:
        """(N, 2, C)."""
        return tensors[0].new_empty(self.rows.start.shape[0] - 1, 2, tensors[0].shape[1])

    def reference(self, tensors: Sequence[Tensor]) -> Tensor:
        """In plain torch."""
        return pooled_neighbors(tensors[0], tensors[1], self.rows.neighbor, self.rows.around())
