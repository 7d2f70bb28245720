"""Edges sorted by center, as kernels read them: who sends, and where the edges of each center begin."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mlanet.ops.segment import Neighborhoods


class Rows(NamedTuple):
    """Edges in compressed rows.

    - neighbor (E,) int64, who sends · start (N+1,) int64: edges of center i are start[i] … start[i+1] − 1
    """

    neighbor: Tensor
    start: Tensor

    @classmethod
    def of(cls, around: Neighborhoods, neighbor: Tensor) -> Rows:
        """Of a sorted list, or of a table, whose rows all have one length.

        >>> Rows.of(Neighborhoods(torch.tensor([0, 0, 2]), 3), torch.tensor([1, 2, 0])).start.tolist()
        [0, 2, 2, 3]
        """
        n, neighbor = around.n_centers, neighbor.to(torch.int64).contiguous()
        if around.degree:
            return cls(neighbor, torch.arange(n + 1, device=neighbor.device) * around.degree)
        bounds = torch.arange(n + 1, device=neighbor.device)
        return cls(neighbor, torch.searchsorted(around.center, bounds))

    def around(self) -> Neighborhoods:
        """The same edges as a sorted list."""
        n = len(self.start) - 1
        centers = torch.arange(n, device=self.start.device)
        center = torch.repeat_interleave(centers, self.start.diff(), output_size=len(self.neighbor))
        return Neighborhoods(center, n)
