"""The dual-path attention message in plain PyTorch: the specification that every faster twin is compared with.

Layout (·, (L+1)², C), channels last; row l² + m is component m of degree l; `degree` (M,) maps rows to degrees.
Edges are sorted by center. Nothing here owns a parameter.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mlanet.ops.segment import Neighborhoods


def split_degrees(features: Tensor, l_max: int) -> tuple[Tensor, ...]:
    """(·, (L+1)², …) -> L+1 views (·, 2l+1, …); one split, so the backward is one concatenation."""
    return torch.split(features, [2 * degree + 1 for degree in range(l_max + 1)], dim=1)


def degree_dots(query: Tensor, key: Tensor, around: Neighborhoods) -> Tensor:
    """Σ_m Σ_k q^{l}_{m,h,k} k^{l}_{m,h,k} for each head and degree: the invariant products of the geometric path.

    - query (N, M, H, K) of the centers · key (E, M, H, K) of the edges -> (E, H, L+1)
    """
    per_row = (around.spread(query) * key).sum(-1)
    l_max = math.isqrt(per_row.shape[1]) - 1
    return torch.stack([block.sum(1) for block in split_degrees(per_row, l_max)], dim=2)


def harmonic_dots(query: Tensor, harmonics: Tensor, around: Neighborhoods) -> Tensor:
    """Σ_m q^{l}_{m,h} Y_{l,m}(r̂) for each head and degree: how well an edge points along the query.

    - query (N, M, H) of the centers · harmonics (E, M) -> (E, H, L+1)
    """
    per_row = around.spread(query) * harmonics[:, :, None]
    l_max = math.isqrt(per_row.shape[1]) - 1
    return torch.stack([block.sum(1) for block in split_degrees(per_row, l_max)], dim=2)


def light_message(
    value: Tensor,
    chemical: Tensor,
    geometric: Tensor,
    harmonics: Tensor,
    neighbor: Tensor,
    around: Neighborhoods,
) -> Tensor:
    """Sum over neighbours of a message without a Clebsch–Gordan product: O((L+1)² C) per edge.

    m_i^l = Σ_j  c_ij^l ⊙ v_j^l  +  (d_ij^l ⊙ v_j^0) ⊗ Y_l(r̂_ij)

    - value v (N, M, C) · chemical c and geometric d (E, L+1, C), attention, gates and envelope included
    - harmonics (E, M) · neighbor (E,) -> (N, M, C)
    """
    l_max = chemical.shape[1] - 1
    gathered = split_degrees(value.index_select(0, neighbor), l_max)
    directions = split_degrees(harmonics, l_max)
    along = (geometric * gathered[0]).unbind(1)
    blocks = [
        own[:, None, :] * sent + towards[:, None, :] * direction[:, :, None]
        for own, sent, towards, direction in zip(chemical.unbind(1), gathered, along, directions, strict=True)
    ]
    return around.sum(torch.cat(blocks, dim=1))
