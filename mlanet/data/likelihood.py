"""How well energies follow from forces and stress, as a log-likelihood that a few bad pairs cannot spoil.

The residual of a pair of neighbouring frames is drawn from Student's t with three degrees of freedom, whose width is
λ (c |curvature work| + floor). The curvature work is what the trapezoid is third order beside; λ ≥ 1 is whatever
makes the residuals likeliest, so that noisy data count for less. Pairs share frames, so the sum is scaled to the
number of frames less one, of which the energy differences are made.
"""

from __future__ import annotations

import numpy as np

from mlanet.data.finite_work import Array, Pairs

DEGREES = 3.0
TRAPEZOID = 0.05
"""What the trapezoid misses of the curvature work, as a fraction: 0.01 to 0.15 in the median of real sets."""
FLOOR = 1e-3
"""Width of pairs without curvature, relative to the median energy difference."""
_INFLATION = np.geomspace(1.0, 1e7, 57)


def log_likelihood(residual: Array, width: Array) -> float:
    """max over λ ≥ 1 of Σ log t₃(residual; λ width), without constants; 0 for no pairs."""
    if not len(residual):
        return 0.0
    squared = (residual / width) ** 2
    scaled = squared[None, :] / _INFLATION[:, None] ** 2
    logs = -np.log(_INFLATION) * len(residual) - 0.5 * (DEGREES + 1) * np.log1p(scaled / DEGREES).sum(axis=1)
    return float(logs.max() - np.log(width).sum())


def share(pairs: Pairs) -> float:
    """How much of a sum over pairs is independent: frames less one, over pairs."""
    return min(1.0, max(pairs.frames - 1, 0) / max(len(pairs.energy), 1))


def floor_of(pairs: Pairs) -> float:
    """Width of pairs without curvature, in the unit of the energies."""
    return FLOOR * float(np.median(np.abs(pairs.energy))) + 1e-12 if len(pairs.energy) else 1e-12


def explained(pairs: Pairs) -> float:
    """Log-likelihood of the energies as they are, given forces (and stress where cells change)."""
    usable = pairs.chosen(~pairs.strained | np.isfinite(pairs.virial).all(axis=(1, 2)))
    work, bend = usable.stress_work(np.nan_to_num(usable.virial)), usable.stress_work(np.nan_to_num(usable.change))
    width = TRAPEZOID * (np.abs(usable.bend) + np.abs(bend)) + floor_of(usable)
    return share(usable) * log_likelihood(usable.energy - usable.force - work, width)


def best_constant(energy: Array) -> float:
    """Log-likelihood of energy differences that nothing explains: one width for all."""
    if not len(energy):
        return 0.0
    return log_likelihood(energy, np.full(len(energy), 1e-3 * float(np.median(np.abs(energy))) + 1e-12))
