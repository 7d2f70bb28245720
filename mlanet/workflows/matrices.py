"""Exponentials of small matrices, many at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_DEGREE = 6
"""Of numerator and denominator: with norms up to 1/2 the exact exponential of a matrix that is off by 3e-16."""


def exponential(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """exp(A) of real matrices (..., n, n), to rounding; NaN where one is not finite.

    Padé's approximant of exp(A / 2^s) with ‖A / 2^s‖ ≤ 1/2, squared s times. SciPy's `expm` says the same; to load it
    takes longer than to relax a small crystal, and it takes one matrix after another.
    Source: Golub and Van Loan, Matrix Computations, 3rd edition, algorithm 11.3.1.

    >>> exponential(np.array([[0.0, 1.0], [0.0, 0.0]]))
    array([[1., 1.],
           [0., 1.]])
    """
    norms = np.abs(matrix).sum(axis=-1).max(axis=-1)
    matrix = np.where(np.isfinite(norms)[..., None, None], matrix, np.nan)
    largest = float(norms.max(initial=0.0, where=np.isfinite(norms)))
    halvings = max(0, int(np.frexp(largest)[1]) + 1)
    small = matrix / 2.0**halvings
    power = above = below = np.broadcast_to(np.eye(matrix.shape[-1]), matrix.shape)
    factor = 1.0
    for k in range(1, _DEGREE + 1):
        factor *= (_DEGREE - k + 1) / (k * (2 * _DEGREE - k + 1))
        power = power @ small
        above = above + factor * power
        below = below + (-1) ** k * factor * power
    found = np.asarray(np.linalg.solve(below, above), dtype=np.float64)
    for _ in range(halvings):
        found = found @ found
    return found
