"""The sum over waves on a mesh (particle-mesh Ewald) for one large structure: O(N log N); splines by torch-pme."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchpme.lib import MeshInterpolator

from mlanet.ops.long_range.boxes import Boxes
from mlanet.ops.long_range.free_axes import FreeAxes
from mlanet.ops.long_range.power_law import PowerLaw

SPLINE_POINTS = 5
"""Mesh points per direction that an atom touches; energies have three continuous derivatives."""
SPACING = 0.4
"""Of the mesh, in smearings."""


def mesh_sum(charges: Tensor, place: Tensor, boxes: Boxes, laws: Sequence[PowerLaw]) -> Tensor:
    """e_i of one structure as `wave_sum` gives it, to some 1e-5 of its size; each atom's self-interaction included.

    - charges (N, C), one column per law · place (N, 3): fractional coordinates in boxes · boxes: of this one structure
    """
    rows = boxes.rows[0]
    points = [_even(length / (SPACING * laws[0].smearing)) for length in rows.detach().norm(dim=1).tolist()]
    mesh = MeshInterpolator(rows, torch.tensor(points, device=rows.device), SPLINE_POINTS, "P3M")
    mesh.compute_weights(place @ rows)
    density = torch.fft.rfftn(mesh.points_to_mesh(charges), dim=(1, 2, 3))
    strength = _strengths(points, boxes, laws)
    potential = torch.fft.irfftn(density * strength, s=points, dim=(1, 2, 3), norm="forward")
    return 0.5 * charges * mesh.mesh_to_points(potential)


def _even(least: float) -> int:
    """The next product of small primes, which fast Fourier transforms like."""
    count = max(2 * SPLINE_POINTS, math.ceil(least))
    while True:
        rest = count
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1 and count % 2 == 0:
            return count
        count += 1


def _strengths(points: list[int], boxes: Boxes, laws: Sequence[PowerLaw]) -> Tensor:
    """(C, n₁, n₂, n₃/2 + 1): G(k)/V over the splines' own transforms, squared."""
    rows = boxes.rows[0]
    axes = [torch.fft.fftfreq(n, 1 / n, dtype=torch.float32, device=rows.device) for n in points[:2]]
    axes.append(torch.fft.rfftfreq(points[2], 1 / points[2], dtype=torch.float32, device=rows.device))
    splines = [_spline(axis, n) for axis, n in zip(axes, points, strict=True)]
    damping = torch.einsum("a,b,c->abc", *splines).square().to(rows.dtype)
    scale = 1 / (boxes.volume[0] * damping)
    return torch.stack([_coefficients(law, axes, boxes) * scale for law in laws])


def _coefficients(law: PowerLaw, axes: list[Tensor], boxes: Boxes) -> Tensor:
    """G(k) on the mesh with the orders of `axes` along its directions."""
    rows, count = boxes.rows[0], boxes.n_periodic
    reciprocal = 2 * math.pi * torch.linalg.inv(rows).T[:count]
    along = torch.meshgrid(*axes[:count], indexing="ij") if count else [rows.new_zeros(1)]
    orders = torch.stack(along, dim=-1).to(rows.dtype)
    squared = (orders @ reciprocal).square().sum(-1) if count else rows.new_zeros(1)
    if count == 3:
        origin = squared.detach() == 0
        return torch.where(origin, law.fourier_at_zero, law.fourier(torch.where(origin, 1.0, squared)))
    free = [axis.abs().long() for axis in axes[count:]]
    table = FreeAxes(law, boxes, max(int(axis.max()) for axis in free)).coefficients(squared.view(1, -1))[0]
    for place, orders_along in enumerate(free, start=1):
        table = table.index_select(place, orders_along)
    return table.view(*squared.shape, *table.shape[1:]) if count else table[0]


def _spline(order: Tensor, points: int) -> Tensor:
    """Transform of an atom on a mesh point: Σ_j w_j cos(2π m j / n) of the spline of five points."""
    weights = (115 / 192, 19 / 96, 1 / 384)
    angle = 2 * math.pi * order.double() / points
    return weights[0] + 2 * weights[1] * torch.cos(angle) + 2 * weights[2] * torch.cos(2 * angle)
