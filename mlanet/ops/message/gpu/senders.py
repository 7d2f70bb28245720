"""Kernels of the gradient over the edges that a sender has, and over any edges for the weights of the channels.

The edges are walked in the order of their senders, so that each sender's sums stay in one program. What a center
knows of an edge (attention, gradient in the logits) is read; gates and filters are computed again.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mlanet.ops.gpu.dual import add, answer, load, mul, outer, plane, scaled, total, wide
from mlanet.ops.gpu.gather import envelope, one
from mlanet.ops.message.gpu.backward import no_keys
from mlanet.ops.message.gpu.forward import no_rows
from mlanet.ops.message.gpu.logits import cooling, key_gradients, logit_ends, logit_weights, products, weight_gradient
from mlanet.ops.message.gpu.networks import (
    activated,
    add_slices,
    answer_slices,
    attention,
    ends,
    filter_input,
    gate_ends,
    gates,
    no_slices,
    outer_slices,
    path_gradient,
    through_silu,
)
from mlanet.ops.message.gpu.tiles import (
    answer_matrix,
    answer_transposed,
    basis,
    by_head,
    channel_columns,
    channel_offsets,
    constant_channels,
    gate_columns,
    key_offsets,
    keys,
    mlp_columns,
    radial,
    slice_columns,
    unhoisted,
    veil,
)


@triton.jit
def sent_gradient(x, w, order, center, sent_start, logit, level, up, to, S: tl.constexpr):
    """In what sender pid(0) sent, and in its end of z.

    - order (E,): edges sorted by sender, sent_start[j]:sent_start[j+1] those of j · center (E,): of each edge
    """
    M: tl.constexpr = S.rows
    sender = tl.program_id(0).to(tl.int64)
    first, last = tl.load(sent_start + sender), tl.load(sent_start + sender + 1)
    to_ends = no_slices(S.tile, x, S)
    sums = no_rows(x, S)
    for at in range(first, last, S.tile):
        place = one(at) + tl.arange(0, S.tile)
        here = place < last
        e = tl.load(order + place, here, 0)
        i, j = tl.load(center + e, here, 0), one(sender + veil(at))
        rows, rbf = unhoisted(w, veil(at)), basis(x, e, here, S)
        before = ends(x, rows, i, j, rbf, S)
        u, present = envelope(x, e, here)
        weight = attention(x, logit, level, i, e, u, present, here, S)[1]
        strength = mul(mul(weight, wide(load(x.factor, i, here), 1)), wide(u, 1))
        pair = sent_sums(x, rows, up, activated(before, S), rbf, strength, u, i, j, e, here, sums, S)
        sums = pair[1]
        to_ends = add_slices(to_ends, through_silu(pair[0], before, S), S)
    for m in tl.static_range(M):
        offsets, exists = channel_offsets(one(sender), m, S)
        answer(to.sent, offsets, wide(total(sums[m], 0), 0), exists, False)
    answer_slices(to.near, sender, to_ends, S, False)


@triton.jit
def sent_sums(x, w, up, z, rbf, strength, u, i, j, e, here, sums, S: tl.constexpr):
    """Gradient in z (T, R) of a tile, and its gradient (T, C) in each row of what was sent added to the sums."""
    D: tl.constexpr = S.l_max + 1
    hidden = filter_input(w, rbf, S)
    all_gates, to_z = gates(w, x, z, S), no_slices(S.tile, x, S)
    scalar = sums[0]
    more = ()
    for degree in tl.static_range(D):
        slopes = path_gradient(up, x, w, all_gates, hidden, strength, u, i, j, e, here, degree, S)
        to_z = gate_ends(to_z, slopes[1], w, degree, S)
        scalar = add(scalar, mul(slopes[6], slopes[7]))
        for m in tl.static_range(degree * degree, (degree + 1) * (degree + 1)):
            own = scaled(slopes[5], constant_channels(up, i, m, S))
            if m == 0:
                scalar = add(scalar, own)
            else:
                more += (add(sums[m], own),)
    first = (scalar,)
    return to_z, first + more


@triton.jit
def key_gradient(x, w, order, center, sent_start, push, to, S: tl.constexpr):
    """In the keys of sender pid(0), and in its end of z through the logits, added to what `sent_gradient` answered."""
    M: tl.constexpr = S.rows
    D: tl.constexpr = S.l_max + 1
    sender = tl.program_id(0).to(tl.int64)
    first, last = tl.load(sent_start + sender), tl.load(sent_start + sender + 1)
    to_ends = no_slices(S.tile, x, S)
    sums = no_keys(x, S)
    for at in range(first, last, S.tile):
        place = one(at) + tl.arange(0, S.tile)
        here = place < last
        e = tl.load(order + place, here, 0)
        i, j = tl.load(center + e, here, 0), one(sender + veil(at))
        before = ends(x, unhoisted(w, veil(at)), i, j, basis(x, e, here, S), S)
        weights = logit_weights(w, x, activated(before, S), S)
        to_sum = scaled(by_head(push, e, here, S), cooling(w, S))
        to_weights = weight_gradient(to_sum, products(x, i, j, e, here, S))
        to_ends = add_slices(to_ends, through_silu(logit_ends(w, to_weights, S), before, S), S)
        more = ()
        for degree in tl.static_range(D):
            to_product = key_gradients(to_sum, weights, degree, S)
            for m in tl.static_range(degree * degree, (degree + 1) * (degree + 1)):
                more += (add(sums[m], mul(to_product, keys(x.query, i, m, S))),)
        sums = more
    for m in tl.static_range(M):
        offsets, exists = key_offsets(one(sender), m, S)
        answer(to.key, offsets, wide(total(sums[m], 0), 0), exists, False)
    answer_slices(to.near, sender, to_ends, S, True)


@triton.jit(do_not_specialize=["n_edges"])
def channel_weight_gradient(
    x,
    w,
    neighbor,
    center,
    n_edges,
    logit,
    level,
    up,
    to_vectors,
    to_bias,
    to_last,
    S: tl.constexpr,
    FIRST: tl.constexpr,
    BEHIND: tl.constexpr,
):
    """Of gates and last layer, degrees FIRST … BEHIND - 1, over the edges of tiles pid(0), pid(0) + programs, ….

    - to_vectors (programs, (L+1) C/G, R), to_bias (programs, (L+1) C/G) of the gates,
      to_last (programs, hidden, 2(L+1)C): partial sums
    """
    program = tl.program_id(0).to(tl.int64)
    sums = ()
    for _ in tl.static_range(FIRST, BEHIND):
        filters = plane(S.channel_tile, S.mlp_tile, x.near)
        sums += ((no_slices(S.gates_tile, x, S), plane(S.tile, S.gates_tile, x.near), filters, filters),)
    for at in range(program * S.tile, n_edges, tl.num_programs(0) * S.tile):
        e = one(at) + tl.arange(0, S.tile)
        here = e < n_edges
        i, j = tl.load(center + e, here, 0), tl.load(neighbor + e, here, 0)
        rows, rbf = unhoisted(w, veil(at)), basis(x, e, here, S)
        z = activated(ends(x, rows, i, j, rbf, S), S)
        hidden, all_gates = filter_input(rows, rbf, S), gates(w, x, z, S)
        u, present = envelope(x, e, here)
        weight = attention(x, logit, level, i, e, u, present, here, S)[1]
        strength = mul(mul(weight, wide(load(x.factor, i, here), 1)), wide(u, 1))
        entering = filter_rows(x, hidden, e, here, S)
        more = ()
        for degree in tl.static_range(FIRST, BEHIND):
            slopes = path_gradient(up, x, rows, all_gates, hidden, strength, u, i, j, e, here, degree, S)
            vectors, bias, phi, psi = sums[degree - FIRST]
            vectors, bias = outer_slices(vectors, slopes[1], z, S), add(bias, slopes[1])
            phi, psi = (
                add(phi, outer(slopes[2], entering, S.precision)),
                add(psi, outer(slopes[3], entering, S.precision)),
            )
            more += ((vectors, bias, phi, psi),)
        sums = more
    for degree in tl.static_range(FIRST, BEHIND):
        answer_gates(to_vectors, to_bias, program, sums[degree - FIRST], degree, S)
        answer_filter(to_last, program, sums[degree - FIRST][2], 0, degree, S)
        answer_filter(to_last, program, sums[degree - FIRST][3], 1, degree, S)


@triton.jit
def answer_gates(to_vectors, to_bias, program, pair, degree, S: tl.constexpr):
    """Gradients of the weights of the gates of one degree."""
    K: tl.constexpr = S.slices
    N: tl.constexpr = (S.l_max + 1) * S.heads * S.groups
    rows = gate_columns(degree, S)
    for k in tl.static_range(K):
        answer_matrix(to_vectors, program, pair[0][k], rows, slice_columns(k, S), N, S.hidden, False)
    answer(to_bias, program * N + rows[0], total(pair[1], 0), rows[1], False)


@triton.jit
def filter_rows(x, hidden, e, here, S: tl.constexpr):
    """What enters the last layer of φ and ψ as one number (T, hidden)."""
    if S.mlp > 0:
        return hidden
    else:
        return radial(x, e, here, S)


@triton.jit
def answer_filter(to_last, program, tile, part, degree, S: tl.constexpr):
    """Gradient (C, hidden) of the transpose of the columns of φ (part 0) or ψ (part 1)."""
    inputs: tl.constexpr = S.mlp if S.mlp > 0 else S.radial
    c, exists = channel_columns(S)
    columns = ((part * (S.l_max + 1) + degree) * S.channels + c, exists)
    answer_transposed(to_last, program, tile, columns, mlp_columns(S), inputs, S.terms * S.channels, False)
