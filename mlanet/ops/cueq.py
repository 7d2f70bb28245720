"""The tensor product of full messages by cuEquivariance, for GPUs; optional (extra `cueq`).

Its layout `ir_mul` is ours, so nothing is permuted. It gives every path an output of its own and its own norms, so
paths are matched with ours by what they compute, once, on random numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlanet.errors import KernelError
from mlanet.ops.paths import full_values, on_cpu, paths
from mlanet.ops.reference import split_degrees

SAMPLES = 4
"""Random inputs on which paths are compared."""


class Match(NamedTuple):
    """For each path of cuEquivariance: which of ours it is, times what; its degree and first row in the product."""

    path: Tensor
    factor: Tensor
    degree: tuple[int, ...]
    row: tuple[int, ...]


def full_product(sent: Tensor, weights: Tensor, harmonics: Tensor) -> Tensor:
    """V (E, M, C), as `paths.full_values`. - sent v_j (E, M, C) · weights (E, paths, C) · harmonics Y (E, M)

    Memory O(E · paths · C): each path is written before they are summed.

    Raises:
        KernelError: cuEquivariance is not installed.
    """
    edges, rows, channels = sent.shape
    l_max = round(rows**0.5) - 1
    match = _matched_there(l_max, weights.dtype, weights.device)
    own = weights.index_select(1, match.path) * match.factor[:, None]
    product = _product(l_max, channels, sent.dtype, sent.device)
    parts = product(sent.reshape(edges, -1), harmonics, own.reshape(edges, -1))
    parts = parts.view(edges, -1, channels)
    found: list[Tensor | None] = [None] * (l_max + 1)
    for degree, row in zip(match.degree, match.row, strict=True):
        one, before = parts[:, row : row + 2 * degree + 1], found[degree]
        found[degree] = one if before is None else before + one
    return torch.cat([one for one in found if one is not None], dim=1)


@functools.cache
@on_cpu
def matched(l_max: int) -> Match:
    """Which path is which.

    Raises:
        KernelError: not installed, or its paths are not ours.
    """
    generator = torch.Generator().manual_seed(0)
    rows, n = (l_max + 1) ** 2, len(paths(l_max))
    sent = (
        torch.randn(SAMPLES, 1, rows, 1, generator=generator, dtype=torch.float64).expand(-1, n, -1, -1).flatten(0, 1)
    )
    harmonics = torch.randn(SAMPLES, 1, rows, generator=generator, dtype=torch.float64).expand(-1, n, -1).flatten(0, 1)
    each = torch.eye(n, dtype=torch.float64).repeat(SAMPLES, 1)
    values = full_values(split_degrees(sent, l_max), each[:, :, None], split_degrees(harmonics, l_max))
    ours = torch.cat(values, dim=1).view(SAMPLES, n, rows)
    product = _product(l_max, 1, torch.float64, torch.device("cpu"))
    theirs = product(sent.flatten(1), harmonics, each).view(SAMPLES, n, -1)
    order, factors, degrees, firsts = [], [], [], []
    for place in range(n):
        (there,) = theirs[:, place].any(dim=0).nonzero(as_tuple=True)
        found = theirs[:, place, there]
        for path, (_, _, degree) in enumerate(paths(l_max)):
            wanted = ours[:, path, degree * degree : (degree + 1) ** 2]
            if found.shape == wanted.shape and torch.allclose(wanted, found * (wanted[0, 0] / found[0, 0]), atol=1e-10):
                order.append(path)
                factors.append(float(wanted[0, 0] / found[0, 0]))
                degrees.append(degree)
                firsts.append(int(there[0]))
    if sorted(order) != list(range(n)):
        raise KernelError("kernels: cueq: tensor products of this version of cuEquivariance have other paths")
    return Match(torch.tensor(order), torch.tensor(factors, dtype=torch.float64), tuple(degrees), tuple(firsts))


@functools.cache
def _matched_there(l_max: int, dtype: torch.dtype, device: torch.device) -> Match:
    """The same on a device: a copy in each step would make the host wait, and no CUDA graph could hold it."""
    with torch.inference_mode(False):
        match = matched(l_max)
        return match._replace(path=match.path.to(device), factor=match.factor.to(device, dtype))


@functools.cache
def _product(l_max: int, channels: int, dtype: torch.dtype, device: torch.device) -> Callable[..., Any]:
    """cuEquivariance's own product: its CUDA kernels on a GPU, plain torch elsewhere."""
    if find_spec("cuequivariance_torch") is None:
        raise KernelError('kernels: cueq needs cuEquivariance: pip install "mlanet[cueq]"')
    import cuequivariance
    import cuequivariance_torch

    kind = _e3nn_basis()

    def irreps(copies: int) -> Any:
        return cuequivariance.Irreps(kind, "+".join(f"{copies}x{l}{'eo'[l % 2]}" for l in range(l_max + 1)))  # noqa: E741

    product: Callable[..., Any] = cuequivariance_torch.ChannelWiseTensorProduct(
        irreps(channels),
        irreps(1),
        [kind(l, (-1) ** l) for l in range(l_max + 1)],  # noqa: E741
        layout=cuequivariance.ir_mul,
        shared_weights=False,
        internal_weights=False,
        method=None if device.type == "cuda" else "naive",
        dtype=dtype,
        math_dtype=dtype,
        device=device,
    )
    return product


@functools.cache
def _e3nn_basis() -> Any:
    """cuEquivariance's O(3) with e3nn's components and Clebsch–Gordan coefficients."""
    import cuequivariance
    import numpy as np
    from e3nn import o3

    class E3nn(cuequivariance.O3):  # type: ignore[misc]
        """The same group, another basis."""

        def __mul__(self, other: Any) -> Any:
            return [E3nn(l=one.l, p=one.p) for one in cuequivariance.O3.__mul__(self, other)]

        @classmethod
        def iterator(cls) -> Any:
            return (cls(l=one.l, p=one.p) for one in cuequivariance.O3.iterator())

        @classmethod
        def clebsch_gordan(cls, first: Any, second: Any, result: Any) -> Any:
            """(1, 2 l₁ + 1, 2 l₂ + 1, 2 l + 1), or nothing where parity forbids."""
            first, second, result = (cls._from(one) for one in (first, second, result))
            if first.p * second.p != result.p:
                return np.zeros((0, first.dim, second.dim, result.dim))
            exact = o3.wigner_3j(first.l, second.l, result.l, dtype=torch.float64).numpy()
            return exact[None] * np.sqrt(result.dim)

    return E3nn
