"""Distance to numbers: the cutoff envelope and the radial basis, both smooth to second order at the cutoff."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from ase.data import covalent_radii
from torch import Tensor, nn

from mlanet.nn.exact import ExactConstants
from mlanet.ops.degrees import radial_network

BONDS = (0.7, 1.9)
"""Range of `BondBasis`, in sums of the radii of two atoms."""
TAIL = -40.0
"""Exponent below which a Gaussian is 0."""


def polynomial_envelope(distance: Tensor, cutoff: float, power: int = 6) -> Tensor:
    """u(r): 1 at r = 0, and 0 with its first and second derivative at the cutoff, 0 beyond.

    u = 1 − (p+1)(p+2)/2 t^p + p(p+2) t^{p+1} − p(p+1)/2 t^{p+2}, t = r/r_c (arXiv 2003.03123, eq. 8), computed as
    (1 − t)³ Σ_{k<p} (k+1)(k+2)/2 t^k, which is the same and loses no digits where u is small.

    >>> polynomial_envelope(torch.tensor([0.0, 5.0, 6.0]), 5.0).tolist()
    [1.0, 0.0, 0.0]
    """
    envelope: Tensor = _Envelope.apply(distance, cutoff, power)
    return envelope


class _Envelope(torch.autograd.Function):
    """See `polynomial_envelope`; u' = −p(p+1)(p+2)/2 t^{p−1} (1 − t)² / r_c."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor, cutoff: float, power: int) -> Tensor:
        ctx.cutoff, ctx.power = cutoff, power
        ctx.save_for_backward(distance)
        t = (distance / cutoff).clamp(max=1.0)
        series = torch.full_like(t, power * (power + 1) / 2)
        for k in reversed(range(power - 1)):
            series = series * t + (k + 1) * (k + 2) / 2
        return (1 - t) ** 3 * series

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
        (distance,) = ctx.saved_tensors
        power, cutoff = ctx.power, ctx.cutoff
        t = (distance / cutoff).clamp(max=1.0)
        size = -0.5 * power * (power + 1) * (power + 2) / cutoff
        return up * (size * t ** (power - 1) * (1 - t) ** 2), None, None


class BesselBasis(nn.Module):
    """RBF_b(r) = (r_c/2) sin(k_b r)/r · u(r), k_b = bπ/r_c trainable; of order one at bonding distances.

    - distance (E,) Å -> (E, B). Source: arXiv 2003.03123, eq. 7, with another constant factor.
    """

    def __init__(self, functions: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.wave_numbers = nn.Parameter(math.pi / cutoff * torch.arange(1, functions + 1))

    def forward(self, distance: Tensor, envelope: Tensor) -> Tensor:
        """(E,) Å and (E,) u(r) -> (E, B)."""
        waves = torch.sin(distance[:, None] * self.wave_numbers)
        return waves * (0.5 * self.cutoff * envelope / distance)[:, None]


class BondBasis(ExactConstants):
    """G_k(r) = 3/2 u(r) exp(−½ ((r/(R_i + R_j) − μ_k)/Δ)²): the distance in units of the bond that two elements make.

    Bonds of different elements differ in length and resemble each other in these units, so what is learnt of one pair
    serves the others. R_Z are trainable radii, first the covalent ones; μ_k from 0.7 to 1.9, Δ their distance.

    - distance (E,) Å, envelope (E,) u(r), species of both atoms (E,) -> (E, K)
    """

    centers: Tensor

    def __init__(self, functions: int, species: Sequence[int]) -> None:
        super().__init__()
        radii = torch.tensor([covalent_radii[z] for z in species], dtype=torch.float64)
        self.log_radius = nn.Parameter(radii.log().to(torch.get_default_dtype()))
        centers = torch.linspace(*BONDS, functions, dtype=torch.float64)
        self.register_buffer("centers", centers, persistent=False)
        self.spread = (BONDS[1] - BONDS[0]) / max(1, functions - 1)

    def forward(self, distance: Tensor, envelope: Tensor, center: Tensor, neighbor: Tensor) -> Tensor:
        """(E,) Å, (E,) u(r), (E,) and (E,) rows of the radii -> (E, K)."""
        radius = self.log_radius.exp()
        lengths = distance / (radius.index_select(0, center) + radius.index_select(0, neighbor))
        offset = (lengths[:, None] - self.centers.to(distance.dtype)) / self.spread
        exponent = (-0.5 * offset * offset).clamp(min=TAIL)
        return 1.5 * (torch.exp(exponent) - math.exp(TAIL)) * envelope[:, None]


class RadialMLP(nn.Module):
    """RBF(r) -> weights that vanish with it: layers without bias, SiLU between; linear when `hidden` is empty.

    - radial (E, B) -> (E, n_out). Cost per edge 2 (B R + R n_out) FLOP for one hidden layer of R.
    """

    def __init__(self, functions: int, hidden: tuple[int, ...], n_out: int) -> None:
        super().__init__()
        widths = (functions, *hidden, n_out)
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(a, b) / math.sqrt(a)) for a, b in itertools.pairwise(widths)
        )

    def forward(self, radial: Tensor) -> Tensor:
        """(E, B) -> (E, n_out)."""
        return radial_network(radial, tuple(self.weights))


class GaussianBasis(ExactConstants):
    """b_k(r) = u(r) exp(−½ ((r/r_c − μ_k)/Δ)²), μ_k = k/(K−1), Δ = 1/(K−1), K functions on [0, r_c].

    - distance (E,) Å, envelope (E,) u(r) -> (E, K). Width r_c/(K−1); not trained.
    Source: arXiv 2311.02869, code.
    """

    centers: Tensor

    def __init__(self, functions: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.spread = 1 / (functions - 1)
        self.register_buffer("centers", torch.linspace(0, 1, functions, dtype=torch.float64), persistent=False)

    def forward(self, distance: Tensor, envelope: Tensor) -> Tensor:
        """(E,) Å and (E,) u(r) -> (E, K)."""
        offset = ((distance / self.cutoff)[:, None] - self.centers.to(distance.dtype)) / self.spread
        # Tails below 10⁻¹⁷ end in an exact 0: float32 would keep them as subnormal numbers, which slow every product
        # they enter.
        exponent = (-0.5 * offset * offset).clamp(min=TAIL)
        return (torch.exp(exponent) - math.exp(TAIL)) * envelope[:, None]
