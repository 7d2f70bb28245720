"""Kernels of the filtered sums of scalar-vector networks. Equations: `mlanet.ops.filtered_sum.reference`.

A program has a center (or a sender) and a block of C channels, and walks its edges in tiles of T. Filters λ = W b(d)
are computed again in every pass, two or three small matrix products a tile; K functions enter in blocks.
Indices: i (T,) or (1,) centers · j (T,) or (1,) senders · e (T,) edges · here (T,) which of a tile are present: an edge
whose basis is 0 is absent, whatever its slope says · c (C,) channels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from mlanet.ops.gpu.dual import add, answer, line, load, matmul, mul, outer, plane, scaled, total, wide


class Sums(NamedTuple):
    """Pointers, each of values or of values and directions: sent (N, 2 or 5, F), basis (E, K), direction (E, 3)."""

    sent: Any
    basis: Any
    direction: Any


@triton.jit
def basis_block(x, e, here, k, S: tl.constexpr):
    """b_k (T, functions) of a tile."""
    return load(x.basis, e[:, None] * S.functions + k[None, :], here[:, None] & (k < S.functions)[None, :])


@triton.jit
def present(x, e, here, S: tl.constexpr):
    """Which of the edges `here` have a basis that is not 0."""
    reached = e < 0
    for first in range(0, S.functions, S.function_tile):
        k = first + tl.arange(0, S.function_tile)
        exists = here[:, None] & (k < S.functions)[None, :]
        basis = tl.load(x.basis[0] + e[:, None] * S.functions + k[None, :], exists, 0.0)
        reached |= tl.max((basis != 0).to(tl.int32), 1) > 0
    return here & reached


@triton.jit
def weight_block(weight, group: tl.constexpr, k, c, S: tl.constexpr):
    """Columns of λ_s, λ_a or λ_v (functions, C); weight (K, 2F or 3F)."""
    at = k[:, None] * (S.groups * S.channels) + group * S.channels + c[None, :]
    return tl.load(weight + at, (k < S.functions)[:, None] & (c < S.channels)[None, :], 0.0)


@triton.jit
def filters(x, weight, e, here, c, S: tl.constexpr):
    """λ_s, λ_a and, with vectors, λ_v (T, C)."""
    GROUPS: tl.constexpr = S.groups
    sums = ()
    for _ in tl.static_range(GROUPS):
        sums += (plane(S.tile, S.channel_tile, x.basis),)
    for first in range(0, S.functions, S.function_tile):
        k = first + tl.arange(0, S.function_tile)
        basis = basis_block(x, e, here, k, S)
        more = ()
        for group in tl.static_range(GROUPS):
            more += (add(sums[group], matmul(basis, weight_block(weight, group, k, c, S), S.precision)),)
        sums = more
    return sums


@triton.jit
def sent_row(x, j, row: tl.constexpr, c, here, S: tl.constexpr):
    """Row s, a, v_x, v_y or v_z (·, C) of senders."""
    at = (j[:, None] * S.rows + row) * S.channels + c[None, :]
    return load(x.sent, at, here[:, None] & (c < S.channels)[None, :])


@triton.jit
def up_row(up, i, row: tl.constexpr, c, here, S: tl.constexpr):
    """Row m, w_x, w_y or w_z (·, C) of what is asked for at centers; it has no slope."""
    at = (i[:, None] * 4 + row) * S.channels + c[None, :]
    return tl.load(up + at, here[:, None] & (c < S.channels)[None, :], 0.0)


@triton.jit
def component(x, e, here, axis: tl.constexpr):
    """û_x, û_y or û_z as a column (T, 1)."""
    return wide(load(x.direction, e * 3 + axis, here), 1)


@triton.jit
def asked_along(x, up, i, e, c, here, asked, S: tl.constexpr):
    """<up, û> (T, C) of the vectors that centers receive; asked: which of i."""
    sums = plane(S.tile, S.channel_tile, x.sent)
    for axis in tl.static_range(3):
        sums = add(sums, scaled(component(x, e, here, axis), up_row(up, i, axis + 1, c, asked, S)))
    return sums


@triton.jit
def filter_gradient(x, up, i, j, e, c, here, asked, S: tl.constexpr):
    """Gradients (T, C) in λ_s, λ_a and, with vectors, λ_v."""
    to_scalar = scaled(sent_row(x, j, 0, c, here, S), up_row(up, i, 0, c, asked, S))
    to_arrow = mul(sent_row(x, j, 1, c, here, S), asked_along(x, up, i, e, c, here, asked, S))
    if S.vectors:
        to_vector = plane(S.tile, S.channel_tile, x.sent)
        for axis in tl.static_range(3):
            carried = sent_row(x, j, axis + 2, c, here, S)
            to_vector = add(to_vector, scaled(carried, up_row(up, i, axis + 1, c, asked, S)))
        return to_scalar, to_arrow, to_vector
    else:
        return to_scalar, to_arrow


@triton.jit
def receive(x, weight, neighbor, start, out, S: tl.constexpr):
    """m and w (N, 4, F) of center pid(0), channels of block pid(1)."""
    center = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * S.channel_tile + tl.arange(0, S.channel_tile)
    first, last = tl.load(start + center), tl.load(start + center + 1)
    sums = ()
    for _ in tl.static_range(4):
        sums += (plane(S.tile, S.channel_tile, x.sent),)
    for at in range(first, last, S.tile):
        e = at + tl.arange(0, S.tile)
        here = present(x, e, e < last, S)
        j = tl.load(neighbor + e, here, 0)
        phi = filters(x, weight, e, here, c, S)
        arrow = mul(phi[1], sent_row(x, j, 1, c, here, S))
        more = (add(sums[0], mul(phi[0], sent_row(x, j, 0, c, here, S))),)
        for axis in tl.static_range(3):
            moved = mul(arrow, component(x, e, here, axis))
            if S.vectors:
                moved = add(moved, mul(phi[2], sent_row(x, j, axis + 2, c, here, S)))
            more += (add(sums[axis + 1], moved),)
        sums = more
    for row in tl.static_range(4):
        answer(out, (center * 4 + row) * S.channels + c, total(sums[row], 0), c < S.channels, False)


@triton.jit(do_not_specialize=["n_edges"])
def edge_gradient(x, weight, neighbor, start, n_edges, up, to_basis, to_direction, S: tl.constexpr):
    """In the basis (E, K) and direction of the edges of center pid(0), functions of block pid(1).

    All channels, a block at a time. The direction is answered by block of functions, (blocks, E, 3), because the
    gradient in it is a sum over functions.
    """
    center, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    GROUPS: tl.constexpr = S.groups
    k = block * S.function_tile + tl.arange(0, S.function_tile)
    first, last = tl.load(start + center), tl.load(start + center + 1)
    i = tl.zeros([1], tl.int64) + center
    asked = i >= 0
    for at in range(first, last, S.tile):
        e = at + tl.arange(0, S.tile)
        here = present(x, e, e < last, S)
        j = tl.load(neighbor + e, here, 0)
        basis, to_b = basis_block(x, e, here, k, S), plane(S.tile, S.function_tile, x.basis)
        to_x, to_y, to_z = line(S.tile, x.sent), line(S.tile, x.sent), line(S.tile, x.sent)
        for channel in range(0, S.channels, S.channel_tile):
            c = channel + tl.arange(0, S.channel_tile)
            to_filters = filter_gradient(x, up, i, j, e, c, here, asked, S)
            for group in tl.static_range(GROUPS):
                columns = tl.trans(weight_block(weight, group, k, c, S))
                to_b = add(to_b, matmul(to_filters[group], columns, S.precision))
            arrow = matmul(basis, weight_block(weight, 1, k, c, S), S.precision)
            arrow = mul(arrow, sent_row(x, j, 1, c, here, S))
            to_x = add(to_x, total(scaled(arrow, up_row(up, i, 1, c, asked, S)), 1))
            to_y = add(to_y, total(scaled(arrow, up_row(up, i, 2, c, asked, S)), 1))
            to_z = add(to_z, total(scaled(arrow, up_row(up, i, 3, c, asked, S)), 1))
        exists = e < last
        answer(
            to_basis, e[:, None] * S.functions + k[None, :], to_b, exists[:, None] & (k < S.functions)[None, :], False
        )
        place = (block.to(tl.int64) * n_edges + e) * 3
        answer(to_direction, place, to_x, exists, False)
        answer(to_direction, place + 1, to_y, exists, False)
        answer(to_direction, place + 2, to_z, exists, False)


@triton.jit
def sent_gradient(x, weight, order, center, sent_start, up, to_sent, S: tl.constexpr):
    """In what sender pid(0) sent (N, 2 or 5, F), channels of block pid(1).

    - order (E,): edges sorted by sender, sent_start[j]:sent_start[j+1] those of j · center (E,): of each edge
    """
    sender = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * S.channel_tile + tl.arange(0, S.channel_tile)
    first, last = tl.load(sent_start + sender), tl.load(sent_start + sender + 1)
    ROWS: tl.constexpr = S.rows
    sums = ()
    for _ in tl.static_range(ROWS):
        sums += (plane(S.tile, S.channel_tile, x.sent),)
    for at in range(first, last, S.tile):
        place = at + tl.arange(0, S.tile)
        e = tl.load(order + place, place < last, 0)
        here = present(x, e, place < last, S)
        i = tl.load(center + e, here, 0)
        phi = filters(x, weight, e, here, c, S)
        more = (add(sums[0], scaled(phi[0], up_row(up, i, 0, c, here, S))),)
        more += (add(sums[1], mul(phi[1], asked_along(x, up, i, e, c, here, here, S))),)
        if S.vectors:
            for axis in tl.static_range(3):
                more += (add(sums[axis + 2], scaled(phi[2], up_row(up, i, axis + 1, c, here, S))),)
        sums = more
    for row in tl.static_range(ROWS):
        answer(to_sent, (sender * S.rows + row) * S.channels + c, total(sums[row], 0), c < S.channels, False)


@triton.jit(do_not_specialize=["n_edges"])
def weight_gradient(x, neighbor, center, n_edges, up, to_weight, S: tl.constexpr):
    """Of functions pid(2), channels pid(1), over the edges of tiles pid(0), pid(0) + programs, …: partial sums.

    - to_weight (programs, K, 2F or 3F)
    """
    program = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * S.channel_tile + tl.arange(0, S.channel_tile)
    k = tl.program_id(2) * S.function_tile + tl.arange(0, S.function_tile)
    GROUPS: tl.constexpr = S.groups
    sums = ()
    for _ in tl.static_range(GROUPS):
        sums += (plane(S.function_tile, S.channel_tile, x.sent),)
    for at in range(program * S.tile, n_edges, tl.num_programs(0) * S.tile):
        e = at + tl.arange(0, S.tile)
        here = present(x, e, e < n_edges, S)
        i, j = tl.load(center + e, here, 0), tl.load(neighbor + e, here, 0)
        basis = basis_block(x, e, here, k, S)
        to_filters = filter_gradient(x, up, i, j, e, c, here, here, S)
        more = ()
        for group in tl.static_range(GROUPS):
            more += (add(sums[group], outer(basis, to_filters[group], S.precision)),)
        sums = more
    width: tl.constexpr = S.groups * S.channels
    exists = (k < S.functions)[:, None] & (c < S.channels)[None, :]
    for group in tl.static_range(GROUPS):
        at = (program * S.functions + k[:, None]) * width + group * S.channels + c[None, :]
        answer(to_weight, at, sums[group], exists, False)
