"""z, gates and filters of a tile of edges, and the way back. Equations: `message.reference`; letters: `tiles`.

A gate is computed once for its group of channels and spread to them where it meets a feature.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mlanet.ops.gpu.dual import (
    add,
    answer,
    bell,
    exp,
    kept,
    line,
    load,
    matmul,
    mul,
    outer,
    part_sums,
    parted,
    plane,
    repeated,
    scaled,
    shifted,
    sigmoid,
    silu,
    silu_slope,
    sub,
    total,
    wide,
)
from mlanet.ops.message.gpu.tiles import (
    all_gate_columns,
    by_head,
    channel_columns,
    channels,
    constant_channels,
    gate_columns,
    harmonic,
    radial_product,
    row,
    slice_columns,
    weight,
)


@triton.jit
def ends(x, w, i, j, rbf, S: tl.constexpr):
    """A s_i + B s_j + D RBF, slices (T, 16); z is its SiLU."""
    K: tl.constexpr = S.slices
    slices = ()
    for k in tl.static_range(K):
        r, exists = slice_columns(k, S)
        here = load(x.here, row(i, S.hidden, r), exists[None, :])
        near = load(x.near, row(j, S.hidden, r), exists[None, :])
        slices += (add(add(here, near), radial_product(rbf, w.chemical, S.hidden, r, exists, S)),)
    return slices


@triton.jit
def activated(before, S: tl.constexpr):
    """z, slices."""
    K: tl.constexpr = S.slices
    slices = ()
    for k in tl.static_range(K):
        slices += (silu(before[k]),)
    return slices


@triton.jit
def no_slices(ROWS: tl.constexpr, x, S: tl.constexpr):
    """Zeros: slices (ROWS, 16)."""
    K: tl.constexpr = S.slices
    slices = ()
    for _ in tl.static_range(K):
        slices += (plane(ROWS, S.slice_tile, x.near),)
    return slices


@triton.jit
def add_slices(x, y, S: tl.constexpr):
    """x + y of slices."""
    K: tl.constexpr = S.slices
    sums = ()
    for k in tl.static_range(K):
        sums += (add(x[k], y[k]),)
    return sums


@triton.jit
def through_silu(to_z, before, S: tl.constexpr):
    """Gradient in what z is the SiLU of, slices."""
    K: tl.constexpr = S.slices
    slices = ()
    for k in tl.static_range(K):
        slices += (mul(to_z[k], silu_slope(before[k])),)
    return slices


@triton.jit
def chemical_gradient(w, to_ends, S: tl.constexpr):
    """Gradient in RBF (T, B) through D."""
    K: tl.constexpr = S.slices
    to_radial = matmul(to_ends[0], tl.trans(chemical_matrix(w, 0, S)), S.precision)
    for k in tl.static_range(1, K):
        to_radial = add(to_radial, matmul(to_ends[k], tl.trans(chemical_matrix(w, k, S)), S.precision))
    return to_radial


@triton.jit
def chemical_matrix(w, k, S: tl.constexpr):
    """Columns (B, 16) of D."""
    r, exists = slice_columns(k, S)
    return weight(w.chemical, S.radial, S.radial_tile, S.hidden, r, exists)


@triton.jit
def outer_slices(sums, x, y, S: tl.constexpr):
    """Adds Σ_e x_e ⊗ y_e, slices, where y is in slices."""
    K: tl.constexpr = S.slices
    more = ()
    for k in tl.static_range(K):
        more += (add(sums[k], outer(x, y[k], S.precision)),)
    return more


@triton.jit
def answer_slices(pointer, atom, slices, S: tl.constexpr, MORE: tl.constexpr):
    """Sums of tiles in the end of z that an atom has."""
    K: tl.constexpr = S.slices
    for k in tl.static_range(K):
        r, exists = slice_columns(k, S)
        answer(pointer, atom * S.hidden + r, total(slices[k], 0), exists, MORE)


@triton.jit
def first_matrix(w, S: tl.constexpr):
    """First layer of φ and ψ (B, hidden)."""
    c = tl.arange(0, S.mlp_tile)
    return weight(w.first, S.radial, S.radial_tile, S.mlp, c, c < S.mlp)


@triton.jit
def inside(w, rbf, S: tl.constexpr):
    """What the hidden layer of φ and ψ gives before its SiLU (T, hidden); RBF itself where there is none."""
    if S.mlp > 0:
        c = tl.arange(0, S.mlp_tile)
        return radial_product(rbf, w.first, S.mlp, c, c < S.mlp, S)
    else:
        return rbf


@triton.jit
def filter_input(w, rbf, S: tl.constexpr):
    """What enters the last layer of φ and ψ: (T, hidden), or RBF as it came."""
    if S.mlp > 0:
        return silu(inside(w, rbf, S))
    else:
        return rbf


@triton.jit
def filter_matrix(w, part, degree, S: tl.constexpr):
    """Columns (hidden, C) of φ (part 0) or ψ (part 1) of one degree in the last layer."""
    c, exists = channel_columns(S)
    column = (part * (S.l_max + 1) + degree) * S.channels + c
    inputs: tl.constexpr = S.mlp if S.mlp > 0 else S.radial
    return weight(w.last, inputs, S.mlp_tile, S.terms * S.channels, column, exists)


@triton.jit
def filters(w, hidden, part, degree, S: tl.constexpr):
    """φ or ψ (T, C) of one degree, from `filter_input`."""
    if S.mlp > 0:
        return matmul(hidden, filter_matrix(w, part, degree, S), S.precision)
    else:
        c, exists = channel_columns(S)
        column = (part * (S.l_max + 1) + degree) * S.channels + c
        return radial_product(hidden, w.last, S.terms * S.channels, column, exists, S)


@triton.jit
def gate_matrix(w, columns, k, S: tl.constexpr):
    """Rows (gates, 16) of one degree or of all, for slice k of z."""
    r, exists = slice_columns(k, S)
    at = columns[0][:, None] * S.hidden + r[None, :]
    return tl.load(w.gates + at, columns[1][:, None] & exists[None, :], 0.0)


@triton.jit
def no_gates(x, S: tl.constexpr):
    """Zeros (T, gates of all degrees)."""
    return plane(S.tile, S.degree_tile * S.gates_tile, x.near)


@triton.jit
def gate_product(w, z, k, S: tl.constexpr):
    """What slice k of z adds to the gates of all degrees before their sigmoid."""
    return matmul(z[k], tl.trans(gate_matrix(w, all_gate_columns(S), k, S)), S.precision)


@triton.jit
def opened(w, before, S: tl.constexpr):
    """g (T, L+1, gates) from those products."""
    g, exists = all_gate_columns(S)
    bias = tl.load(w.gates_bias + g, exists, 0.0)
    return sigmoid(parted(shifted(before, bias[None, :]), S.degree_tile))


@triton.jit
def gates(w, x, z, S: tl.constexpr):
    """g (T, L+1, gates)."""
    K: tl.constexpr = S.slices
    before = no_gates(x, S)
    for k in tl.static_range(K):
        before = add(before, gate_product(w, z, k, S))
    return opened(w, before, S)


@triton.jit
def gates_of(all_gates, degree, S: tl.constexpr):
    """g (T, gates) of one degree."""
    mask = tl.arange(0, S.degree_tile) == degree
    return total(kept(all_gates, mask[None, :, None]), 1)


@triton.jit
def gate_ends(to_z, to_gate, w, degree, S: tl.constexpr):
    """Adds the gradient in z through the gates of one degree; to_gate (T, gates): before their sigmoid."""
    K: tl.constexpr = S.slices
    slices = ()
    for k in tl.static_range(K):
        rows = gate_matrix(w, gate_columns(degree, S), k, S)
        slices += (add(to_z[k], matmul(to_gate, rows, S.precision)),)
    return slices


@triton.jit
def attention(x, logit, level, i, e, u, present, here, S: tl.constexpr):
    """A / u and A (T, H), from logits (E, H) and the logarithms (N, H) of what normalises them."""
    share = exp(sub(by_head(logit, e, here, S), by_head(level, i, i >= 0, S)))
    share = kept(share, present[:, None])
    return share, mul(share, wide(u, 1))


@triton.jit
def weighing(gate, strength, u, S: tl.constexpr):
    """What weighs ψ and φ (T, gates): a g or a, and a g or g u n̄^{-1/2}.

    - strength a (T, H): attention × factor × envelope
    """
    geometric = repeated(strength, S.group_tile)
    if S.chemical_scale > 0:
        return geometric, mul(gate, wide(scaled(u, S.chemical_scale), 1))
    else:
        both = mul(gate, geometric)
        return both, both


@triton.jit
def weighed(w, all_gates, hidden, strength, u, degree, S: tl.constexpr):
    """φ and ψ of one degree (T, C) times what weighs them."""
    geometric, chemical = weighing(gates_of(all_gates, degree, S), strength, u, S)
    own = mul(filters(w, hidden, 0, degree, S), repeated(chemical, S.gate_tile))
    return own, mul(filters(w, hidden, 1, degree, S), repeated(geometric, S.gate_tile))


@triton.jit
def path_gradient(up, x, w, all_gates, hidden, strength, u, i, j, e, here, degree: tl.constexpr, S: tl.constexpr):
    """Gradients of one degree in a (T, H), in the gates before their sigmoid (T, gates), in φ and ψ (T, C), in u (T,).

    Then φ and ψ times what weighs them, Σ_m up_m Y_m and v_0 (T, C), which the gradients in features and Y need.
    - up (N, M, C): of the messages
    """
    gate = gates_of(all_gates, degree, S)
    geometric, chemical = weighing(gate, strength, u, S)
    down = plane(S.tile, S.channel_tile, x.sent)
    toward = plane(S.tile, S.channel_tile, x.sent)
    for m in tl.static_range(degree * degree, (degree + 1) * (degree + 1)):
        pull = constant_channels(up, i, m, S)
        down = add(down, scaled(channels(x.sent, j, m, S), pull))
        toward = add(toward, scaled(harmonic(x, e, here, m, S), pull))
    scalar = channels(x.sent, j, 0, S)
    lifted = mul(toward, scalar)
    phi, psi = filters(w, hidden, 0, degree, S), filters(w, hidden, 1, degree, S)
    from_own, from_turned = mul(down, phi), mul(lifted, psi)
    to_u = line(S.tile, x.sent)
    if S.chemical_scale > 0:
        to_gate = part_sums(from_own, S.gates_tile)
        to_u = scaled(total(mul(to_gate, gate), 1), S.chemical_scale)
        to_gate = mul(to_gate, wide(scaled(u, S.chemical_scale), 1))
        to_strength = part_sums(from_turned, S.head_tile)
    else:
        to_gate = part_sums(add(from_own, from_turned), S.gates_tile)
        to_strength = part_sums(mul(to_gate, gate), S.head_tile)
        to_gate = mul(to_gate, repeated(strength, S.group_tile))
    geometric, chemical = repeated(geometric, S.gate_tile), repeated(chemical, S.gate_tile)
    to_phi, to_psi = mul(down, chemical), mul(lifted, geometric)
    own, along = mul(phi, chemical), mul(psi, geometric)
    return to_strength, mul(to_gate, bell(gate)), to_phi, to_psi, to_u, own, along, toward, scalar
