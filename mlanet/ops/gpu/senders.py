"""Kernels of the gradient over the edges that a sender has, and over any edges for the weights of the channels.

The edges are walked in the order of their senders, so that each sender's sums stay in one program. What a center
knows of an edge (attention, gradient in the logits) is read; gates and filters are computed again.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mlanet.ops.gpu.dual import (
    add,
    answer,
    line,
    load,
    matmul,
    mul,
    outer,
    plane,
    scaled,
    silu,
    silu_slope,
    total,
    wide,
)
from mlanet.ops.gpu.tiles import (
    channel_offsets,
    constant_channels,
    cooling,
    ends,
    envelope,
    filter_input,
    filter_offsets,
    gate_matrix,
    key_offsets,
    keys,
    logit_ends,
    logit_weights,
    one,
    path_gradient,
    paths,
    products,
    radial,
    row_gradient,
    strengths,
)


@triton.jit
def sent_gradient(x, w, order, center, sent_start, share, up, to, to_near, S: tl.constexpr, DEGREE: tl.constexpr):
    """In what sender pid(0) sent, channels of head pid(1), and in its end of z: to_near (N, H, R), here by head.

    One degree; those above 0 add to what those below answered.
    - order (E,): edges sorted by sender, sent_start[j]:sent_start[j+1] those of j · center (E,): of each edge
    """
    sender, h = tl.program_id(0).to(tl.int64), tl.program_id(1)
    first, last = tl.load(sent_start + sender), tl.load(sent_start + sender + 1)
    j = one(sender)
    MORE: tl.constexpr = DEGREE > 0
    scalar = plane(S.tile, S.width_tile, x.sent)
    to_ends = line(S.hidden_tile, x.near)
    sums = ()
    for _ in tl.static_range(DEGREE * DEGREE, (DEGREE + 1) * (DEGREE + 1)):
        sums += (scalar,)
    for at in range(first, last, S.tile):
        place = at + tl.arange(0, S.tile)
        here = place < last
        e = tl.load(order + place, here, 0)
        i = tl.load(center + e, here, 0)
        rbf = radial(x, e, here, S)
        before = ends(x, w, i, j, rbf, S)
        z = silu(before)
        hidden = filter_input(w, rbf, S)[0]
        u = envelope(x, e, here)[0]
        strength = strengths(x, share, load(x.factor, i, here), u, e, here, h, S)[0]
        mixed = paths(w, z, hidden, strength, u, DEGREE, h, S)
        found = path_gradient(up, x, mixed, strength, u, i, j, e, here, DEGREE, h, S)
        to_gate, toward = found[1], found[4]
        to_z = matmul(to_gate, tl.trans(gate_matrix(w, DEGREE, h, S)), S.precision)
        to_ends = add(to_ends, total(mul(to_z, silu_slope(before)), 0))
        scalar = add(scalar, mul(mul(mixed[2], mixed[3]), toward))
        own = mul(mixed[1], mixed[4])
        more = ()
        for m in tl.static_range(DEGREE * DEGREE, (DEGREE + 1) * (DEGREE + 1)):
            more += (add(sums[m - DEGREE * DEGREE], scaled(own, constant_channels(up, i, m, h, S))),)
        sums = more
    if DEGREE == 0:
        answer_row(to, add(sums[0], scalar), j, 0, h, S, False)
    else:
        answer_row(to, scalar, j, 0, h, S, True)
        for m in tl.static_range(DEGREE * DEGREE, (DEGREE + 1) * (DEGREE + 1)):
            answer_row(to, sums[m - DEGREE * DEGREE], j, m, h, S, False)
    r = tl.arange(0, S.hidden_tile)
    answer(to_near, (sender * S.heads + h) * S.hidden + r, to_ends, r < S.hidden, MORE)


@triton.jit
def answer_row(to, found, j, row, h, S: tl.constexpr, MORE: tl.constexpr):
    """Sum of a tile in row m of what was sent."""
    offsets, exists = channel_offsets(j, row, h, S)
    answer(to.sent, offsets, wide(total(found, 0), 0), exists, MORE)


@triton.jit
def key_gradient(x, w, order, center, sent_start, push, to, to_near, S: tl.constexpr):
    """In the keys of sender pid(0), head pid(1), and in its end of z through the logits, added to to_near (N, H, R)."""
    sender, h = tl.program_id(0).to(tl.int64), tl.program_id(1)
    first, last = tl.load(sent_start + sender), tl.load(sent_start + sender + 1)
    j = one(sender)
    M: tl.constexpr = S.rows
    L: tl.constexpr = S.l_max
    to_ends = line(S.hidden_tile, x.near)
    sums = ()
    for _ in tl.static_range(M):
        sums += (line(S.key_tile, x.near),)
    for at in range(first, last, S.tile):
        place = at + tl.arange(0, S.tile)
        here = place < last
        e = tl.load(order + place, here, 0)
        i = tl.load(center + e, here, 0)
        before = ends(x, w, i, j, radial(x, e, here, S), S)
        weights = logit_weights(w, silu(before), h, S)
        terms = products(x, i, j, e, here, h, S)
        to_sum = scaled(load(push, e * S.heads + h, here), cooling(w, h))
        to_ends = add(to_ends, total(mul(logit_ends(x, w, to_sum, terms, h, S), silu_slope(before)), 0))
        more = ()
        for degree in tl.static_range(L + 1):
            to_product = wide(row_gradient(to_sum, weights, degree, 0, S), 1)
            for m in tl.static_range(degree * degree, (degree + 1) * (degree + 1)):
                more += (add(sums[m], total(mul(to_product, keys(x.query, i, m, h, S)), 0)),)
        sums = more
    for m in tl.static_range(M):
        offsets, exists = key_offsets(j, m, h, S)
        answer(to.key, offsets, wide(sums[m], 0), exists, False)
    r = tl.arange(0, S.hidden_tile)
    answer(to_near, (sender * S.heads + h) * S.hidden + r, to_ends, r < S.hidden, True)


@triton.jit(do_not_specialize=["n_edges"])
def channel_weight_gradient(
    x, w, neighbor, center, n_edges, share, up, to_gates, to_bias, to_last, S: tl.constexpr, DEGREE: tl.constexpr
):
    """Of gates and last layer, for one degree and head pid(1), over the edges of tiles pid(0), pid(0) + programs, ….

    - to_gates (programs, C(L+1), R), to_bias (programs, C(L+1)), to_last (programs, hidden, 2(L+1)C): partial sums
    """
    program, h = tl.program_id(0).to(tl.int64), tl.program_id(1)
    gates, bias = plane(S.width_tile, S.hidden_tile, x.near), line(S.width_tile, x.near)
    phi, psi = plane(S.mlp_tile, S.width_tile, x.near), plane(S.mlp_tile, S.width_tile, x.near)
    for at in range(program * S.tile, n_edges, tl.num_programs(0) * S.tile):
        e = at + tl.arange(0, S.tile)
        here = e < n_edges
        i, j = tl.load(center + e, here, 0), tl.load(neighbor + e, here, 0)
        rbf = radial(x, e, here, S)
        z = silu(ends(x, w, i, j, rbf, S))
        hidden = filter_input(w, rbf, S)[0]
        u = envelope(x, e, here)[0]
        strength = strengths(x, share, load(x.factor, i, here), u, e, here, h, S)[0]
        mixed = paths(w, z, hidden, strength, u, DEGREE, h, S)
        found = path_gradient(up, x, mixed, strength, u, i, j, e, here, DEGREE, h, S)
        to_gate, to_phi, to_psi = found[1], found[2], found[3]
        gates, bias = add(gates, outer(to_gate, z, S.precision)), add(bias, total(to_gate, 0))
        phi, psi = add(phi, outer(hidden, to_phi, S.precision)), add(psi, outer(hidden, to_psi, S.precision))
    c, r = tl.arange(0, S.width_tile), tl.arange(0, S.hidden_tile)
    row = (program * (S.l_max + 1) + DEGREE) * S.channels + h * S.width + c
    exists = (c < S.width)[:, None] & (r < S.hidden)[None, :]
    answer(to_gates, row[:, None] * S.hidden + r[None, :], gates, exists, False)
    answer(to_bias, row, bias, c < S.width, False)
    inputs: tl.constexpr = S.mlp if S.mlp > 0 else S.radial
    block = program * (inputs * 2 * (S.l_max + 1) * S.channels)
    offsets, exists = filter_offsets(0, DEGREE, h, S)
    answer(to_last, block + offsets, phi, exists, False)
    offsets, exists = filter_offsets(1, DEGREE, h, S)
    answer(to_last, block + offsets, psi, exists, False)
