"""Velocity density of states: at which frequencies atoms move, and how far two such spectra are apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlanet.dynamics.diffusion import unwrapped
from mlanet.errors import DataError

Array = NDArray[np.float64]
FEWEST = 64
"""Frames that a spectrum needs."""
SEGMENT = 1024
"""Frames of a segment at most; spectra of segments are averaged."""
UNEVEN = 0.01
"""Relative difference of spacings that counts as none."""


@dataclass(frozen=True)
class Spectrum:
    """g(ν), with ∫ g dν = 1.

    - frequency (F,) THz, evenly spaced from 0 · density (F,) 1/THz
    """

    frequency: Array
    density: Array

    @property
    def width(self) -> float:
        """THz; standard deviation of ν under g."""
        weight = self.density / self.density.sum()
        mean = float(weight @ self.frequency)
        return float(np.sqrt(weight @ (self.frequency - mean) ** 2))


def velocity_spectrum(times: Array, frames: Sequence[Atoms], from_positions: bool = False) -> Spectrum:
    """g(ν) ∝ Σ_i m_i |v_i(ν)|², the Fourier transform of the mass-weighted velocity autocorrelation.

    By Welch's method: overlapping segments of a quarter of the time (at most 1024 frames), with a Hann window. Motion
    faster than half the rate of frames is folded back, so frames should be some 10 fs apart.

    Args:
        times: (T,) ps, evenly spaced.
        frames: T structures.
        from_positions: take velocities as differences of unwrapped positions, also where there are momenta.
    Raises:
        DataError: too few frames, uneven ones, or nothing that moves.
    """
    from scipy.signal import welch  # takes longer to load than many a run to be analysed

    if len(frames) < FEWEST:
        raise DataError(f"{len(frames)} frames; a spectrum of velocities needs at least {FEWEST}")
    steps = np.diff(times)
    spacing = float(steps.mean())
    if np.abs(steps - spacing).max() > UNEVEN * spacing:
        raise DataError("frames are not evenly spaced in time, which a spectrum of velocities needs")
    if has_velocities(frames) and not from_positions:
        velocities = np.stack([frame.get_velocities() for frame in frames])
    else:
        velocities = np.diff(unwrapped(frames), axis=0)
    segment = min(SEGMENT, max(FEWEST // 2, len(velocities) // 4))
    frequency, power = welch(velocities, fs=1 / spacing, nperseg=segment, axis=0, detrend=False)
    density = np.einsum("fnx,n->f", power, frames[0].get_masses())
    whole = float(density.sum() * (frequency[1] - frequency[0]))
    if not whole > 0:
        raise DataError("no atom moves, so there is no spectrum of velocities")
    return Spectrum(frequency, density / whole)


def has_velocities(frames: Sequence[Atoms]) -> bool:
    """Whether all frames have momenta that are not all zero."""
    return all(frame.has("momenta") and bool(np.any(frame.get_momenta())) for frame in frames)


def spectral_distance(one: Spectrum, other: Spectrum) -> float:
    """∫ |G(ν) − G_ref(ν)| dν of the cumulative densities: Wasserstein's distance, THz; grids may differ."""
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(one.frequency, other.frequency, one.density, other.density))
