"""The order of the edges by who sends them, so that a sender's sums stay in one program."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from mlanet.ops.rows import Rows


class Senders(NamedTuple):
    """The edges by who sends.

    - center (E,) of each edge · order (E,): edges sorted by sender, start[j]:start[j+1] those of j
    """

    center: Tensor
    order: Tensor
    start: Tensor

    @classmethod
    def of(cls, rows: Rows) -> Senders:
        """Sorted once for the same `rows.start`, which is made anew in every step.

        Not for the same `rows.neighbor`: a recorded step has new pairs put into it in place. Nothing is asked of the
        device, so the sorting is recorded too.
        """
        if rows.start not in KNOWN:
            order = torch.argsort(rows.neighbor, stable=True)
            bounds = torch.arange(len(rows.start), device=order.device)
            start = torch.searchsorted(rows.neighbor.index_select(0, order), bounds)
            KNOWN[rows.start] = cls(rows.around().center, order, start)
        return KNOWN[rows.start]


KNOWN: Any = WeakIdKeyDictionary()
"""Transposed orders of the lists that are alive."""
