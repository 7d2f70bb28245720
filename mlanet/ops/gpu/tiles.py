"""What all kernels do with a tile of T edges: gather, recompute, differentiate. Equations: `mlanet.ops.block`.

Indices: i (T,) or (1,) centers · j (T,) or (1,) senders · e (T,) edges · here (T,) which of the tile exist. Where all
edges of a tile share an atom its index has length one, and what belongs to it is loaded once and broadcast.
Tiles are padded to powers of two; weights and rows read 0 there, so that what is padded adds nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from mlanet.ops.gpu.dual import (
    add,
    bell,
    kept,
    line,
    load,
    matmul,
    mul,
    plane,
    scaled,
    shifted,
    sigmoid,
    silu,
    total,
    wide,
)

Pointers = Any
"""One of values, or two of values and directions, in a tuple; of answers a bare one."""


class Inputs(NamedTuple):
    """As `block.BlockInputs`, by atom and by edge: sent (N, M, C), … harmonics (E, M)."""

    sent: Pointers
    key: Pointers
    near: Pointers
    query: Pointers
    here: Pointers
    factor: Pointers
    envelope: Pointers
    radial: Pointers
    harmonics: Pointers


class Weights(NamedTuple):
    """As `block.BlockWeights`, one pointer each; first (B, hidden) is not read without a hidden layer."""

    chemical: Any
    gates: Any
    gates_bias: Any
    logits: Any
    logits_bias: Any
    log_temperature: Any
    first: Any
    last: Any


@triton.jit
def one(index):
    """An index as a tile of length one."""
    return tl.zeros([1], tl.int64) + index


@triton.jit
def atom_vector(pointers, atom, SIZE: tl.constexpr, TILE: tl.constexpr):
    """Row (·, SIZE) of each atom."""
    r = tl.arange(0, TILE)
    return load(pointers, atom[:, None] * SIZE + r[None, :], (r < SIZE)[None, :])


@triton.jit
def channel_offsets(atom, row, h, S: tl.constexpr):
    """Where the channels of head h in row m of features (N, M, C) are: offsets (·, width), and which exist."""
    c = tl.arange(0, S.width_tile)
    return (atom[:, None] * S.rows + row) * S.channels + h * S.width + c[None, :], (c < S.width)[None, :]


@triton.jit
def key_offsets(atom, row, h, S: tl.constexpr):
    """Where head h in row m of keys or queries (N, M, H, K) is: offsets (·, K), and which exist."""
    k = tl.arange(0, S.key_tile)
    at = (atom[:, None] * S.rows + row) * (S.heads * S.key_dim) + h * S.key_dim + k[None, :]
    return at, (k < S.key_dim)[None, :]


@triton.jit
def channels(pointers, atom, row, h, S: tl.constexpr):
    """Channels of head h in row m, a number (·, width)."""
    at, exists = channel_offsets(atom, row, h, S)
    return load(pointers, at, exists)


@triton.jit
def constant_channels(pointer, atom, row, h, S: tl.constexpr):
    """The same of what has no slope."""
    at, exists = channel_offsets(atom, row, h, S)
    return tl.load(pointer + at, exists, 0.0)


@triton.jit
def keys(pointers, atom, row, h, S: tl.constexpr):
    """Head h in row m of keys or queries, a number (·, K)."""
    at, exists = key_offsets(atom, row, h, S)
    return load(pointers, at, exists)


@triton.jit
def harmonic(x, e, here, row, S: tl.constexpr):
    """Y_m (T,)."""
    return load(x.harmonics, e * S.rows + row, here)


@triton.jit
def envelope(x, e, here):
    """u (T,), and which edges are present; where u is 0 it has no slope either."""
    u = load(x.envelope, e, here)
    present = u[0] > 0
    return kept(u, present), present


@triton.jit
def radial(x, e, here, S: tl.constexpr):
    """RBF (T, B)."""
    b = tl.arange(0, S.radial_tile)
    return load(x.radial, e[:, None] * S.radial + b[None, :], here[:, None] & (b < S.radial)[None, :])


@triton.jit
def matrix(pointer, ROWS: tl.constexpr, COLUMNS: tl.constexpr, ROW_TILE: tl.constexpr, COLUMN_TILE: tl.constexpr):
    """A whole weight (ROWS, COLUMNS)."""
    r, c = tl.arange(0, ROW_TILE)[:, None], tl.arange(0, COLUMN_TILE)[None, :]
    return tl.load(pointer + r * COLUMNS + c, (r < ROWS) & (c < COLUMNS), 0.0)


@triton.jit
def chemical_matrix(w, S: tl.constexpr):
    """D (B, R)."""
    return matrix(w.chemical, S.radial, S.hidden, S.radial_tile, S.hidden_tile)


@triton.jit
def first_matrix(w, S: tl.constexpr):
    """First layer of φ and ψ (B, hidden)."""
    return matrix(w.first, S.radial, S.mlp, S.radial_tile, S.mlp_tile)


@triton.jit
def gate_matrix(w, degree, h, S: tl.constexpr):
    """Columns (R, width) of the gates of one degree and head."""
    r, c = tl.arange(0, S.hidden_tile)[:, None], tl.arange(0, S.width_tile)[None, :]
    column = degree * S.channels + h * S.width + c
    return tl.load(w.gates + column * S.hidden + r, (r < S.hidden) & (c < S.width), 0.0)


@triton.jit
def filter_offsets(part, degree, h, S: tl.constexpr):
    """Where the columns of φ (part 0) or ψ (part 1) of one degree and head are in the last layer."""
    r, c = tl.arange(0, S.mlp_tile)[:, None], tl.arange(0, S.width_tile)[None, :]
    column = (part * (S.l_max + 1) + degree) * S.channels + h * S.width + c
    inputs: tl.constexpr = S.mlp if S.mlp > 0 else S.radial
    return r * (2 * (S.l_max + 1) * S.channels) + column, (r < inputs) & (c < S.width)


@triton.jit
def filter_matrix(w, part, degree, h, S: tl.constexpr):
    """Those columns (hidden, width)."""
    at, exists = filter_offsets(part, degree, h, S)
    return tl.load(w.last + at, exists, 0.0)


@triton.jit
def ends(x, w, i, j, rbf, S: tl.constexpr):
    """A s_i + B s_j + D RBF (T, R); z is its SiLU."""
    here = atom_vector(x.here, i, S.hidden, S.hidden_tile)
    near = atom_vector(x.near, j, S.hidden, S.hidden_tile)
    return add(add(here, near), matmul(rbf, chemical_matrix(w, S), S.precision))


@triton.jit
def filter_input(w, rbf, S: tl.constexpr):
    """What enters the last layer of φ and ψ (T, hidden), and the same before its SiLU."""
    if S.mlp > 0:
        before = matmul(rbf, first_matrix(w, S), S.precision)
        return silu(before), before
    else:
        return rbf, rbf


@triton.jit
def paths(w, z, hidden, strength, u, degree, h, S: tl.constexpr):
    """Gates g, filters φ and ψ (T, width), and what weighs them: a g or a for ψ, a g or g u n̄^{-1/2} for φ.

    - strength a (T,): attention × factor × envelope of head h
    """
    c = tl.arange(0, S.width_tile)
    bias = tl.load(w.gates_bias + degree * S.channels + h * S.width + c, c < S.width, 0.0)
    gate = sigmoid(shifted(matmul(z, gate_matrix(w, degree, h, S), S.precision), bias[None, :]))
    phi = matmul(hidden, filter_matrix(w, 0, degree, h, S), S.precision)
    psi = matmul(hidden, filter_matrix(w, 1, degree, h, S), S.precision)
    geometric = wide(strength, 1)
    if S.chemical_scale > 0:
        chemical = mul(gate, wide(scaled(u, S.chemical_scale), 1))
        return gate, phi, psi, geometric, chemical
    else:
        both = mul(gate, geometric)
        return gate, phi, psi, both, both


@triton.jit
def path_gradient(up, x, mixed, strength, u, i, j, e, here, degree: tl.constexpr, h, S: tl.constexpr):
    """Gradients (T, width) in a, in the gates before their sigmoid, in φ and ψ, and Σ_m up_m Y_m; (T,) in u.

    - up (N, M, C): of the messages · mixed: what `paths` gave
    """
    gate, phi, psi, geometric, chemical = mixed
    down = plane(S.tile, S.width_tile, x.sent)
    toward = plane(S.tile, S.width_tile, x.sent)
    for m in tl.static_range(degree * degree, (degree + 1) * (degree + 1)):
        pull = constant_channels(up, i, m, h, S)
        down = add(down, scaled(channels(x.sent, j, m, h, S), pull))
        toward = add(toward, scaled(wide(harmonic(x, e, here, m, S), 1), pull))
    to_chemical = mul(down, phi)
    lifted = mul(toward, channels(x.sent, j, 0, h, S))
    to_geometric = mul(lifted, psi)
    to_phi, to_psi = mul(down, chemical), mul(lifted, geometric)
    if S.chemical_scale > 0:
        to_gate = mul(to_chemical, wide(scaled(u, S.chemical_scale), 1))
        to_envelope = scaled(total(mul(to_chemical, gate), 1), S.chemical_scale)
        return to_geometric, mul(to_gate, bell(gate)), to_phi, to_psi, toward, to_envelope
    else:
        both = add(to_chemical, to_geometric)
        to_gate = mul(mul(both, wide(strength, 1)), bell(gate))
        return mul(both, gate), to_gate, to_phi, to_psi, toward, line(S.tile, x.sent)


@triton.jit
def strengths(x, share, factor, u, e, here, h, S: tl.constexpr):
    """a = A f u (T,) and A = share · u, the attention; share: what `attend` kept."""
    attention = mul(load(share, e * S.heads + h, here), u)
    return mul(mul(attention, factor), u), attention


@triton.jit
def logit_weight(w, z, term: tl.constexpr, h, S: tl.constexpr):
    """One weight (T,) of the logits of head h: first the bias, then one for each product."""
    row = h * (2 * S.l_max + 2) + term
    vector = logit_vector(w, term, h, S)
    return shifted(total(scaled(z, vector[None, :]), 1), tl.load(w.logits_bias + row))


@triton.jit
def logit_vector(w, term: tl.constexpr, h, S: tl.constexpr):
    """What z is multiplied with for it (R,)."""
    r = tl.arange(0, S.hidden_tile)
    return tl.load(w.logits + (h * (2 * S.l_max + 2) + term) * S.hidden + r, r < S.hidden, 0.0)


@triton.jit
def logit_weights(w, z, h, S: tl.constexpr):
    """All 2L+2 of them."""
    L: tl.constexpr = S.l_max
    found = ()
    for term in tl.static_range(2 * L + 2):
        found += (logit_weight(w, z, term, h, S),)
    return found


@triton.jit
def cooling(w, h):
    """1 / temperature of head h."""
    return tl.exp(-tl.load(w.log_temperature + h))


@triton.jit
def key_product(x, i, j, degree: tl.constexpr, h, S: tl.constexpr):
    """<k_j, q_i> of one degree (T,), scaled."""
    sums = plane(S.tile, S.key_tile, x.key)
    for m in tl.static_range(degree * degree, (degree + 1) * (degree + 1)):
        sums = add(sums, mul(keys(x.key, j, m, h, S), keys(x.query, i, m, h, S)))
    return scaled(total(sums, 1), (S.key_dim * (2 * degree + 1) * (S.l_max + 1)) ** -0.5)


@triton.jit
def direction_product(x, i, e, here, degree: tl.constexpr, h, S: tl.constexpr):
    """<Y_ij, Σ_k q_i> of one degree (T,), scaled."""
    sums = line(S.tile, x.key)
    for m in tl.static_range(degree * degree, (degree + 1) * (degree + 1)):
        sums = add(sums, mul(harmonic(x, e, here, m, S), total(keys(x.query, i, m, h, S), 1)))
    return scaled(sums, (S.key_dim * (2 * degree + 1) * (S.l_max + 1)) ** -0.5)


@triton.jit
def products(x, i, j, e, here, h, S: tl.constexpr):
    """All L+1 products with keys, then the L with directions: what the logits' weights multiply."""
    L: tl.constexpr = S.l_max
    found = ()
    for degree in tl.static_range(L + 1):
        found += (key_product(x, i, j, degree, h, S),)
    for degree in tl.static_range(1, L + 1):
        found += (direction_product(x, i, e, here, degree, h, S),)
    return found


@triton.jit
def logits(w, weights, terms, h, S: tl.constexpr):
    """(w_0 + Σ_n w_n · product_n) / temperature (T,)."""
    L: tl.constexpr = S.l_max
    sums = weights[0]
    for n in tl.static_range(2 * L + 1):
        sums = add(sums, mul(weights[n + 1], terms[n]))
    return scaled(sums, cooling(w, h))


@triton.jit
def weight_gradient(to_sum, terms, term: tl.constexpr):
    """In the weight of one term (T,); to_sum: in Σ_n w_n · product_n."""
    if term == 0:
        return to_sum
    else:
        return mul(to_sum, terms[term - 1])


@triton.jit
def logit_ends(x, w, to_sum, terms, h, S: tl.constexpr):
    """Gradient in z (T, R) through the weights of the logits."""
    L: tl.constexpr = S.l_max
    to_z = plane(S.tile, S.hidden_tile, x.near)
    for term in tl.static_range(2 * L + 2):
        to_weight = wide(weight_gradient(to_sum, terms, term), 1)
        to_z = add(to_z, scaled(to_weight, logit_vector(w, term, h, S)[None, :]))
    return to_z


@triton.jit
def row_gradient(to_sum, weights, degree: tl.constexpr, DIRECTION: tl.constexpr, S: tl.constexpr):
    """In <k_j, q_i> or <Y_ij, Σ q_i> of one degree (T,)."""
    factor: tl.constexpr = (S.key_dim * (2 * degree + 1) * (S.l_max + 1)) ** -0.5
    return scaled(mul(to_sum, weights[degree + 1 + DIRECTION * S.l_max]), factor)
