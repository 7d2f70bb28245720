"""For how long a simulation stays a simulation of the same substance (criteria of arXiv 2210.07237)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlanet.dynamics.distributions import Distribution, integral_error
from mlanet.errors import DataError

Array = NDArray[np.float64]


def stable_time(
    times: Array, distribution: Distribution, reference: Distribution, tau: float, threshold: float
) -> float:
    """First t (ps) with ∫ |<g_ref> − <g>_{t…t+τ}| dr > threshold; the whole time where that never happens.

    Args:
        times: (T,) ps of the frames of `distribution`, increasing.
        distribution, reference: g(r) on the same bins.
        tau: length of the window, ps.
        threshold: Å; the source takes 3 for water and 1 for Li₆.₇₅P₃S₁₁.
    Raises:
        DataError: fewer frames than one window.
    """
    spacing = _spacing(times)
    starts = np.flatnonzero(times + tau <= times[-1] + 1.01 * spacing)
    if round(tau / spacing) < 1 or not len(starts):
        raise DataError(f"a window of {tau} ps does not fit frames {spacing:.4g} ps apart over {times[-1]:.4g} ps")
    sums = np.concatenate([np.zeros((1, len(distribution.r))), np.cumsum(distribution.rows, axis=0)])
    for start in starts.tolist():
        end = max(start + 1, int(np.searchsorted(times, times[start] + tau - 0.5 * spacing)))
        window = (sums[end] - sums[start]) / (end - start)
        if integral_error(window, reference.mean, distribution.width) > threshold:
            return float(times[start])
    return float(times[-1])


def intact_time(times: Array, frames: Sequence[Atoms], reference: Sequence[Atoms], stretch: float = 0.5) -> float:
    """First t (ps) at which a bond of a molecule differs by more than `stretch` Å from its mean in the reference.

    Bonds are the pairs of the first reference frame within 1.1 times the sum of their covalent radii.

    Raises:
        DataError: another molecule, or no bonds.
    """
    from ase.neighborlist import natural_cutoffs, neighbor_list  # with half of scipy

    first = reference[0]
    center, neighbor = neighbor_list("ij", first, natural_cutoffs(first, mult=1.1))
    bonds = np.array([(i, j) for i, j in zip(center, neighbor, strict=True) if i < j])
    if not len(bonds):
        raise DataError("the first frame of the reference has no bonds")
    if any(not np.array_equal(frame.numbers, first.numbers) for frame in frames):
        raise DataError("the trajectory and the reference are not of the same molecule, atom by atom")

    def lengths(atoms: Atoms) -> Array:
        return np.linalg.norm(atoms.positions[bonds[:, 0]] - atoms.positions[bonds[:, 1]], axis=1)

    equilibrium = np.mean([lengths(atoms) for atoms in reference], axis=0)
    for t, atoms in zip(times, frames, strict=True):
        if np.abs(lengths(atoms) - equilibrium).max() > stretch:
            return float(t)
    return float(times[-1])


def _spacing(times: Array) -> float:
    """ps from a frame to the next, usually."""
    if len(times) < 2:
        raise DataError("stability needs at least two frames")
    return float(np.median(np.diff(times)))
