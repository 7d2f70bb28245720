"""Sums of neighbours' scalars and vectors, filtered by distance: the messages of scalar-vector networks.

With a filter that is linear in its basis, λ_c(d) = Σ_k W_ck b_k(d), and û_ij = (R_i − R_j)/d:

    scalars  m_i = Σ_j λ_s(d_ij) ∘ s_j
    vectors  w_i = Σ_j λ_a(d_ij) ∘ a_j û_ij + λ_v(d_ij) ∘ v_j

`reference` is the meaning. `by_center` sums Σ_j b_k(d_ij) x_j first, one small matrix product per center, and applies W
to the sums: no filter is ever stored for an edge. `by_kernel` does all in C++ or, on a GPU, in Triton. These three are
twice differentiable.
For inference λ(d) may be read from a spline's table, at a cost per edge that does not depend on K.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mlanet.ops import autograd, backend
from mlanet.ops.filtered_sum.cpu import NativeFilteredSum
from mlanet.ops.filtered_sum.gpu import GpuFilteredSum
from mlanet.ops.rows import Rows
from mlanet.ops.segment import Neighborhoods

ROWS_PER_FUNCTION = 1.5
"""Neighbours per radial function from which sums by center beat sums edge by edge, on a CPU."""


class FilterEdges(NamedTuple):
    """Edges as every layer of a scalar-vector network sees them, computed once.

    - around: edges by center · neighbor (E,) · basis b (E, K), vanishing at the cutoff · direction û (E, 3)
    - directed b_k û (E, 3K), component-major, where sums by center pay (`pays_by_center`), else None
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


def filtered_sum(edges: FilterEdges, senders: Senders, weight: Tensor) -> tuple[Tensor, Tensor]:
    """m (N, F) and w (N, 3, F) by the form that suits the layout of the edges.

    - weight W (2F or 3F, K): rows of λ_s, λ_a and, with vectors, λ_v; or a table (G, 2F or 3F) of their values
    """
    if edges.kernel_rows is not None:
        return by_kernel(edges.kernel_rows, edges, senders, weight)
    return (reference if edges.directed is None else by_center)(edges, senders, weight)


def pays_by_center(around: Neighborhoods, functions: int) -> bool:
    """Whether summing by centers is the faster form: for tables with more rows than some 1.5 functions (measured)."""
    return around.degree > ROWS_PER_FUNCTION * functions


def edge_filters(edges: FilterEdges, weight: Tensor) -> Tensor:
    """λ(d) = W b(d) of every edge, (E, n); or Σ_m b_m table[row_m] where filters are read from a table."""
    if edges.rows is None:
        return edges.basis @ weight.T
    return torch.nn.functional.embedding_bag(edges.rows, weight, mode="sum", per_sample_weights=edges.basis)


def reference(edges: FilterEdges, senders: Senders, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The equations, edge by edge. Cost per edge 6 K F + 16 F FLOP, about 15 F numbers stored."""
    around, neighbor = edges.around, edges.neighbor
    filters = edge_filters(edges, weight).tensor_split(_blocks(senders), dim=1)
    scalars = around.sum(filters[0] * senders.scalars.index_select(0, neighbor))
    arrows = filters[1] * senders.arrows.index_select(0, neighbor)
    message = arrows[:, None, :] * edges.direction[:, :, None]
    if senders.vectors is not None:
        message = message + filters[2][:, None, :] * senders.vectors.index_select(0, neighbor)
    return scalars, around.sum(message)


def by_center(edges: FilterEdges, senders: Senders, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The same for a neighbourhood table. Cost per edge 14 K F FLOP, in matrix products; 5 F numbers stored."""
    around, (n, width) = edges.around, senders.scalars.shape
    assert edges.directed is not None
    filters = weight.view(_blocks(senders), width, -1).transpose(1, 2)
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


def by_kernel(rows: Rows, edges: FilterEdges, senders: Senders, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The same in C++ or Triton, edge by edge, nothing of which is stored."""
    sent = torch.stack([senders.scalars, senders.arrows], dim=1)
    if senders.vectors is not None:
        sent = torch.cat([sent, senders.vectors], dim=1)
    operation: autograd.Operation = GpuFilteredSum(rows) if backend.by_triton(sent) else NativeFilteredSum(rows)
    received = autograd.apply(operation, (sent, edges.basis, edges.direction), (weight,))
    return received[:, 0], received[:, 1:]


def _blocks(senders: Senders) -> int:
    """How many filters: two, or three where there are vectors to carry."""
    return 2 if senders.vectors is None else 3
