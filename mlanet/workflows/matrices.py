"""Exponentials of small matrices, many at a time."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_EVEN, _ODD = (1.0, 5 / 44, 1 / 792, 1 / 665280), (1 / 2, 1 / 66, 1 / 15840)
"""Padé's [6/6] of the exponential, V(A²) ± A U(A²): with norms up to 1/2 exact of a matrix that is off by 3e-16."""


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
    largest = float(norms.max(initial=0.0))
    if not math.isfinite(largest):
        finite = np.isfinite(norms)[..., None, None]
        return np.where(finite, exponential(np.where(finite, matrix, 0.0)), np.nan)
    halvings = max(0, math.frexp(largest)[1] + 1)
    small = matrix / 2.0**halvings
    one, square = np.eye(matrix.shape[-1]), small @ small
    fourth = square @ square
    even = _EVEN[0] * one + _EVEN[1] * square + _EVEN[2] * fourth + _EVEN[3] * (fourth @ square)
    odd = small @ (_ODD[0] * one + _ODD[1] * square + _ODD[2] * fourth)
    found = np.asarray(np.linalg.solve(even - odd, even + odd), dtype=np.float64)
    for _ in range(halvings):
        found = found @ found
    return found
