from __future__ import annotations

import pytest
import torch

from mlanet.irreps import o3
from mlanet.nn.radial import polynomial_envelope
from mlanet.ops.harmonics import harmonics


def of_e3nn(direction: torch.Tensor, l_max: int) -> torch.Tensor:
    """Through e3nn's polynomials, and back through them."""
    return o3.spherical_harmonics(list(range(l_max + 1)), direction, normalize=False, normalization="component")


@pytest.mark.parametrize("l_max", [1, 2, 3])
def test_values_and_two_derivatives_are_those_of_e3nn(l_max: int) -> None:
    """Of vectors of any length: the polynomials are homogeneous. To the last digits of float64."""
    torch.manual_seed(2)
    at = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    up, along = torch.randn(7, (l_max + 1) ** 2, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)

    def numbers(function: object) -> list[torch.Tensor]:
        values = function(at, l_max)  # type: ignore[operator]
        slope = torch.autograd.grad((values * up).sum(), at, create_graph=True)[0]
        curved = torch.autograd.grad((slope * along).sum() + 0 * at.sum(), at)[0]
        return [values, slope, curved]

    for one, other in zip(numbers(harmonics), numbers(of_e3nn), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("power", [5, 6])
def test_the_envelope_has_the_derivatives_of_its_polynomial(power: int) -> None:
    """First and second, against autograd through u = 1 − (p+1)(p+2)/2 t^p + p(p+2) t^{p+1} − p(p+1)/2 t^{p+2}."""
    r = torch.linspace(0.0, 6.0, 61, dtype=torch.float64, requires_grad=True)
    t, p = (r / 5.0).clamp(max=1.0), power
    series = 1 - (p + 1) * (p + 2) / 2 * t**p + p * (p + 2) * t ** (p + 1) - p * (p + 1) / 2 * t ** (p + 2)
    found = polynomial_envelope(r, 5.0, power)
    for _ in range(2):
        torch.testing.assert_close(found, series, rtol=1e-12, atol=1e-12)
        found, series = (torch.autograd.grad(one.sum(), r, create_graph=True)[0] for one in (found, series))
    torch.testing.assert_close(found, series, rtol=1e-12, atol=1e-12)
