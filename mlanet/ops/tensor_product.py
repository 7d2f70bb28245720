"""The tensor product of features with harmonics, path by path: which degrees couple, and with what coefficients."""

from __future__ import annotations

import collections
import functools
import math
from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from mlanet.irreps import o3
from mlanet.ops.degrees import split_degrees

P = ParamSpec("P")
R = TypeVar("R")

Path = tuple[int, int, int]
"""Degrees (a, b, c) of feature, harmonics and result."""


def paths(l_max: int) -> tuple[Path, ...]:
    """All paths of natural parity between degrees 0 … l_max, a slowest.

    >>> paths(1)
    ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0))
    """
    degrees = range(l_max + 1)
    return tuple(
        (a, b, c)
        for a in degrees
        for b in degrees
        for c in degrees
        if abs(a - b) <= c <= a + b and (a + b + c) % 2 == 0
    )


def on_cpu(function: Callable[P, R]) -> Callable[P, R]:
    """What is kept for the whole process is made on the CPU, outside of inference mode, and of no tracer's tensors."""

    @functools.wraps(function)
    def made(*arguments: P.args, **named: P.kwargs) -> R:
        with _disable_current_modes(), torch.device("cpu"), torch.inference_mode(False):
            return function(*arguments, **named)

    return made


@functools.cache
@on_cpu
def coefficients(paths: tuple[Path, ...]) -> tuple[Tensor, ...]:
    """K (2a+1, 2b+1, 2c+1), float64, of each path: Clebsch–Gordan coefficients √(2c+1) w3j over √(paths into c).

    The normalisation of `e3nn.o3.TensorProduct`: components of unit variance give components of unit variance.
    """
    into = collections.Counter(c for _, _, c in paths)
    return tuple(o3.wigner_3j(a, b, c, dtype=torch.float64) * math.sqrt((2 * c + 1) / into[c]) for a, b, c in paths)


@functools.cache
@on_cpu
def coefficients_there(paths: tuple[Path, ...], dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """The same where they are used: a copy in each step would make the host wait, and no CUDA graph could hold it."""
    return tuple(coefficient.to(device, dtype) for coefficient in coefficients(paths))


class Couplings(NamedTuple):
    """The coefficients that are not 0, sorted by entry: entry[k] gets value[k] · Y[row[k]].

    Entries are the numbers (m_a, m_c) of all paths one after the other, rows those of the harmonics.
    """

    entry: Tensor
    row: Tensor
    value: Tensor


@functools.cache
@on_cpu
def couplings(l_max: int, dtype: torch.dtype) -> Couplings:
    """Of all paths, int32 and `dtype`."""
    entries, rows, values, first = [], [], [], 0
    for (a, b, c), table in zip(paths(l_max), coefficients(paths(l_max)), strict=True):
        for m_a in range(2 * a + 1):
            for m_c in range(2 * c + 1):
                for m_b in range(2 * b + 1):
                    value = float(table[m_a, m_b, m_c])
                    if abs(value) > 1e-12:
                        entries.append(first + m_a * (2 * c + 1) + m_c)
                        rows.append(b * b + m_b)
                        values.append(value)
        first += (2 * a + 1) * (2 * c + 1)
    kinds = torch.int32
    return Couplings(
        torch.tensor(entries, dtype=kinds), torch.tensor(rows, dtype=kinds), torch.tensor(values, dtype=dtype)
    )


def full_product(sent: Tensor, weights: Tensor, harmonics: Tensor) -> Tensor:
    """V^c = Σ W_path ⊙ (v^a ⊗ Y^b)^c (E, M, C), in plain torch: `uvu` of `e3nn.o3.TensorProduct` in our layout.

    - sent v (E, M, C) · harmonics Y (E, M) · weights (E, paths · C), path by path
    """
    l_max = math.isqrt(sent.shape[1]) - 1
    by_degree, directions = split_degrees(sent, l_max), split_degrees(harmonics, l_max)
    of_path = weights.unflatten(1, (-1, sent.shape[2])).unbind(1)
    sums: list[Tensor | None] = [None] * (l_max + 1)
    tables = coefficients_there(paths(l_max), harmonics.dtype, harmonics.device)
    for (a, b, c), table, weight in zip(paths(l_max), tables, of_path, strict=True):
        matrix = torch.einsum("eb,abc->eac", directions[b], table)
        one = torch.einsum("eac,eax->ecx", matrix, by_degree[a]) * weight[:, None]
        before = sums[c]
        sums[c] = one if before is None else before + one
    return torch.cat([part for part in sums if part is not None], dim=1)
