"""Standard errors, from what is measured of an atom or structure; fitted to errors on data held back.

    ln s = g · θ,      θ = argmin Σ_k n_k (ln s_k + e_k² / 2 s_k²) + λ |θ − θ₀|²

the likelihood of Gaussian errors e_k (mean square over n_k components), which is convex in θ and makes errors as large
as predicted in the mean along every column of g.
"""

from __future__ import annotations

import numpy as np

from mlanet.arrays import Floats
from mlanet.limits.measure import TINY

RIDGE = 2.0
"""λ: in components of errors. A coefficient that fewer speak of stays near where it began."""
RIGID_RIDGE = 20.0
"""λ of the power of rigidity, which theory knows, and which alone tells a new composition."""
STEPS = 60
"""Newton's, at most."""
SMALLEST = 1e-6
"""Errors are no smaller than this fraction of their root mean square."""


def fitted(columns: Floats, squared: Floats, counts: Floats, prior: Floats, ridge: Floats) -> Floats:
    """θ (K,), by Newton's method with halved steps.

    - columns (M, K) · squared (M,) mean squares of errors · counts (M,) components in each · prior θ₀ (K,)
    - ridge (K,): λ of each coefficient
    """
    mean = float((squared * counts).sum() / counts.sum())
    squared = np.maximum(squared, SMALLEST**2 * mean + 1e-300)
    theta = prior.copy()

    def loss(at: Floats) -> float:
        log = columns @ at
        with np.errstate(over="ignore"):  # of a step too far, which is halved
            likelihood = counts * (log + 0.5 * squared * np.exp(-2 * log))
        return float(likelihood.sum() + (ridge * np.square(at - prior)).sum())

    now = loss(theta)
    for _ in range(STEPS):
        ratio = squared * np.exp(-2 * (columns @ theta))
        slope = columns.T @ (counts * (1 - ratio)) + 2 * ridge * (theta - prior)
        # The expected curvature keeps a step finite where errors are far larger than predicted.
        curve = columns.T @ (columns * (counts * (1 + np.minimum(ratio, 10.0)))[:, None]) + 2 * np.diag(ridge)
        step = np.linalg.solve(curve, slope)
        size = 1.0
        while size > 1e-6 and not loss(theta - size * step) < now:
            size *= 0.5
        if size <= 1e-6:
            break
        theta = theta - size * step
        before, now = now, loss(theta)
        if before - now < 1e-9 * (1 + abs(now)):
            break
    return theta


def scale_of(squared: Floats, rigid: Floats, spread: Floats, prior: tuple[float, float]) -> Floats:
    """(3,): ln α, b and c of s = α q^b p^c, of structures; b and c near `prior`, as far as few data say nothing else.

    - squared (M,): squares of errors · rigid (M,): q · spread (M,): p, of `spread_of_forces` or `stress_measure`
    """
    columns = structure_columns(rigid, spread)
    guess = columns[:, 1:] @ np.array(prior)
    start = 0.5 * float(np.log((squared * np.exp(-2 * guess)).mean() + 1e-300))
    begin = np.array([start, *prior])
    ridge = np.array([1e-6, RIGID_RIDGE, RIDGE])
    return fitted(columns, squared, np.ones_like(squared), begin, ridge)


def structure_columns(rigid: Floats, spread: Floats) -> Floats:
    """(M, 3) what the logarithm of a structure's standard error is linear in."""
    return np.stack([np.ones_like(rigid), np.log(rigid + TINY), np.log(spread + TINY)], axis=1)
