"""Uniform cubic B-splines: a function of distance as four neighbouring rows of a table.

f(d) = Σ_{m<4} B_m(w) c_{i+m}, i = ⌊d/h⌋, w = d/h − i. Twice continuously differentiable; the error is (h⁴/384) max|f⁗|.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


def coefficients(values: Array, curvature: Array) -> Array:
    """Coefficients (G+3, n) of the spline through values (G+1, n) at 0, h, … G h.

    - curvature (2, n): h² f″ at both ends
    """
    from scipy.linalg import solve_banded  # half a second that only tables are worth

    count = len(values)
    bands = np.zeros((5, count + 2))
    # Row 0 and the last: c − 2c + c = h² f″; in between (c + 4c + c)/6 = f. Band 2 is the diagonal.
    bands[2, 1:-1], bands[3, :-2], bands[1, 2:] = 4 / 6, 1 / 6, 1 / 6
    bands[2, 0], bands[1, 1], bands[0, 2] = 1.0, -2.0, 1.0
    bands[4, -3], bands[3, -2], bands[2, -1] = 1.0, -2.0, 1.0
    solved: Array = solve_banded((2, 2), bands, np.concatenate([curvature[:1], values, curvature[1:]]))
    return solved


def rows_and_weights(distance: Tensor, width: float, intervals: int) -> tuple[Tensor, Tensor]:
    """(E, 4) int64 rows of the table and (E, 4) weights B_m, differentiable in distance, constant beyond the end."""
    place = (distance / width).clamp(0.0, intervals)
    first = place.detach().floor().clamp(max=intervals - 1)
    w = (place - first)[:, None]
    one = 1 - w
    weights = torch.cat([one**3, 3 * w**3 - 6 * w**2 + 4, 3 * one**3 - 6 * one**2 + 4, w**3], dim=1) * (1 / 6)
    return first.long()[:, None] + torch.arange(4, device=distance.device), weights
