"""Who neighbours whom, as a list of edges sorted by center."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Rows(NamedTuple):
    """Edges of N centers, those of one center side by side.

    - neighbor (E,) int64: who sends · start (N+1,) int64: edges of center i are start[i]:start[i+1]
    """

    neighbor: Tensor
    start: Tensor
