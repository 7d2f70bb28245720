"""Fourier coefficients of a smooth power law in a box, for any number of periodic directions.

A Gaussian factorises over directions, and the law is a sum of Gaussians; so each direction is treated for itself:
along a lattice vector the transform is that of infinite space, along a free one that of the Gaussian cut off softly
beyond the largest distance that two atoms can have there. Images across empty space then never meet.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mlanet.ops.long_range.boxes import MARGIN, Boxes
from mlanet.ops.long_range.power_law import PowerLaw

STEP = 0.4
"""Of the quadrature along a free direction, in smearings."""
SOFTNESS = 11.0
"""Margin over the width of the soft cut."""


class FreeAxes:
    """Transforms along the free directions of boxes, of every Gaussian of a law: constants, in float64.

    Args:
        law: the power law.
        boxes: of S structures with F free directions.
        highest: largest |m| of the wave numbers 2πm/L that will be asked for.
    """

    def __init__(self, law: PowerLaw, boxes: Boxes, highest: int) -> None:
        self.law = law
        rate, weight = (torch.from_numpy(gaussian).to(boxes.rows.device) for gaussian in law.gaussians())
        self.rate, self.weight = rate, weight
        margin = MARGIN * law.smearing
        extent = boxes.extent.double()
        length = 2 * extent + margin
        points = math.ceil(float((extent + margin).max()) / (STEP * law.smearing)) + 1
        step = (extent + margin) / (points - 1)
        place = step[..., None] * torch.arange(points, device=extent.device)
        soft = 0.5 * torch.erfc((place - extent[..., None] - margin / 2) * SOFTNESS / margin)
        # Even functions: the trapezoidal sum over both sides, from the half with z ≥ 0.
        share = 2 * step[..., None] * torch.cat([soft[..., :1] / 2, soft[..., 1:]], dim=-1)
        order = torch.arange(highest + 1, dtype=torch.float64, device=extent.device)
        wave = torch.cos(place[..., None] * (2 * math.pi * order / length[..., None])[..., None, :])
        gauss = torch.exp(-rate[:, None] * place[..., None, :] ** 2)
        # (S, F, Q, M), (S, F, M): ∫ e^{−t z²} τ(z) cos(kz) dz, and that of τ alone.
        self.table = torch.einsum("sfz,sfqz,sfzm->sfqm", share, gauss, wave)
        self.bare = torch.einsum("sfz,sfzm->sfm", share, wave)
        # Laws that grow with distance are cut where they pass zero, and get back the constant afterwards.
        self.middle = extent + margin / 2
        self.volume = length.prod(1)
        self.sheet = self._sheet(share, place, wave) if boxes.n_periodic == 2 and law.exponent == 1 else None

    def _sheet(self, share: Tensor, place: Tensor, wave: Tensor) -> Tensor:
        """(S, M) transform of −2π|z|, smeared: the potential of a charged sheet, for the mean over the plane."""
        width = self.law.smearing
        height = place * torch.erf(place / (math.sqrt(2) * width))
        height = height + width * math.sqrt(2 / math.pi) * torch.exp(-0.5 * (place / width) ** 2)
        sheet = torch.einsum("sfz,sfz,sfzm->sfm", share, -2 * math.pi * (height - self.middle[..., None]), wave)[:, 0]
        return self._lifted(sheet, -2 * math.pi * self.middle[:, 0])

    def coefficients(self, periodic_squared: Tensor) -> Tensor:
        """Transforms (S, P, M, …) for waves of orders m = 0 … M − 1 along each of the F free directions.

        - periodic_squared (S, P) Å⁻²: of the waves' parts along the lattice, 0 where there is none
        """
        k2 = periodic_squared.double()
        n_free = self.table.shape[1]
        flat = self.weight * (math.pi / self.rate) ** ((3 - n_free) / 2)
        value = _outer(torch.exp(-k2[..., None] / (4 * self.rate)) * flat, self.table)
        if self.law.exponent == 1 and n_free < 3:
            still = (periodic_squared.detach() == 0).view(*k2.shape, *[1] * n_free)
            value = torch.where(still, self._mean(flat)[:, None], value)
        return value.to(periodic_squared.dtype)

    def _mean(self, flat: Tensor) -> Tensor:
        """p = 1, no wave along the lattice: the logarithm of a wire or −2π|z| of a slab, less a constant; (S, M, …)."""
        if self.sheet is not None:
            return self.sheet
        bare = self.bare[:, :, None, :].expand_as(self.table)
        weight = flat.expand(len(self.table), 1, -1)
        there = weight * torch.exp(-self.rate * self.middle.square().sum(1)[:, None, None])
        mean = (_outer(weight, self.table) - _outer(there, bare))[:, 0]
        return self._lifted(mean, (there - weight).sum((1, 2)))

    def _lifted(self, transform: Tensor, constant: Tensor) -> Tensor:
        """The transform (S, M, …) of a function plus a constant (S,)."""
        lifted = transform.clone()
        lifted.flatten(1)[:, 0] += constant * self.volume
        return lifted


def _outer(waves: Tensor, table: Tensor) -> Tensor:
    """Σ_q waves[s, p, q] Π_f table[s, f, q, m_f]."""
    axes = "abc"[: table.shape[1]]
    formula = "spq," + ",".join(f"sq{axis}" for axis in axes) + f"->sp{axes}"
    return torch.einsum(formula, waves, *table.unbind(1))
