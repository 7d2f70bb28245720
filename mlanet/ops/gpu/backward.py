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
    silu,
    silu_slope,
    store,
    sub,
    total,
    wide,
)
from mlanet.ops.gpu.tiles import (
    channels,
    chemical_matrix,
    constant_channels,
    cooling,
    ends,
    envelope,
    filter_input,
    filter_matrix,
    first_matrix,
    gate_matrix,
    harmonic,
    key_offsets,
    keys,
    logit_ends,
    logit_weights,
    logits,
    one,
    path_gradient,
    paths,
    products,
    radial,
    row_gradient,
    strengths,
    weight_gradient,
)


@triton.jit
def answer_matrix(pointer, block, found, ROWS: tl.constexpr, COLUMNS: tl.constexpr, MORE: tl.constexpr):
    """Number `block` of a stack of matrices (ROWS, COLUMNS)."""
    r, c = tl.arange(0, found[0].shape[0])[:, None], tl.arange(0, found[0].shape[1])[None, :]
    offsets = (block.to(tl.int64) * ROWS + r) * COLUMNS + c
    answer(pointer, offsets, found, (r < ROWS) & (c < COLUMNS), MORE)


@triton.jit
def answer_radial(to, e, here, found, S: tl.constexpr, MORE: tl.constexpr):
    """Gradient in RBF of a tile."""
    b = tl.arange(0, S.radial_tile)
    exists = here[:, None] & (b < S.radial)[None, :]
    answer(to.radial, e[:, None] * S.radial + b[None, :], found, exists, MORE)


@triton.jit(do_not_specialize=["n_centers"])
def edge_gradient(
    x,
    w,
    neighbor,
    start,
    n_centers,
    share,
    up,
    pull,
    to,
    to_chemical,
    to_first,
    S: tl.constexpr,
    DEGREE: tl.constexpr,
    WEIGHTS: tl.constexpr,
):
    """Through gates, φ, ψ and directions of one degree, all heads, of the centers pid(0), pid(0) + programs, ….

    Degrees above 0 add to what those below answered.
    - pull (E, H): kept for `logit_gradient`, the gradient in the attention · to: gradients of the inputs
    - to_chemical (programs, B, R), to_first (programs, B, hidden): partial sums
    """
    program = tl.program_id(0)
    MORE: tl.constexpr = DEGREE > 0
    chemical, layer = plane(S.radial_tile, S.hidden_tile, x.near), plane(S.radial_tile, S.mlp_tile, x.near)
    for center in range(program.to(tl.int64), n_centers, tl.num_programs(0)):
        first, last = tl.load(start + center), tl.load(start + center + 1)
        i = one(center)
        factor = load(x.factor, i, i >= 0)
        to_here, to_factor = line(S.hidden_tile, x.near), line(S.tile, x.near)
        for at in range(first, last, S.tile):
            e = at + tl.arange(0, S.tile)
            here = e < last
            j = tl.load(neighbor + e, here, 0)
            rbf = radial(x, e, here, S)
            before = ends(x, w, i, j, rbf, S)
            u, present = envelope(x, e, here)
            found = head_sums(x, w, share, up, pull, i, j, e, here, factor, u, silu(before), rbf, S, DEGREE)
            to_z, to_hidden, to_u, more_factor, to_rows = found
            to_ends = mul(to_z, silu_slope(before))
            to_radial = matmul(to_ends, tl.trans(chemical_matrix(w, S)), S.precision)
            if S.mlp > 0:
                to_inside = mul(to_hidden, silu_slope(filter_input(w, rbf, S)[1]))
                to_radial = add(to_radial, matmul(to_inside, tl.trans(first_matrix(w, S)), S.precision))
                if WEIGHTS:
                    layer = add(layer, outer(rbf, to_inside, S.precision))
            else:
                to_radial = add(to_radial, to_hidden)
            if WEIGHTS:
                chemical = add(chemical, outer(rbf, to_ends, S.precision))
            to_here, to_factor = add(to_here, total(to_ends, 0)), add(to_factor, more_factor)
            answer(to.envelope, e, kept(to_u, present), here, MORE)
            answer_radial(to, e, here, to_radial, S, MORE)
            for m in tl.static_range(DEGREE * DEGREE, (DEGREE + 1) * (DEGREE + 1)):
                answer(to.harmonics, e * S.rows + m, to_rows[m - DEGREE * DEGREE], here, False)
        r = tl.arange(0, S.hidden_tile)
        answer(to.here, center * S.hidden + r, to_here, r < S.hidden, MORE)
        answer(to.factor, i, wide(total(to_factor, 0), 0), i >= 0, MORE)
    if WEIGHTS:
        answer_matrix(to_chemical, program, chemical, S.radial, S.hidden, MORE)
        if S.mlp > 0:
            answer_matrix(to_first, program, layer, S.radial, S.mlp, MORE)


@triton.jit
def head_sums(x, w, share, up, pull, i, j, e, here, factor, u, z, rbf, S: tl.constexpr, DEGREE: tl.constexpr):
    """Sums over heads: gradients in z (T, R), hidden (T, hidden), u and factor (T,), and each Y_m (T,)."""
    hidden = filter_input(w, rbf, S)[0]
    to_z, to_hidden = plane(S.tile, S.hidden_tile, x.near), plane(S.tile, S.mlp_tile, x.near)
    to_u, to_factor = line(S.tile, x.near), line(S.tile, x.near)
    to_rows = ()
    for _ in tl.static_range(DEGREE * DEGREE, (DEGREE + 1) * (DEGREE + 1)):
        to_rows += (to_u,)
    for h in range(0, S.heads):
        strength, attention = strengths(x, share, factor, u, e, here, h, S)
        mixed = paths(w, z, hidden, strength, u, DEGREE, h, S)
        found = path_gradient(up, x, mixed, strength, u, i, j, e, here, DEGREE, h, S)
        to_weight, to_gate, to_phi, to_psi, _toward, more_u = found
        to_z = add(to_z, matmul(to_gate, tl.trans(gate_matrix(w, DEGREE, h, S)), S.precision))
        to_hidden = add(to_hidden, matmul(to_phi, tl.trans(filter_matrix(w, 0, DEGREE, h, S)), S.precision))
        to_hidden = add(to_hidden, matmul(to_psi, tl.trans(filter_matrix(w, 1, DEGREE, h, S)), S.precision))
        along = mul(mul(mixed[2], mixed[3]), channels(x.sent, j, 0, h, S))
        more = ()
        for m in tl.static_range(DEGREE * DEGREE, (DEGREE + 1) * (DEGREE + 1)):
            each = total(scaled(along, constant_channels(up, i, m, h, S)), 1)
            more += (add(to_rows[m - DEGREE * DEGREE], each),)
        to_rows = more
        to_share = mul(total(to_weight, 1), u)
        keep_pull(pull, e * S.heads + h, mul(to_share, factor), here, DEGREE)
        to_u = add(add(to_u, more_u), mul(mul(total(to_weight, 1), factor), attention))
        to_factor = add(to_factor, mul(to_share, attention))
    return to_z, to_hidden, to_u, to_factor, to_rows


@triton.jit
def keep_pull(pull, offsets, found, here, DEGREE: tl.constexpr):
    """Sums over degrees."""
    if DEGREE > 0:
        found = add(found, load(pull, offsets, here))
    store(pull, offsets, found, here)


@triton.jit(do_not_specialize=["n_centers"])
def logit_gradient(
    x,
    w,
    neighbor,
    start,
    n_centers,
    share,
    pull,
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

    - pull (E, H): gradient in the attention A · push (E, H): kept, A (pull - Σ A pull), the gradient in the logits
    - to_logits (programs, H (2L+2), R), to_bias (programs, H (2L+2)), to_temperature (programs, H): partial sums
    """
    program = tl.program_id(0)
    M: tl.constexpr = S.rows
    chemical = plane(S.radial_tile, S.hidden_tile, x.near)
    for h in range(0, S.heads):
        sums = no_weight_sums(x, S)
        for center in range(program.to(tl.int64), n_centers, tl.num_programs(0)):
            first, last = tl.load(start + center), tl.load(start + center + 1)
            i = one(center)
            mean = mean_pull(x, share, pull, first, last, h, S)
            to_here = line(S.hidden_tile, x.near)
            to_query = ()
            for _ in tl.static_range(M):
                to_query += (line(S.key_tile, x.near),)
            for at in range(first, last, S.tile):
                e = at + tl.arange(0, S.tile)
                here = e < last
                j = tl.load(neighbor + e, here, 0)
                rbf = radial(x, e, here, S)
                before = ends(x, w, i, j, rbf, S)
                z = silu(before)
                terms, weights = products(x, i, j, e, here, h, S), logit_weights(w, z, h, S)
                u, present = envelope(x, e, here)
                excess = mul(load(share, e * S.heads + h, here), sub(load(pull, e * S.heads + h, here), mean))
                to_logit = mul(excess, u)
                store(push, e * S.heads + h, to_logit, here)
                to_sum = scaled(to_logit, cooling(w, h))
                to_ends = mul(logit_ends(x, w, to_sum, terms, h, S), silu_slope(before))
                to_here = add(to_here, total(to_ends, 0))
                to_query = query_gradient(x, to_sum, weights, to_query, i, j, e, here, h, S)
                answer(to.envelope, e, kept(excess, present), here, True)
                answer_radial(to, e, here, matmul(to_ends, tl.trans(chemical_matrix(w, S)), S.precision), S, True)
                direction_gradient(x, to, to_sum, weights, i, e, here, h, S)
                if WEIGHTS:
                    chemical = add(chemical, outer(rbf, to_ends, S.precision))
                    logit = logits(w, weights, terms, h, S)
                    sums = weight_sums(sums, z, to_logit, to_sum, terms, logit, S)
            r = tl.arange(0, S.hidden_tile)
            answer(to.here, center * S.hidden + r, to_here, r < S.hidden, True)
            for m in tl.static_range(M):
                at_row, exists = key_offsets(i, m, h, S)
                answer(to.query, at_row, wide(to_query[m], 0), exists, False)
        if WEIGHTS:
            answer_weights(to_logits, to_bias, to_temperature, sums, program, h, S)
        tl.debug_barrier()  # the next head adds to what other threads wrote
    if WEIGHTS:
        answer_matrix(to_chemical, program, chemical, S.radial, S.hidden, True)


@triton.jit
def mean_pull(x, share, pull, first, last, h, S: tl.constexpr):
    """Σ_e A pull (1,) of one center."""
    sums = line(S.tile, x.near)
    for at in range(first, last, S.tile):
        e = at + tl.arange(0, S.tile)
        here = e < last
        attention = mul(load(share, e * S.heads + h, here), envelope(x, e, here)[0])
        sums = add(sums, mul(attention, load(pull, e * S.heads + h, here)))
    return total(wide(sums, 1), 0)


@triton.jit
def query_gradient(x, to_sum, weights, to_query, i, j, e, here, h, S: tl.constexpr):
    """Adds a tile to the gradient (K,) in each row of the query: products with keys, and with directions."""
    L: tl.constexpr = S.l_max
    more = ()
    for degree in tl.static_range(L + 1):
        to_key_product = wide(row_gradient(to_sum, weights, degree, 0, S), 1)
        for m in tl.static_range(degree * degree, (degree + 1) * (degree + 1)):
            each = mul(to_key_product, keys(x.key, j, m, h, S))
            if degree > 0:
                turned = mul(row_gradient(to_sum, weights, degree, 1, S), harmonic(x, e, here, m, S))
                each = add(each, wide(turned, 1))
            more += (add(to_query[m], total(each, 0)),)
    return more


@triton.jit
def direction_gradient(x, to, to_sum, weights, i, e, here, h, S: tl.constexpr):
    """Adds to the gradient in Y_m (T,), m > 0, through the products with directions."""
    L: tl.constexpr = S.l_max
    for degree in tl.static_range(1, L + 1):
        to_product = row_gradient(to_sum, weights, degree, 1, S)
        for m in tl.static_range(degree * degree, (degree + 1) * (degree + 1)):
            found = mul(to_product, total(keys(x.query, i, m, h, S), 1))
            answer(to.harmonics, e * S.rows + m, found, here, True)


@triton.jit
def no_weight_sums(x, S: tl.constexpr):
    """Zeros: 2L+2 vectors (R,), 2L+2 biases (1,), the log temperature (1,)."""
    L: tl.constexpr = S.l_max
    vectors, biases = (), ()
    for _ in tl.static_range(2 * L + 2):
        vectors += (line(S.hidden_tile, x.near),)
        biases += (line(1, x.near),)
    return vectors, biases, line(1, x.near)


@triton.jit
def weight_sums(sums, z, to_logit, to_sum, terms, logit, S: tl.constexpr):
    """Adds a tile to the gradients of the weights of the logits."""
    L: tl.constexpr = S.l_max
    vectors, biases = (), ()
    for term in tl.static_range(2 * L + 2):
        to_weight = wide(weight_gradient(to_sum, terms, term), 1)
        vectors += (add(sums[0][term], total(mul(to_weight, z), 0)),)
        biases += (add(sums[1][term], total(to_weight, 0)),)
    return vectors, biases, sub(sums[2], total(wide(mul(to_logit, logit), 1), 0))


@triton.jit
def answer_weights(to_logits, to_bias, to_temperature, sums, program, h, S: tl.constexpr):
    """Writes them for one program and head."""
    L: tl.constexpr = S.l_max
    r = tl.arange(0, S.hidden_tile)
    block = one(program.to(tl.int64) * S.heads + h)
    answer(to_temperature, block, sums[2], block >= 0, False)
    for term in tl.static_range(2 * L + 2):
        row = block * (2 * S.l_max + 2) + term
        answer(to_bias, row, sums[1][term], row >= 0, False)
        answer(to_logits, row * S.hidden + r, sums[0][term], r < S.hidden, False)
