"""Two ways to pool the neighbours of an atom, in plain torch: their weighted sum and their smooth maximum."""

from __future__ import annotations

import torch
from torch import Tensor

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
