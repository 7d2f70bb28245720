"""Twins of `reference` for neighbourhood tables (a constant number of rows per center): products of small matrices.

Nothing of size E · (L+1)² · C is written but the gathered neighbours and one product, so a CPU spends its time in
matrix products instead of memory traffic.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mlanet.ops.degrees import split_degrees
from mlanet.ops.message.reference import Pieces
from mlanet.ops.segment import Neighborhoods


def _degree_selector(rows: int, like: Tensor) -> Tensor:
    """(M, L+1): 1 where a row belongs to a degree."""
    l_max = math.isqrt(rows) - 1
    degrees = torch.arange(l_max + 1, device=like.device)
    of_row = torch.repeat_interleave(degrees, 2 * degrees + 1)
    return (of_row[:, None] == degrees[None, :]).to(like.dtype)


def degree_dots(query: Tensor, key: Tensor, around: Neighborhoods) -> Tensor:
    """As `reference.degree_dots`: keys times queries, laid out block-diagonally over heads and degrees."""
    n, rows, heads, _ = query.shape
    select = _degree_selector(rows, query)
    same_head = torch.eye(heads, dtype=query.dtype, device=query.device)
    blocks = torch.einsum("nmhk,ml,hg->nmhkgl", query, select, same_head).reshape(n, -1, heads * select.shape[1])
    dots = torch.bmm(around.table(key.flatten(1)), blocks)
    return dots.view(-1, heads, select.shape[1])


def harmonic_dots(query: Tensor, harmonics: Tensor, around: Neighborhoods) -> Tensor:
    """As `reference.harmonic_dots`, one small matrix product per center."""
    n, rows, heads = query.shape
    select = _degree_selector(rows, query)
    blocks = torch.einsum("nmh,ml->nmhl", query, select).reshape(n, rows, -1)
    return torch.bmm(around.table(harmonics), blocks).view(-1, heads, select.shape[1])


def light_message(
    value: Tensor,
    chemical: Tensor,
    geometric: Tensor,
    harmonics: Tensor,
    neighbor: Tensor,
    around: Neighborhoods,
) -> Tensor:
    """As `reference.light_message`; the directional part is Yᵀ (d ⊙ v⁰), one matrix product per center and degree."""
    l_max = chemical.shape[1] - 1
    gathered = split_degrees(value.index_select(0, neighbor), l_max)
    directions = split_degrees(around.table(harmonics).transpose(1, 2), l_max)
    along = (geometric * gathered[0]).unbind(1)
    blocks = [
        around.sum(own[:, None, :] * sent) + torch.bmm(direction, around.table(towards))
        for own, sent, towards, direction in zip(chemical.unbind(1), gathered, along, directions, strict=True)
    ]
    return torch.cat(blocks, dim=1)


TABLES = Pieces(degree_dots, harmonic_dots, light_message)
"""For edges in a table."""
