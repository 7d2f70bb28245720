"""How far two ways of computing the same thing are apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}
"""Largest difference allowed, relative to the largest entry of the same tensor: some hundred roundings."""


def difference(pairs: Sequence[tuple[str, Tensor, Tensor]], least: float = 1e-6) -> tuple[str, float]:
    """The name of the tensor that differs most, and by how much of its largest entry (or of `least`, if larger).

    NaN in the same places is the same. - pairs: name, found, expected

    >>> difference([("energy", torch.ones(1), torch.ones(1)), ("forces", torch.ones(2), torch.tensor([1.0, 2.0]))])
    ('forces', 0.5)
    """
    worst = ("", 0.0)
    for name, found, expected in pairs:
        if not expected.numel():
            continue
        if not torch.equal(found.isnan(), expected.isnan()):
            return name, float("nan")
        one, other = found.nan_to_num(), expected.nan_to_num()
        apart = float((one - other).abs().max()) / max(float(other.abs().max()), least)
        if not apart <= worst[1]:
            worst = (name, apart)
    return worst
