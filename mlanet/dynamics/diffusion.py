"""Self-diffusion from mean squared displacements."""

from __future__ import annotations

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
        times: (T,) ps, equally spaced.
        frames: T structures.
        element: symbol of what diffuses.
        discard: ps at the beginning that are left out.
        window: of the fit, fractions of the time analysed.
    Raises:
        DataError: no such element, or too few frames.
    """
    kept = times >= times[0] + discard
    chosen = np.array([symbol == element for symbol in frames[0].symbols])
    if not chosen.any():
        raise DataError(f"no {element} in {frames[0].get_chemical_formula()}")
    paths = unwrapped([frame for frame, wanted in zip(frames, kept, strict=True) if wanted])
    if len(paths) < 8 * BLOCKS:
        raise DataError(f"{len(paths)} frames after {discard} ps; diffusion needs at least {8 * BLOCKS}")
    masses = frames[0].get_masses()
    paths = paths - (np.einsum("tnx,n->tx", paths, masses) / masses.sum())[:, None, :]
    paths, step = paths[:, chosen], float(times[1] - times[0])
    lag, msd = mean_squared_displacement(paths, step)
    slope = _slope(lag, msd, window)
    blocks = [mean_squared_displacement(part, step) for part in np.array_split(paths, BLOCKS)]
    slopes = [_slope(*block, window) for block in blocks]
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


def mean_squared_displacement(paths: Array, step: float) -> tuple[Array, Array]:
    """Lags (ps) and <|x(t₀ + t) − x(t₀)|²> (Å²) over atoms and origins, for up to 200 lags. - paths (T, N, 3) Å"""
    n = len(paths)
    lags = np.unique(np.linspace(1, n - 1, min(MOST_LAGS, n - 1)).astype(int))
    values = [np.square(paths[lag:] - paths[:-lag]).sum(axis=2).mean() for lag in lags]
    return step * lags, np.array(values)


def _slope(lag: Array, msd: Array, window: tuple[float, float]) -> float:
    """Å²/ps of the straight line through the window."""
    inside = (lag >= window[0] * lag[-1]) & (lag <= window[1] * lag[-1])
    return float(np.polyfit(lag[inside], msd[inside], 1)[0])
