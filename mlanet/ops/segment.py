"""Sums over the edges of each center; native torch.

`torch-scatter` (an optional extra) can stand in for the plain sum only: its CSR reductions return wrong second
derivatives, which force training needs, so nothing else of it is used.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def segment_sum(values: Tensor, index: Tensor, n_segments: int) -> Tensor:
    """out[s] = Σ_{e: index[e]=s} values[e]; twice differentiable, deterministic on CPU.

    - values (E, ...) · index (E,) int64 in [0, n_segments) · returns (n_segments, ...)

    >>> segment_sum(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 0, 2]), 4).tolist()
    [3.0, 0.0, 4.0, 0.0]
    """
    out = torch.zeros((n_segments, *values.shape[1:]), dtype=values.dtype, device=values.device)
    return out.index_add(0, index, values)


def segment_sum_scatter(values: Tensor, index: Tensor, n_segments: int) -> Tensor:
    """The twin of `segment_sum` on torch-scatter's `scatter_add` (extra `scatter`); same values and derivatives."""
    from torch_scatter import scatter_add

    return scatter_add(values, index, dim=0, dim_size=n_segments)


def segment_mean(values: Tensor, index: Tensor, n_segments: int) -> Tensor:
    """Mean of each segment; an empty segment gives 0."""
    count = segment_sum(torch.ones_like(index, dtype=values.dtype), index, n_segments).clamp(min=1)
    return segment_sum(values, index, n_segments) / count.view(-1, *[1] * (values.dim() - 1))


def segment_max(values: Tensor, index: Tensor, n_segments: int) -> Tensor:
    """Maximum of each segment (0 for an empty one), without gradient: for stabilising exponentials and finding ties."""
    values = values.detach()
    out = torch.zeros((n_segments, *values.shape[1:]), dtype=values.dtype, device=values.device)
    expanded = index.view(-1, *[1] * (values.dim() - 1)).expand_as(values)
    return out.scatter_reduce(0, expanded, values, reduce="amax", include_self=False)


class Neighborhoods(NamedTuple):
    """How E edges are grouped by center: a sorted list, or a table of the same number of rows for every center.

    A table (E = N · degree; missing neighbours are edges beyond the cutoff, which weigh nothing) turns gathers into
    broadcasts and sums into reductions, which on a CPU is twice as fast; a list needs no padding.

    - center (E,) int64 ascending · n_centers N · degree: rows per center of a table, 0 for a list
    """

    center: Tensor
    n_centers: int
    degree: int = 0

    def table(self, values: Tensor) -> Tensor:
        """(E, ...) -> (N, degree, ...), a view."""
        return values.view(self.n_centers, self.degree, *values.shape[1:])

    def sum(self, values: Tensor) -> Tensor:
        """Σ over the edges of each center, (E, ...) -> (N, ...)."""
        return self.table(values).sum(1) if self.degree else segment_sum(values, self.center, self.n_centers)

    def max(self, values: Tensor) -> Tensor:
        """Maximum over the edges of each center without gradient, (E, ...) -> (N, ...); 0 without edges."""
        if self.degree:
            return self.table(values.detach()).amax(1)
        return segment_max(values, self.center, self.n_centers)

    def spread(self, values: Tensor) -> Tensor:
        """Each center's value to its edges, (N, ...) -> (E, ...)."""
        if not self.degree:
            return values.index_select(0, self.center)
        return values[:, None].expand(-1, self.degree, *values.shape[1:]).flatten(0, 1)
