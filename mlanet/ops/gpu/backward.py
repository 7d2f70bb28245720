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
    answer_more,
    bell,
    kept,
    load,
    matmul,
    mul,
    outer,
    scaled,
    silu,
    silu_slope,
    store,
    sub,
    total,
    wide,
    line,
    plane,
)
from mlanet.ops.gpu.tiles import (
    atom_vector,
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
    """Write or add block number `block` of a stack of matrices (ROWS, COLUMNS)."""
    r, c = tl.arange(0, found[0].shape[0])[:, None], tl.arange(0, found[0].shape[1])[None, :]
    offsets = (block.to(tl.int64) * ROWS + r) * COLUMNS + c
    if MORE:
        answer_more(pointer, offsets, found, (r < ROWS) & (c < COLUMNS))
    else:
        answer(pointer, offsets, found, (r < ROWS) & (c < COLUMNS))


@triton.jit
def edge_gradient(
    x, w, neighbor, start, n_centers, share, up, pull, to, to_chemical, to_first, S: tl.constexpr, WEIGHTS: tl.constexpr
):
    """Through gates, φ, ψ and directions of the centers pid(0), pid(0) + programs, …; all heads.

    - pull (E, H): kept for `logit_gradient`, the gradient in the attention · to: gradients of the inputs
    - to_chemical (programs, B, R), to_first (programs, B, hidden): partial sums
    """
    program = tl.program_id(0)
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
            found = head_sums(x, w, share, up, pull, i, j, e, here, factor, u, silu(before), rbf, S)
            to_z, to_hidden, to_u, more_factor, to_rows = found
            to_ends = mul(to_z, silu_slope(before))
            to_radial = matmul(to_ends, tl.trans(chemical_matrix(w, S)), S.precision)
            if S.mlp > 0:
                inside = filter_input(w, rbf, S)[1]
                to_inside = mul(to_hidden, silu_slope(inside))
                to_radial = add(to_radial, matmul(to_inside, tl.trans(first_matrix(w, S)), S.precision))
                if WEIGHTS:
                    layer = add(layer, outer(rbf, to_inside, S.precision))
            else:
                to_radial = add(to_radial, to_hidden)
            if WEIGHTS:
                chemical = add(chemical, outer(rbf, to_ends, S.precision))
            to_here, to_factor = add(to_here, total(to_ends, 0)), add(to_factor, more_factor)
            answer_edges(to, e, here, present, to_u, to_radial, to_rows, S)
        r = tl.arange(0, S.hidden_tile)
        answer(to.here, center * S.hidden + r, to_here, r < S.hidden)
        answer(to.factor, i, wide(total(to_factor, 0), 0), i >= 0)
    if WEIGHTS:
        answer_matrix(to_chemical, program, chemical, S.radial, S.hidden, False)
        if S.mlp > 0:
            answer_matrix(to_first, program, layer, S.radial, S.mlp, False)


@triton.jit
def answer_edges(to, e, here, present, to_u, to_radial, to_rows, S: tl.constexpr):
    """Gradients in u, RBF and Y of a tile."""
    b = tl.arange(0, S.radial_tile)
    M: tl.constexpr = S.rows
    answer(to.envelope, e, kept(to_u, present), here)
    answer(to.radial, e[:, None] * S.radial + b[None, :], to_radial, here[:, None] & (b < S.radial)[None, :])
    for m in tl.static_range(M):
        answer(to.harmonics, e * S.rows + m, to_rows[m], here)


@triton.jit
def head_sums(x, w, share, up, pull, i, j, e, here, factor, u, z, rbf, S: tl.constexpr):
    """Sums over heads and degrees: gradients in z (T, R), hidden (T, hidden), u, factor (T,) and each Y_m (T,)."""
    M: tl.constexpr = S.rows
    L: tl.constexpr = S.l_max
    hidden = filter_input(w, rbf, S)[0]
    to_z, to_hidden = plane(S.tile, S.hidden_tile, x.near), plane(S.tile, S.mlp_tile, x.near)
    to_u, to_factor = line(S.tile, x.near), line(S.tile, x.near)
    to_rows = ()
    for m in tl.static_range(M):
        to_rows += (to_u,)
    for h in range(0, S.heads):
        strength, attention = strengths(x, share, factor, u, e, here, h, S)
        scalar = channels(x.sent, j, 0, h, S)
        to_strength = line(S.tile, x.near)
        more = ()
        for degree in tl.static_range(L + 1):
            mixed = paths(w, z, hidden, strength, u, degree, h, S)
            found = path_gradient(up, x, mixed, strength, u, i, j, e, here, degree, h, S)
            to_weight, to_gate, to_phi, to_psi, toward, more_u = found
            to_strength, to_u = add(to_strength, total(to_weight, 1)), add(to_u, more_u)
            to_z = add(to_z, matmul(to_gate, tl.trans(gate_matrix(w, degree, h, S)), S.precision))
            to_hidden = add(to_hidden, matmul(to_phi, tl.trans(filter_matrix(w, 0, degree, h, S)), S.precision))
            to_hidden = add(to_hidden, matmul(to_psi, tl.trans(filter_matrix(w, 1, degree, h, S)), S.precision))
            along = mul(mul(mixed[2], mixed[3]), scalar)
            for m in tl.static_range(degree * degree, (degree + 1) * (degree + 1)):
                more += (add(to_rows[m], total(scaled(along, constant_channels(up, i, m, h, S)), 1)),)
        to_rows = more
        to_attention = mul(mul(to_strength, factor), u)
        store(pull, e * S.heads + h, to_attention, here)
        to_u = add(to_u, mul(mul(to_strength, factor), attention))
        to_factor = add(to_factor, mul(mul(to_strength, u), attention))
    return to_z, to_hidden, to_u, to_factor, to_rows


@triton.jit
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
    program, h = tl.program_id(0), tl.arange(0, S.head_tile)
    L: tl.constexpr = S.l_max
    M: tl.constexpr = S.rows
    chemical = plane(S.radial_tile, S.hidden_tile, x.near)
    temperature = line(S.head_tile, x.near)
    matrices, biases = (), ()
    for term in tl.static_range(2 * L + 2):
        matrices += (plane(S.head_tile, S.hidden_tile, x.near),)
        biases += (line(S.head_tile, x.near),)
    for center in range(program.to(tl.int64), n_centers, tl.num_programs(0)):
        first, last = tl.load(start + center), tl.load(start + center + 1)
        i = one(center)
        mean = mean_pull(x, share, pull, first, last, S)
        to_here = line(S.hidden_tile, x.near)
        to_query = ()
        for m in tl.static_range(M):
            to_query += (plane(S.head_tile, S.key_tile, x.near),)
        for at in range(first, last, S.tile):
            e = at + tl.arange(0, S.tile)
            here = e < last
            j = tl.load(neighbor + e, here, 0)
            rbf = radial(x, e, here, S)
            before = ends(x, w, i, j, rbf, S)
            z = silu(before)
            terms = products(x, i, j, e, here, S)
            weights = logit_weights(w, z, S)
            u, present = envelope(x, e, here)
            offsets, exists = e[:, None] * S.heads + h[None, :], here[:, None] & (h < S.heads)[None, :]
            excess = mul(load(share, offsets, exists), sub(load(pull, offsets, exists), wide(mean, 0)))
            to_logit = mul(excess, wide(u, 1))
            store(push, offsets, to_logit, exists)
            to_sum = scaled(to_logit, cooling(w, S)[None, :])
            to_ends = mul(logit_ends(w, to_sum, terms, x, S), silu_slope(before))
            to_here = add(to_here, total(to_ends, 0))
            to_query = query_gradient(x, to_sum, weights, to_query, i, j, e, here, S)
            answer_more(to.envelope, e, kept(total(excess, 1), present), here)
            to_radial = matmul(to_ends, tl.trans(chemical_matrix(w, S)), S.precision)
            b = tl.arange(0, S.radial_tile)
            inside = here[:, None] & (b < S.radial)[None, :]
            answer_more(to.radial, e[:, None] * S.radial + b[None, :], to_radial, inside)
            direction_gradient(x, to, to_sum, weights, i, e, here, S)
            if WEIGHTS:
                chemical = add(chemical, outer(rbf, to_ends, S.precision))
                temperature = sub(temperature, total(mul(to_logit, logits(w, weights, terms, S)), 0))
                more_matrices, more_biases = (), ()
                for term in tl.static_range(2 * L + 2):
                    to_weight = weight_gradient(to_sum, terms, term)
                    each = mul(wide(to_weight, 2), wide(z, 1))
                    more_matrices += (add(matrices[term], total(each, 0)),)
                    more_biases += (add(biases[term], total(to_weight, 0)),)
                matrices, biases = more_matrices, more_biases
        r = tl.arange(0, S.hidden_tile)
        answer_more(to.here, center * S.hidden + r, to_here, r < S.hidden)
        for m in tl.static_range(M):
            at_row, held = key_offsets(i, m, S)
            answer(to.query, at_row, wide(to_query[m], 0), held)
    if WEIGHTS:
        answer_matrix(to_chemical, program, chemical, S.radial, S.hidden, True)
        block = program.to(tl.int64) * S.heads + h
        answer(to_temperature, block, temperature, h < S.heads)
        r = tl.arange(0, S.hidden_tile)
        for term in tl.static_range(2 * L + 2):
            row = block * (2 * S.l_max + 2) + term
            answer(to_bias, row, biases[term], h < S.heads)
            inside = (h < S.heads)[:, None] & (r < S.hidden)[None, :]
            answer(to_logits, row[:, None] * S.hidden + r[None, :], matrices[term], inside)


@triton.jit
def mean_pull(x, share, pull, first, last, S: tl.constexpr):
    """Σ_e A pull (H,) of one center."""
    h = tl.arange(0, S.head_tile)
    sums = line(S.head_tile, x.near)
    for at in range(first, last, S.tile):
        e = at + tl.arange(0, S.tile)
        here = e < last
        u = envelope(x, e, here)[0]
        offsets, exists = e[:, None] * S.heads + h[None, :], here[:, None] & (h < S.heads)[None, :]
        each = mul(mul(load(share, offsets, exists), wide(u, 1)), load(pull, offsets, exists))
        sums = add(sums, total(each, 0))
    return sums


@triton.jit
def query_gradient(x, to_sum, weights, to_query, i, j, e, here, S: tl.constexpr):
    """Adds a tile to the gradient (H, K) of each row of the query: products with keys, and with directions."""
    L: tl.constexpr = S.l_max
    more = ()
    for degree in tl.static_range(L + 1):
        to_key_product = wide(row_gradient(to_sum, weights, degree, 0, S), 2)
        for m in tl.static_range(degree * degree, (degree + 1) * (degree + 1)):
            found = add(to_query[m], total(mul(to_key_product, keys(x.key, j, m, S)), 0))
            if degree > 0:
                turned = mul(row_gradient(to_sum, weights, degree, 1, S), wide(harmonic(x, e, here, m, S), 1))
                found = add(found, wide(total(turned, 0), 1))
            more += (found,)
    return more


@triton.jit
def direction_gradient(x, to, to_sum, weights, i, e, here, S: tl.constexpr):
    """Adds to the gradient in Y_m (T,), m > 0, through the products with directions."""
    L: tl.constexpr = S.l_max
    for degree in tl.static_range(1, L + 1):
        to_product = row_gradient(to_sum, weights, degree, 1, S)
        for m in tl.static_range(degree * degree, (degree + 1) * (degree + 1)):
            found = total(mul(to_product, total(keys(x.query, i, m, S), 2)), 1)
            answer_more(to.harmonics, e * S.rows + m, found, here)
