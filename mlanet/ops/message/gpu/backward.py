"""Kernels of the gradient over the edges of a center: what belongs to centers and to edges, and the edge networks.

Every program has its centers and edges for itself, and weights are summed by program: no atomics, the same numbers
in every run. With slopes the same code answers the second derivative.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mlanet.ops.gpu.dual import (
    add,
    answer,
    kept,
    line,
    load,
    matmul,
    mul,
    outer,
    plane,
    scaled,
    silu_slope,
    store,
    sub,
    total,
    wide,
)
from mlanet.ops.gpu.gather import envelope, one
from mlanet.ops.message.gpu.logits import (
    cooling,
    direction_gradients,
    key_gradients,
    logit_ends,
    logit_weights,
    logits,
    products,
    weight_gradient,
)
from mlanet.ops.message.gpu.networks import (
    activated,
    add_slices,
    answer_slices,
    attention,
    chemical_gradient,
    ends,
    filter_input,
    filter_matrix,
    first_matrix,
    gate_ends,
    gates,
    inside,
    no_slices,
    outer_slices,
    path_gradient,
    through_silu,
)
from mlanet.ops.message.gpu.tiles import (
    answer_matrix,
    answer_radial,
    answer_transposed,
    basis,
    by_head,
    constant_channels,
    harmonic,
    head_columns,
    head_offsets,
    key_offsets,
    keys,
    mlp_columns,
    radial,
    radial_columns,
    slice_columns,
    term_columns,
)


@triton.jit(do_not_specialize=["n_centers"])
def edge_gradient(
    x,
    w,
    neighbor,
    start,
    n_centers,
    logit,
    level,
    up,
    pull,
    mean,
    to,
    to_chemical,
    to_first,
    S: tl.constexpr,
    WEIGHTS: tl.constexpr,
):
    """Through gates, φ, ψ and directions, of the centers pid(0), pid(0) + programs, ….

    - pull (E, H): kept, the gradient in the attention · mean (N, H): kept, Σ A pull over the edges of a center
    - to: gradients of the inputs · to_chemical (programs, B, R), to_first (programs, B, hidden): partial sums
    """
    program = tl.program_id(0)
    chemical, layer = no_slices(S.radial_tile, x, S), plane(S.mlp_tile, S.radial_tile, x.near)
    for center in range(program.to(tl.int64), n_centers, tl.num_programs(0)):
        first, last = tl.load(start + center), tl.load(start + center + 1)
        i = one(center)
        factor = wide(load(x.factor, i, i >= 0), 1)
        to_here, to_factor = no_slices(S.tile, x, S), plane(S.tile, S.head_tile, x.near)
        sums = plane(S.tile, S.head_tile, x.near)
        for at in range(first, last, S.tile):
            e = one(at) + tl.arange(0, S.tile)
            here = e < last
            j = tl.load(neighbor + e, here, 0)
            rbf = basis(x, e, here, S)
            before = ends(x, w, i, j, rbf, S)
            z = activated(before, S)
            u, present = envelope(x, e, here)
            weight = attention(x, logit, level, i, e, u, present, here, S)[1]
            strength = mul(mul(weight, factor), wide(u, 1))
            slopes = degree_sums(x, w, up, to, z, rbf, strength, u, i, j, e, here, S)
            to_z, to_hidden, to_strength, to_u = slopes
            to_share = mul(to_strength, wide(u, 1))
            to_attention = mul(to_share, factor)
            offsets, exists = head_offsets(e, here, S)
            store(pull, offsets, to_attention, exists)
            sums = add(sums, mul(weight, to_attention))
            to_factor = add(to_factor, mul(to_share, weight))
            to_u = add(to_u, total(mul(to_strength, mul(weight, factor)), 1))
            answer(to.envelope, e, kept(to_u, present), here, False)
            to_ends = through_silu(to_z, before, S)
            to_here = add_slices(to_here, to_ends, S)
            to_radial = chemical_gradient(w, to_ends, S)
            if S.mlp > 0:
                to_inside = mul(to_hidden, silu_slope(inside(w, rbf, S)))
                to_radial = add(to_radial, matmul(to_inside, tl.trans(first_matrix(w, S)), S.precision))
                if WEIGHTS:
                    layer = add(layer, outer(to_inside, radial(x, e, here, S), S.precision))
            else:
                to_radial = add(to_radial, to_hidden)
            answer_radial(to, e, here, to_radial, S, False)
            if WEIGHTS:
                chemical = outer_slices(chemical, radial(x, e, here, S), to_ends, S)
        answer_slices(to.here, center, to_here, S, False)
        answer(to.factor, i, total(wide(total(to_factor, 0), 0), 1), i >= 0, False)
        offsets, exists = head_offsets(i, i >= 0, S)
        store(mean, offsets, wide(total(sums, 0), 0), exists)
    if WEIGHTS:
        answer_chemical(to_chemical, program, chemical, S, False)
        if S.mlp > 0:
            columns = mlp_columns(S)
            answer_transposed(to_first, program, layer, columns, radial_columns(S), S.radial, S.mlp, False)


@triton.jit
def answer_chemical(to_chemical, program, slices, S: tl.constexpr, MORE: tl.constexpr):
    """Gradient of D, slices (B, 16), of one program."""
    K: tl.constexpr = S.slices
    for k in tl.static_range(K):
        answer_matrix(to_chemical, program, slices[k], radial_columns(S), slice_columns(k, S), S.radial, S.hidden, MORE)


@triton.jit
def degree_sums(x, w, up, to, z, rbf, strength, u, i, j, e, here, S: tl.constexpr):
    """Gradients of all degrees in z (slices), in what enters the filters, in a (T, H), in u (T,); writes that in Y."""
    D: tl.constexpr = S.l_max + 1
    hidden, all_gates = filter_input(w, rbf, S), gates(w, x, z, S)
    to_z, to_hidden = no_slices(S.tile, x, S), plane(S.tile, S.mlp_tile, x.near)
    to_strength, to_u = plane(S.tile, S.head_tile, x.near), line(S.tile, x.near)
    for degree in tl.static_range(D):
        slopes = path_gradient(up, x, w, all_gates, hidden, strength, u, i, j, e, here, degree, S)
        to_strength, to_u = add(to_strength, slopes[0]), add(to_u, slopes[4])
        to_z = gate_ends(to_z, slopes[1], w, degree, S)
        to_hidden = add(to_hidden, matmul(slopes[2], tl.trans(filter_matrix(w, 0, degree, S)), S.precision))
        to_hidden = add(to_hidden, matmul(slopes[3], tl.trans(filter_matrix(w, 1, degree, S)), S.precision))
        along = mul(slopes[6], slopes[8])
        for m in tl.static_range(degree * degree, (degree + 1) * (degree + 1)):
            to_row = total(scaled(along, constant_channels(up, i, m, S)), 1)
            answer(to.harmonics, e * S.rows + m, to_row, here, False)
    return to_z, to_hidden, to_strength, to_u


@triton.jit(do_not_specialize=["n_centers"])
def logit_gradient(
    x,
    w,
    neighbor,
    start,
    n_centers,
    logit,
    level,
    pull,
    mean,
    push,
    to,
    to_chemical,
    to_logits,
    to_bias,
    to_temperature,
    S: tl.constexpr,
    WEIGHTS: tl.constexpr,
):
    """Through the attention of the centers pid(0), pid(0) + programs, …, added to what `edge_gradient` answered.

    - pull (E, H), mean (N, H): as that kept them · push (E, H): kept, A (pull - mean), the gradient in the logits
    - to_logits (programs, H (2L+2), R), to_bias (programs, H (2L+2)), to_temperature (programs, H): partial sums
    """
    M: tl.constexpr = S.rows
    program = tl.program_id(0)
    chemical, vectors = no_slices(S.radial_tile, x, S), no_slices(S.terms_tile, x, S)
    bias, temperature = plane(S.tile, S.terms_tile, x.near), plane(S.tile, S.head_tile, x.near)
    for center in range(program.to(tl.int64), n_centers, tl.num_programs(0)):
        first, last = tl.load(start + center), tl.load(start + center + 1)
        i = one(center)
        to_here = no_slices(S.tile, x, S)
        to_query = no_keys(x, S)
        for at in range(first, last, S.tile):
            e = one(at) + tl.arange(0, S.tile)
            here = e < last
            j = tl.load(neighbor + e, here, 0)
            before = ends(x, w, i, j, basis(x, e, here, S), S)
            z = activated(before, S)
            weights, terms = logit_weights(w, x, z, S), products(x, i, j, e, here, S)
            u, present = envelope(x, e, here)
            share = attention(x, logit, level, i, e, u, present, here, S)[0]
            excess = mul(share, sub(by_head(pull, e, here, S), by_head(mean, i, i >= 0, S)))
            answer(to.envelope, e, kept(total(excess, 1), present), here, True)
            to_logit = mul(excess, wide(u, 1))
            offsets, exists = head_offsets(e, here, S)
            store(push, offsets, to_logit, exists)
            to_sum = scaled(to_logit, cooling(w, S))
            to_weights = weight_gradient(to_sum, terms)
            to_ends = through_silu(logit_ends(w, to_weights, S), before, S)
            to_here = add_slices(to_here, to_ends, S)
            answer_radial(to, e, here, chemical_gradient(w, to_ends, S), S, True)
            to_query = query_gradient(x, to, to_sum, weights, to_query, i, j, e, here, S)
            if WEIGHTS:
                chemical = outer_slices(chemical, radial(x, e, here, S), to_ends, S)
                vectors = outer_slices(vectors, to_weights, z, S)
                bias = add(bias, to_weights)
                temperature = sub(temperature, mul(to_logit, logits(w, weights, terms, S)))
        answer_slices(to.here, center, to_here, S, True)
        for m in tl.static_range(M):
            offsets, exists = key_offsets(i, m, S)
            answer(to.query, offsets, wide(total(to_query[m], 0), 0), exists, False)
    if WEIGHTS:
        answer_chemical(to_chemical, program, chemical, S, True)
        N: tl.constexpr = S.heads * S.terms
        K: tl.constexpr = S.slices
        rows = term_columns(S)
        for k in tl.static_range(K):
            answer_matrix(to_logits, program, vectors[k], rows, slice_columns(k, S), N, S.hidden, False)
        answer(to_bias, program.to(tl.int64) * N + rows[0], total(bias, 0), rows[1], False)
        h, exists = head_columns(S)
        answer(to_temperature, program.to(tl.int64) * S.heads + h, total(temperature, 0), exists, False)


@triton.jit
def no_keys(x, S: tl.constexpr):
    """Zeros: M tiles (T, H K)."""
    M: tl.constexpr = S.rows
    planes = ()
    for _ in tl.static_range(M):
        planes += (plane(S.tile, S.keys_tile, x.near),)
    return planes


@triton.jit
def query_gradient(x, to, to_sum, weights, to_query, i, j, e, here, S: tl.constexpr):
    """Adds a tile to the gradient (T, H K) in each row of the query, and to that in Y: keys, and directions."""
    D: tl.constexpr = S.l_max + 1
    more = ()
    for degree in tl.static_range(D):
        to_key_product = key_gradients(to_sum, weights, degree, S)
        to_direction = direction_gradients(to_sum, weights, degree, S)
        for m in tl.static_range(degree * degree, (degree + 1) * (degree + 1)):
            each = mul(to_key_product, keys(x.key, j, m, S))
            if degree > 0:
                each = add(each, mul(to_direction, harmonic(x, e, here, m, S)))
                to_harmonic = total(mul(to_direction, keys(x.query, i, m, S)), 1)
                answer(to.harmonics, e * S.rows + m, to_harmonic, here, True)
            more += (add(to_query[m], each),)
    return more
