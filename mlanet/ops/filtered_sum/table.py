"""Filtered sums for tables of neighbours: Σ_j b_k(d_ij) x_j first, one small matrix product per center, then W.

No filter is ever stored for an edge. As `reference`, twice differentiable.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mlanet.ops.filtered_sum.reference import FilterEdges, Senders, filters_of


def filtered_sum(edges: FilterEdges, senders: Senders, weight: Tensor) -> tuple[Tensor, Tensor]:
    """m (N, F) and w (N, 3, F). Cost per edge 14 K F FLOP, in matrix products; 5 F numbers stored."""
    around, (n, width) = edges.around, senders.scalars.shape
    assert edges.directed is not None
    filters = weight.view(filters_of(senders), width, -1).transpose(1, 2)
    plain = around.table(edges.basis).transpose(1, 2)
    directed = around.table(edges.directed).transpose(1, 2)
    sent = senders.scalars
    if senders.vectors is not None:
        sent = torch.cat([sent, senders.vectors.flatten(1)], dim=1)
    gathered = around.table(sent.index_select(0, edges.neighbor))
    arrows = around.table(senders.arrows.index_select(0, edges.neighbor))
    along = torch.bmm(directed, arrows).view(n, 3, -1, width)
    vectors = (along * filters[1]).sum(2)
    sums = torch.bmm(plain, gathered)
    if senders.vectors is None:
        return (sums * filters[0]).sum(1), vectors
    scalars, carried = sums.split((width, 3 * width), dim=2)
    carried = carried.unflatten(2, (3, width)) * filters[2][:, None, :]
    return (scalars * filters[0]).sum(1), vectors + carried.sum(1)
