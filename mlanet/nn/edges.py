"""What the layers know of the pairs of atoms."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mlanet.ops.rows import Rows
from mlanet.ops.segment import Neighborhoods


class Edges(NamedTuple):
    """Everything about the pairs that all layers share, computed once.

    - around: edges by center · neighbor (E,) · envelope u (E,) · radial RBF (E, B)
    - harmonics Y (E, (L+1)²), `component` normalised · coordination n_i = Σ_j u (N,)
    - rows: the same edges as kernels read them; None where plain torch computes
    """

    around: Neighborhoods
    neighbor: Tensor
    envelope: Tensor
    radial: Tensor
    harmonics: Tensor
    coordination: Tensor
    rows: Rows | None = None


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
