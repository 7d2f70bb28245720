"""Kernels of the pooled neighbours of an atom, Σ_j u x_j and log(1 + Σ_j u e^{x_j}), and of their gradient.

With v = log(1 + Σ u e^x) the gradient of v in x_j is u e^{x_j − v}, and that in u is e^{x_j − v}.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from mlanet.ops.gpu.dual import (
    add,
    answer,
    exp,
    kept,
    log,
    mul,
    plane,
    scaled,
    shifted,
    store,
    sub,
    total,
    wide,
)
from mlanet.ops.gpu.gather import constant_rows, envelope, one, row_offsets, rows


class Inputs(NamedTuple):
    """Features x (N, C) and envelope u (E,): pointers to values, or to values and directions."""

    features: Any
    envelope: Any


@triton.jit
def pool(x, neighbor, start, pooled, S: tl.constexpr):
    """Sum and maximum (N, 2, C) of center pid(0).

    The sum of exponentials is kept over e^peak; each place in the tile has a peak of its own until the end, at least
    that of the null term, 0.
    """
    center = tl.program_id(0).to(tl.int64)
    first, last = tl.load(start + center), tl.load(start + center + 1)
    sums, weight = plane(S.tile, S.width, x.features), plane(S.tile, S.width, x.features)
    peak = weight[0]
    for at in range(first, last, S.tile):
        e = at + tl.arange(0, S.tile)
        u, present = envelope(x, e, e < last)
        here, u = rows(x.features, tl.load(neighbor + e, present, 0), present, S), wide(u, 1)
        top = tl.maximum(peak, here[0])
        sums = add(sums, mul(here, u))
        weight = add(scaled(weight, tl.exp(peak - top)), mul(exp(shifted(here, -top)), u))
        peak = top
    top = tl.max(peak, 0)
    weight = shifted(total(scaled(weight, tl.exp(peak - top[None, :])), 0), tl.exp(-top))
    c = tl.arange(0, S.width)
    at = center * (2 * S.channels) + c
    store(pooled, at, total(sums, 0), c < S.channels)
    store(pooled, at + S.channels, shifted(log(weight), top), c < S.channels)


@triton.jit
def envelope_gradient(x, neighbor, start, pooled, up, to_envelope, S: tl.constexpr):
    """In u of the edges of center pid(0); up (N, 2, C)."""
    center = tl.program_id(0).to(tl.int64)
    first, last = tl.load(start + center), tl.load(start + center + 1)
    row = one(2 * center)
    to_sum, to_highest = constant_rows(up, row, row >= 0, S), constant_rows(up, row + 1, row >= 0, S)
    highest = rows(pooled, row + 1, row >= 0, S)
    for at in range(first, last, S.tile):
        e = at + tl.arange(0, S.tile)
        exists = e < last
        present = envelope(x, e, exists)[1]
        here = rows(x.features, tl.load(neighbor + e, present, 0), present, S)
        share = exp(sub(here, highest))
        slope = total(add(scaled(here, to_sum), scaled(share, to_highest)), 1)
        answer(to_envelope, e, kept(slope, present), exists, False)


@triton.jit
def feature_gradient(x, order, center, sent_start, pooled, up, to_features, S: tl.constexpr):
    """In the features of sender pid(0).

    - order (E,): edges sorted by sender, sent_start[j]:sent_start[j+1] those of j · center (E,): of each edge
    """
    sender = tl.program_id(0).to(tl.int64)
    first, last = tl.load(sent_start + sender), tl.load(sent_start + sender + 1)
    j = one(sender)
    here = rows(x.features, j, j >= 0, S)
    sums = plane(S.tile, S.width, x.features)
    for at in range(first, last, S.tile):
        place = at + tl.arange(0, S.tile)
        exists = place < last
        e = tl.load(order + place, exists, 0)
        u, present = envelope(x, e, exists)
        row = 2 * tl.load(center + e, present, 0)
        to_sum, to_highest = constant_rows(up, row, present, S), constant_rows(up, row + 1, present, S)
        share = exp(kept(sub(here, rows(pooled, row + 1, present, S)), present[:, None]))
        sums = add(sums, mul(shifted(scaled(share, to_highest), to_sum), wide(u, 1)))
    at, exists = row_offsets(j, j >= 0, S)
    answer(to_features, at, wide(total(sums, 0), 0), exists, False)
