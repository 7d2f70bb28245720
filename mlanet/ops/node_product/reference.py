"""The product of a node's features with themselves, y^c = Σ_paths w_path ⊙ (x^a ⊗ x^b)^c, channel by channel."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mlanet.ops.tensor_product import Path, coefficients, on_cpu


def product_paths(l_in: int, l_out: int) -> tuple[Path, ...]:
    """All paths (a, b, c) of natural parity with a ≤ b (the product is symmetric), ordered by output.

    So the weights of a product with fewer outputs are the first ones of one with more.

    >>> product_paths(1, 0)
    ((0, 0, 0), (1, 1, 0))
    """
    degrees = range(l_in + 1)
    return tuple(
        (a, b, c)
        for c in range(l_out + 1)
        for a in degrees
        for b in degrees
        if a <= b and c in range(b - a, a + b + 1, 2)
    )


class Terms(NamedTuple):
    """What is not 0, sorted by path and row: y[row] += w[path] · value · x[first] · x[second], first ≤ second.

    - begin (paths + 1,): where the terms of each path begin · row, first, second (terms,) int32 · value (terms,)
    """

    begin: Tensor
    row: Tensor
    first: Tensor
    second: Tensor
    value: Tensor


@functools.cache
@on_cpu
def terms(l_in: int, l_out: int, dtype: torch.dtype) -> Terms:
    """Of all paths; the two orders of two rows of one degree are one term."""
    begin, products = [0], []
    paths = product_paths(l_in, l_out)
    for (a, b, c), table in zip(paths, coefficients(paths), strict=True):
        for m_c in range(2 * c + 1):
            for m_a in range(2 * a + 1):
                for m_b in range(m_a if a == b else 0, 2 * b + 1):
                    value = float(table[m_a, m_b, m_c])
                    value += float(table[m_b, m_a, m_c]) if a == b and m_a != m_b else 0.0
                    if abs(value) > 1e-12:
                        products.append((c * c + m_c, a * a + m_a, b * b + m_b, value))
        begin.append(len(products))
    row, first, second, values = zip(*products, strict=True)
    kind = torch.int32
    return Terms(
        torch.tensor(begin, dtype=kind),
        torch.tensor(row, dtype=kind),
        torch.tensor(first, dtype=kind),
        torch.tensor(second, dtype=kind),
        torch.tensor(values, dtype=dtype),
    )


def node_product(features: Tensor, weight: Tensor, l_out: int) -> Tensor:
    """y in plain torch. - features x (N, (l_in+1)², C) · weight (paths, C) -> (N, (l_out+1)², C)."""
    l_in = math.isqrt(features.shape[1]) - 1
    path, row, first, second, value = _terms_there(l_in, l_out, features.dtype, features.device)
    each = features[:, first] * features[:, second] * (weight[path] * value[:, None])
    out = features.new_zeros(features.shape[0], (l_out + 1) ** 2, features.shape[2])
    return out.index_add(1, row, each)


@functools.cache
@on_cpu
def _terms_there(l_in: int, l_out: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """Path, row, first, second and value of each term, where they are used (see `coefficients_there`)."""
    table = terms(l_in, l_out, dtype)
    path = torch.repeat_interleave(torch.arange(len(table.begin) - 1), table.begin.diff().long())
    indices = (tensor.long().to(device) for tensor in (path, table.row, table.first, table.second))
    return (*indices, table.value.to(device))


@dataclass(frozen=True)
class Product:
    """`node_product`, as far as its kernels have it in common (`mlanet.ops.autograd`): one input x and one weight."""

    l_out: int
    n_inputs = 1

    def blank(self, tensors: Sequence[Tensor]) -> Tensor:
        """(N, (l_out+1)², C)."""
        return tensors[0].new_empty(tensors[0].shape[0], (self.l_out + 1) ** 2, tensors[0].shape[2])

    def reference(self, tensors: Sequence[Tensor]) -> Tensor:
        """In plain torch."""
        return node_product(tensors[0], tensors[1], self.l_out)
