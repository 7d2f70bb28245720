"""What the layers know of the pairs of atoms, and how a sorted list of pairs becomes a table."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mlanet.ops.rows import Rows
from mlanet.ops.segment import Neighborhoods
from mlanet.ops.traced import is_tracing

MAX_PADDING = 1.6
"""A table may have this many times the rows of the list before the list is cheaper (measured on two CPU cores)."""


class Edges(NamedTuple):
    """Everything about the pairs that all layers share, computed once.

    - around: edges by center · neighbor (E,) · envelope u (E,) · radial RBF (E, B)
    - harmonics Y (E, (L+1)²), `component` normalised · coordination n_i = Σ_j u (N,)
    - sorted_rows: the same edges as kernels read them
    """

    around: Neighborhoods
    neighbor: Tensor
    envelope: Tensor
    radial: Tensor
    harmonics: Tensor
    coordination: Tensor
    sorted_rows: Rows | None = None

    @property
    def rows(self) -> Rows:
        """The same edges as kernels read them."""
        return self.sorted_rows or Rows.of(self.around, self.neighbor)


class PairLayout(NamedTuple):
    """Where each row of the layers' edge arrays comes from: `slot` (rows,) into the list, its length for a filler."""

    around: Neighborhoods
    neighbor: Tensor
    slot: Tensor | None

    def arrange(self, values: Tensor, filler: Tensor) -> Tensor:
        """List order (E, 3) -> row order, with `filler` (3,) where a center has fewer neighbours than the table."""
        if self.slot is None:
            return values
        return torch.cat([values, filler[None]]).index_select(0, self.slot)


def pair_layout(center: Tensor, neighbor: Tensor, n_centers: int) -> PairLayout:
    """A table on a CPU when the centers have similar numbers of neighbours, else the sorted list itself.

    On other devices, and in a program that is traced, always the list: its shape is known without a question.
    """
    plain = PairLayout(Neighborhoods(center, n_centers), neighbor, None)
    if is_tracing() or center.device.type != "cpu" or not len(center):
        return plain
    counts = torch.bincount(center, minlength=n_centers)
    degree = int(counts.max())
    if not worth_a_table(n_centers, degree, len(center)):
        return plain
    column = torch.arange(degree)[None, :]
    first = (torch.cumsum(counts, 0) - counts)[:, None]
    slot = torch.where(column < counts[:, None], first + column, len(center)).flatten()
    table_center = torch.arange(n_centers).repeat_interleave(degree)
    filled = torch.cat([neighbor, neighbor.new_zeros(1)]).index_select(0, slot)
    return PairLayout(Neighborhoods(table_center, n_centers, degree), filled, slot)


def worth_a_table(n_centers: int, degree: int, n_edges: int) -> bool:
    """Whether a table with room for `degree` neighbours of every center is cheaper on a CPU than the list."""
    return degree * n_centers <= MAX_PADDING * n_edges


def nearest(center: Tensor, distance: Tensor, n_centers: int, cap: int) -> Tensor:
    """(E,) bool: the `cap` nearest neighbours of each center, and all that are hardly farther than the next one.

    Kept are d² ≤ d²_{cap+1} + 0.01 Å², so shells of equal distance stay whole (arXiv 2311.02869, code). The result
    jumps as atoms pass each other, and with it the energy. - center (E,) ascending, distance (E,) Å
    """
    counts = torch.bincount(center, minlength=n_centers)
    degree = int(counts.max()) if len(center) else 0
    if degree <= cap:
        return torch.ones_like(center, dtype=torch.bool)
    square = distance.detach().square()
    first = torch.cumsum(counts, 0) - counts
    row = torch.arange(len(center), device=center.device) - first[center]
    table = square.new_full((n_centers, degree), torch.inf).index_put((center, row), square)
    reach = table.kthvalue(cap + 1, dim=1).values + 0.01
    return square <= reach[center]
