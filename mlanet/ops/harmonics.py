"""Spherical harmonics of directions: e3nn's values, with their derivatives by the rule that links the degrees."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from mlanet.irreps import o3
from mlanet.ops.tensor_product import on_cpu


def harmonics(direction: Tensor, l_max: int) -> Tensor:
    """Y (E, (L+1)²) of degrees 0 … L, `component` normalised, of directions (E, 3); homogeneous polynomials of x, y, z.

    Their derivatives are harmonics of one degree less (e3nn's documentation of `spherical_harmonics`),

        ∂Y^l_i/∂x_k = l b_l Σ_j C_ijk Y^{l−1}_j   where   Y^l_i = b_l Σ_jk C_ijk Y^{l−1}_j x_k,

    with C of `wigner_3j(l, l − 1, 1)`. So one product of matrices takes the place of a pass back through the
    polynomials, and can be differentiated again.
    """
    values: Tensor = _Harmonics.apply(direction, l_max)
    return values


class _Harmonics(torch.autograd.Function):
    """See `harmonics`."""

    @staticmethod
    def forward(ctx: Any, direction: Tensor, l_max: int) -> Tensor:
        values: Tensor = o3.spherical_harmonics(
            list(range(l_max + 1)), direction, normalize=False, normalization="component"
        )
        ctx.l_max = l_max
        ctx.save_for_backward(values)
        return values

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
        (values,) = ctx.saved_tensors
        lower = ctx.l_max**2
        if not lower:
            return up.new_zeros(len(up), 3), None
        along = (up @ slopes_there(ctx.l_max, up.dtype, up.device)).unflatten(1, (3, lower))
        return torch.bmm(along, values[:, :lower, None])[:, :, 0], None


@functools.cache
@on_cpu
def slopes_there(l_max: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """((L+1)², 3 L²): entry (i, (k, j)) is ∂Y_i/∂x_k in units of Y_j."""
    point = torch.tensor([[0.36, 0.48, 0.8]], dtype=torch.float64)
    values = o3.spherical_harmonics(list(range(l_max + 1)), point, normalize=False, normalization="component")[0]
    slopes = torch.zeros((l_max + 1) ** 2, 3, l_max**2, dtype=torch.float64)
    for degree in range(1, l_max + 1):
        coupling = o3.wigner_3j(degree, degree - 1, 1, dtype=torch.float64)
        rows, lower = slice(degree**2, (degree + 1) ** 2), slice((degree - 1) ** 2, degree**2)
        raised = torch.einsum("ijk,j,k->i", coupling, values[lower], point[0])
        scale = torch.dot(values[rows], raised) / torch.dot(raised, raised)
        slopes[rows, :, lower] = degree * scale * coupling.transpose(1, 2)
    return slopes.flatten(1).to(device, dtype)
