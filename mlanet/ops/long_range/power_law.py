"""r⁻¹ and r⁻⁶, each parted into a smooth function that a Fourier sum can carry and a rest that dies off quickly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

SMALLEST_RATE = 1e-13
"""Of the Gaussians, relative to the largest; 1e-13 is a width of three million smearings."""
NODES = 96
"""Gauss-Legendre nodes on the logarithm of the rate; the sum of Gaussians is then right to some 1e-11."""
SERIES_TERMS = 24


@dataclass(frozen=True)
class PowerLaw:
    """φ(r), the part of r⁻ᵖ made of Gaussians no narrower than the smearing σ.

    r⁻ᵖ = 1/Γ(p/2) ∫₀^∞ t^{p/2−1} e^{−t r²} dt; φ is the same integral up to t_max = 1/(2σ²). It is r⁻ᵖ itself from some
    6σ on, and finite at 0. For p = 1 it is erf(r/√2σ)/r, the interaction of two Gaussian charges of width σ/√2 each.

    - exponent p, 1 or 6 · smearing σ, Å

    >>> float((PowerLaw(6, 1.0).smooth(torch.tensor([9.0])) * 9.0**6).round(decimals=5))
    1.0
    """

    exponent: int
    smearing: float

    @property
    def sharpest(self) -> float:
        """t_max, Å⁻²."""
        return 0.5 / self.smearing**2

    @property
    def at_zero(self) -> float:
        """φ(0), Å⁻ᵖ: what an atom does to itself in a Fourier sum."""
        half = self.exponent / 2
        return self.sharpest**half / math.gamma(half + 1)

    def smooth(self, distance: Tensor) -> Tensor:
        """φ(r) for r > 0, any shape."""
        scaled = self.sharpest * distance * distance
        if self.exponent == 1:
            return torch.erf(torch.sqrt(scaled)) / distance
        # (1 − e^{−y}(1 + y + y²/2)) / y³; near 0, where that cancels, its series e^{−y} Σ yᵏ/(k+3)!.
        near = scaled < 2.0
        low, high = torch.where(near, scaled, 1.0), torch.where(near, 2.0, scaled)
        series = torch.zeros_like(low)
        for k in reversed(range(SERIES_TERMS)):
            series = series * low + 1.0 / math.factorial(k + 3)
        closed = (1.0 - torch.exp(-high) * (1.0 + high + 0.5 * high * high)) / high**3
        return torch.where(near, torch.exp(-low) * series, closed) * self.sharpest**3

    def fourier(self, squared: Tensor) -> Tensor:
        """∫ φ(r) e^{−ik·r} d³r for k² (Å⁻²) > 0; in float64, whose digits the closed form of p = 6 needs."""
        k2 = squared.double()
        top = self.sharpest
        if self.exponent == 1:
            value = 4 * math.pi / k2 * torch.exp(-k2 / (4 * top))
        else:
            a = k2 / 4
            ratio = torch.sqrt(a / top)
            tail = 2 * math.sqrt(math.pi) * a * torch.sqrt(a) * torch.erfc(ratio)
            value = math.pi**1.5 / 3 * (math.sqrt(top) * (top - 2 * a) * torch.exp(-a / top) + tail)
        return value.to(squared.dtype)

    @property
    def fourier_at_zero(self) -> float:
        """The same at k = 0: the volume integral for p = 6; for p = 1 that of φ − 1/r, which is −2πσ².

        The integral of 1/r itself diverges, and a uniform background takes it away. Without what is left, a cell of net
        charge Q would carry an energy π σ² Q² / V of the smearing.
        """
        return -math.pi / self.sharpest if self.exponent == 1 else math.pi**1.5 / 3 * self.sharpest**1.5

    def gaussians(self) -> tuple[np.ndarray, np.ndarray]:
        """Rates t (Q,) Å⁻² and weights w (Q,) with φ(r) = Σ_q w_q e^{−t_q r²}."""
        return _gaussians(self.exponent, self.sharpest)


@lru_cache
def _gaussians(exponent: int, sharpest: float) -> tuple[np.ndarray, np.ndarray]:
    node, weight = np.polynomial.legendre.leggauss(NODES)
    low, high = math.log(SMALLEST_RATE * sharpest), math.log(sharpest)
    rate = np.exp(0.5 * (high - low) * node + 0.5 * (high + low))
    return rate, 0.5 * (high - low) * weight * rate ** (exponent / 2) / math.gamma(exponent / 2)
