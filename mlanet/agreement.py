"""Whether two ways of computing the same thing agree: the one comparison that everybody makes.

Kernels with plain torch, compiled steps with the step as it stands, replayed steps with the potential.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}
"""Largest difference allowed, relative to the largest entry of the same tensor: some hundred roundings."""

MARGIN = 4.0
"""Two ways to compute round differently; this many times the error of the reference is still rounding."""


def difference(pairs: Sequence[tuple[str, Tensor, Tensor]], least: float = 1e-6) -> tuple[str, float]:
    """The name of the tensor that differs most, and by how much of its largest entry (or of `least`, if larger).

    NaN in the same places is the same. - pairs: name, found, expected

    >>> difference([("energy", torch.ones(1), torch.ones(1)), ("forces", torch.ones(2), torch.tensor([1.0, 2.0]))])
    ('forces', 0.5)
    """
    worst = ("", 0.0)
    for name, value, expected in pairs:
        if not expected.numel():
            continue
        if not torch.equal(value.isnan(), expected.isnan()):
            return name, float("nan")
        one, other = value.nan_to_num(), expected.nan_to_num()
        apart = float((one - other).abs().max()) / max(float(other.abs().max()), least)
        if not apart <= worst[1]:
            worst = (name, apart)
    return worst


def disagreement(pairs: Sequence[tuple[str, Tensor, Tensor]], tolerance: float, least: float = 1e-6) -> str:
    """What differs by more than is allowed, and by how much, in words; empty where everything agrees.

    - pairs: name, found, expected · tolerance: relative to the largest entry of a tensor (or to `least`, if larger)

    >>> disagreement([("forces", torch.ones(2), torch.tensor([1.0, 2.0]))], 1e-4)
    'forces differs by 5.0e-01 of its largest entry (allowed: 1e-04)'
    """
    name, worst = difference(pairs, least)
    if worst <= tolerance:
        return ""
    return f"{name} differs by {worst:.1e} of its largest entry (allowed: {tolerance:.0e})"


def excess(
    answers: Sequence[tuple[str, Tensor, Tensor]], exact: Sequence[Tensor], tolerance: float, least: float = 1e-6
) -> str:
    """As `disagreement`, judged by the same in float64: nothing may be `MARGIN` times as wrong as the worst of these.

    Large sums that cancel, as of atoms where no model was trained, lose the digits of either way to compute.

    >>> one, other, exact = torch.tensor([1.0003]), torch.tensor([0.9999]), torch.ones(1, dtype=torch.float64)
    >>> excess([("energy", one, other)], [exact], 1e-4)
    ''
    """
    right = [value.double() for value in exact]
    fair = difference(
        [(name, other.double(), one) for (name, _, other), one in zip(answers, right, strict=True)], least
    )
    pairs = [(name, one.double(), other) for (name, one, _), other in zip(answers, right, strict=True)]
    return disagreement(pairs, max(tolerance, MARGIN * fair[1]), least)


def smallest_gradient(expected: Sequence[Tensor]) -> float:
    """`least` for gradients: what cancels to nothing, as that of a bias may, is known only as well as its parts."""
    return 0.01 * max(float(value.abs().max()) for value in expected)
