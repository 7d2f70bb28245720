"""Self-diffusion from mean squared displacements."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlanet.errors import DataError

Array = NDArray[np.float64]
BLOCKS = 4
MOST_LAGS = 200
MOST_TICKS = 10_000_000
"""Points of a grid of times."""
FRAMES = 8 * BLOCKS
"""At least, of a diffusion coefficient."""
SQUARE_ANGSTROM_PER_PS = 1e-8
"""In m²/s."""


@dataclass(frozen=True)
class Diffusion:
    """D of one element, and the displacements it was read from.

    - coefficient, error m²/s: slope/6 of the fit, and the standard error of the same over four blocks of time
    - lag (L,) ps · msd (L,) Å² · window (2,) ps: where the line was fitted
    """

    element: str
    coefficient: float
    error: float
    lag: Array
    msd: Array
    window: tuple[float, float]


def diffusion(
    times: Array,
    frames: Sequence[Atoms],
    element: str,
    *,
    discard: float = 0.0,
    window: tuple[float, float] = (0.1, 0.5),
) -> Diffusion:
    """D = lim 1/(6t) <|x(t₀ + t) − x(t₀)|²> over all atoms of an element and all time origins t₀.

    Positions are unwrapped (a step of more than half a cell between frames would be misread), and the drift of the
    centre of mass is taken out. The line is fitted between two fractions of the longest time lag.

    Args:
        times: (T,) ps, increasing. Where they are not equally spaced, displacements are sorted by the time that passed.
        frames: T structures.
        element: symbol of what diffuses.
        discard: ps at the beginning that are left out.
        window: of the fit, fractions of the time analysed.
    Raises:
        DataError: no such element, too few frames, or times on no grid.
    """
    times = np.asarray(times, dtype=np.float64)
    require_increasing(times)
    kept = times >= times[0] + discard
    chosen = np.array([symbol == element for symbol in frames[0].symbols])
    if not chosen.any():
        raise DataError(f"no {element} in {frames[0].get_chemical_formula()}")
    paths = unwrapped([frame for frame, wanted in zip(frames, kept, strict=True) if wanted])
    if len(paths) < FRAMES:
        raise DataError(
            f"only {len(paths)} of the frames are after {discard:.4g} ps; diffusion needs at least {FRAMES}"
        )
    masses = frames[0].get_masses()
    paths = paths - (np.einsum("tnx,n->tx", paths, masses) / masses.sum())[:, None, :]
    paths, times = paths[:, chosen], times[kept]
    lag, msd = mean_squared_displacement(paths, times)
    slope = _slope(lag, msd, window)
    parts = zip(np.array_split(paths, BLOCKS), np.array_split(times, BLOCKS), strict=True)
    slopes = [_slope(*mean_squared_displacement(*part), window) for part in parts]
    error = float(np.std(slopes, ddof=1) / np.sqrt(BLOCKS))
    ends = (window[0] * lag[-1], window[1] * lag[-1])
    scale = SQUARE_ANGSTROM_PER_PS / 6
    return Diffusion(element, slope * scale, error * scale, lag, msd, ends)


def unwrapped(frames: Sequence[Atoms]) -> Array:
    """(T, N, 3) Å: positions whose steps from frame to frame are the shortest among the periodic images."""
    paths = [frames[0].positions.copy()]
    for before, after in itertools.pairwise(frames):
        step = after.positions - before.positions
        if after.pbc.any():
            fractional = np.linalg.solve(after.cell.complete().array.T, step.T).T
            step = step - (np.round(fractional) * after.pbc) @ after.cell.array
        paths.append(paths[-1] + step)
    return np.stack(paths)


def mean_squared_displacement(paths: Array, times: Array) -> tuple[Array, Array]:
    """Lags (ps) and <|x(t₀ + t) − x(t₀)|²> (Å²) over atoms and origins, for up to 200 lags.

    Args:
        paths: (T, N, 3) Å.
        times: (T,) ps, on a grid of which points may be missing.
    Raises:
        DataError: times on no grid.
    """
    ticks, unit = on_grid(times)
    frame = np.full(ticks[-1] + 1, -1)  # of each point of the grid, −1 where there is none
    frame[ticks] = np.arange(len(ticks))
    lags, values = _lags(frame >= 0), []
    for lag in lags:
        start, end = frame[:-lag], frame[lag:]
        both = (start >= 0) & (end >= 0)
        values.append(np.square(paths[end[both]] - paths[start[both]]).sum(axis=2).mean())
    return unit * lags.astype(np.float64), np.array(values)


def on_grid(times: Array) -> tuple[NDArray[np.int64], float]:
    """Times (T,) as multiples (T,) of a unit after the first, ps: their spacing, or what all differences divide by.

    Equal spacing is taken as such up to 15 % of it, which is what times with few digits need.

    Raises:
        DataError: there is no unit that is not far smaller than every difference.
    """
    after = times - times[0]
    count = np.arange(len(times))
    spacing = float(after[-1] / count[-1])
    if np.abs(after - spacing * count).max() <= 0.15 * spacing:
        return count, spacing
    smallest = float(np.diff(times).min())
    unit = functools.reduce(lambda a, b: _common(a, b, 1e-3 * smallest), np.unique(np.diff(times)).tolist())
    ticks = np.rint(after / unit).astype(np.int64)
    if ticks[-1] > MOST_TICKS or np.abs(after - unit * ticks).max() > 0.1 * unit:
        raise DataError(
            f"the times of the frames lie on no grid: spacings from {smallest:.6g} to {np.diff(times).max():.6g} ps; "
            "diffusion needs frames at multiples of one time"
        )
    return ticks, unit


def require_increasing(times: Array) -> None:
    """Raise `DataError` where a frame does not come after the one before it, as in files of two runs."""
    late = np.flatnonzero(np.diff(times) <= 0)
    if len(late):
        k = int(late[0]) + 1
        raise DataError(
            f"frame {k}: its time, {times[k]:.6g} ps, does not come after that of the frame before it, "
            f"{times[k - 1]:.6g} ps; are these frames of one run, in order?"
        )


def _common(a: float, b: float, tolerance: float) -> float:
    """The largest number that divides two others, up to a tolerance."""
    while b > tolerance:
        a, b = b, abs(a - b * round(a / b))
    return a


def _lags(present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Up to MOST_LAGS lags, evenly spaced over the whole length; where points are missing, among those with most pairs.

    A lag counts if it has at least half as many pairs of frames as the best of the longer ones.
    """
    n = len(present)
    if present.all():
        return np.unique(np.linspace(1, n - 1, min(MOST_LAGS, n - 1)).astype(np.int64))
    from scipy.signal import correlate  # takes longer to load than many a run to be analysed

    there = present.astype(np.float64)
    pairs = np.rint(correlate(there, there, method="fft")[n - 1 :]).astype(np.int64)
    best = np.maximum.accumulate(pairs[::-1])[::-1]
    often = np.flatnonzero((2 * pairs >= best) & (pairs > 0))[1:]
    return often[np.unique(np.linspace(0, len(often) - 1, min(MOST_LAGS, len(often))).astype(np.int64))]


def _slope(lag: Array, msd: Array, window: tuple[float, float]) -> float:
    """Å²/ps of the straight line through the window, by least squares.

    A displacement squared and averaged over T − t origins, which overlap, has a standard error that grows as t^(3/2) in
    a random walk; the points weigh accordingly.
    """
    inside = (lag >= window[0] * lag[-1]) & (lag <= window[1] * lag[-1])
    return float(np.polyfit(lag[inside], msd[inside], 1, w=lag[inside] ** -1.5)[0])
