"""Sums of neighbours' scalars and vectors, filtered by distance: the messages of scalar-vector networks.

With a filter that is linear in its basis, λ_c(d) = Σ_k W_ck b_k(d), and û_ij = (R_i − R_j)/d:

    scalars  m_i = Σ_j λ_s(d_ij) ∘ s_j
    vectors  w_i = Σ_j λ_a(d_ij) ∘ a_j û_ij + λ_v(d_ij) ∘ v_j

For inference λ(d) may be read from a spline's table, at a cost per edge that does not depend on K.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mlanet.ops.rows import Rows
from mlanet.ops.segment import Neighborhoods


class FilterEdges(NamedTuple):
    """Edges as every layer of a scalar-vector network sees them, computed once.

    - around: edges by center · neighbor (E,) · basis b (E, K), vanishing at the cutoff · direction û (E, 3)
    - directed b_k û (E, 3K), component-major, for sums by center, else None
    - rows (E, 4 or 5): of a table of λ, where filters are read from one; `basis` then holds the weight of each row
    - kernel_rows: the same edges as kernels read them, where sums are by kernels
    """

    around: Neighborhoods
    neighbor: Tensor
    basis: Tensor
    direction: Tensor
    directed: Tensor | None
    rows: Tensor | None = None
    kernel_rows: Rows | None = None


class Senders(NamedTuple):
    """What each atom sends.

    - scalars s (N, F) · arrows a (N, F), sent along û · vectors v (N, 3, F), None where all are 0
    """

    scalars: Tensor
    arrows: Tensor
    vectors: Tensor | None

    def stacked(self) -> Tensor:
        """(N, 2 or 5, F), as kernels read them."""
        sent = torch.stack([self.scalars, self.arrows], dim=1)
        return sent if self.vectors is None else torch.cat([sent, self.vectors], dim=1)


def edge_filters(edges: FilterEdges, weight: Tensor) -> Tensor:
    """λ(d) = W b(d) of every edge, (E, n); or Σ_m b_m table[row_m] where filters are read from a table."""
    if edges.rows is None:
        return edges.basis @ weight.T
    return torch.nn.functional.embedding_bag(edges.rows, weight, mode="sum", per_sample_weights=edges.basis)


def filtered_sum(edges: FilterEdges, senders: Senders, weight: Tensor) -> tuple[Tensor, Tensor]:
    """m (N, F) and w (N, 3, F), edge by edge. Cost per edge 6 K F + 16 F FLOP, about 15 F numbers stored.

    - weight W (2F or 3F, K): rows of λ_s, λ_a and, with vectors, λ_v; or a table (G, 2F or 3F) of their values
    """
    around, neighbor = edges.around, edges.neighbor
    filters = edge_filters(edges, weight).tensor_split(filters_of(senders), dim=1)
    scalars = around.sum(filters[0] * senders.scalars.index_select(0, neighbor))
    arrows = filters[1] * senders.arrows.index_select(0, neighbor)
    message = arrows[:, None, :] * edges.direction[:, :, None]
    if senders.vectors is not None:
        message = message + filters[2][:, None, :] * senders.vectors.index_select(0, neighbor)
    return scalars, around.sum(message)


def filters_of(senders: Senders) -> int:
    """How many filters: two, or three where there are vectors to carry."""
    return 2 if senders.vectors is None else 3


def received_of_rows(rows: Rows, tensors: Sequence[Tensor]) -> Tensor:
    """(N, 4, F), m then w, for edges in rows. - tensors: sent (N, 2 or 5, F), basis (E, K), direction (E, 3), W"""
    sent, basis, direction, weight = tensors
    edges = FilterEdges(rows.around(), rows.neighbor, basis, direction, None)
    senders = Senders(sent[:, 0], sent[:, 1], sent[:, 2:] if sent.shape[1] > 2 else None)
    scalars, vectors = filtered_sum(edges, senders, weight)
    return torch.cat([scalars[:, None], vectors], dim=1)


@dataclass(frozen=True)
class FilteredSumOfRows:
    """The sums of all centers, for edges in rows, as far as their kernels have it in common (`mlanet.ops.autograd`).

    Inputs: sent (N, 2 or 5, F), scalars, arrows and vectors · basis b (E, K); an edge whose basis is 0 is absent
    · direction û (E, 3). Weight W (2F or 3F, K). Result (N, 4, F): m, then w.
    """

    rows: Rows
    n_inputs = 3

    def blank(self, tensors: Sequence[Tensor]) -> Tensor:
        """(N, 4, F)."""
        return tensors[0].new_empty(self.rows.start.shape[0] - 1, 4, tensors[0].shape[2])

    def reference(self, tensors: Sequence[Tensor]) -> Tensor:
        """In plain torch, edge by edge."""
        return received_of_rows(self.rows, tensors)
