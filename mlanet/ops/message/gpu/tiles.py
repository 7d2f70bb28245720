"""What all kernels load of a tile of T edges, for all heads and channels at once.

Indices: i (T,) or (1,) centers · j (T,) or (1,) senders · e (T,) edges · here (T,) which of the tile exist; all are
int64, because edges times channels pass 2³¹. Where all edges of a tile share an atom its index has length one, and
what belongs to it is loaded once and broadcast. Tiles are padded to powers of two (`sizes`); weights and rows read 0
there, so that what is padded adds nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from mlanet.ops.gpu.dual import add, answer, load, matmul, scaled, wide

Pointers = Any
"""One of values, or two of values and directions, in a tuple; of answers a bare one."""


class Inputs(NamedTuple):
    """As `reference.MessageInputs`, by atom and by edge: sent (N, M, C), … harmonics (E, M)."""

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
    """As `reference.MessageWeights`, one pointer each; first (B, hidden) is not read without a hidden layer."""

    chemical: Any
    gates: Any
    gates_bias: Any
    logits: Any
    logits_bias: Any
    log_temperature: Any
    first: Any
    last: Any


@triton.jit
def veil(at):
    """0, a number that depends on the place in the list, which keeps what it is added to inside the loop."""
    return at >> 62


@triton.jit
def unhoisted(w, nothing):
    """Weights whose rows are used one by one: read again for each tile, they would fill the registers all the while.

    Those of matrix products may wait: they wait in shared memory.
    """
    return Weights(
        w.chemical + nothing,
        w.gates,
        w.gates_bias,
        w.logits,
        w.logits_bias,
        w.log_temperature,
        w.first + nothing,
        w.last + nothing,
    )


@triton.jit
def channel_columns(S: tl.constexpr):
    """Which channel each column of a tile is, and which columns are channels."""
    p = tl.arange(0, S.channel_tile)
    if S.channel_tile == S.channels:
        return p, p < S.channels
    else:
        head, group = p // S.width_tile, p // S.gate_tile % S.group_tile
        inside = p % S.gate_tile
        exists = (head < S.heads) & (group < S.groups) & (inside < S.gate_channels)
        return head * S.width + group * S.gate_channels + inside, exists


@triton.jit
def gate_columns(degree, S: tl.constexpr):
    """Which gate each column of one degree is, and which are."""
    p = tl.arange(0, S.gates_tile)
    head, group = p // S.group_tile, p % S.group_tile
    return (degree * S.heads + head) * S.groups + group, (head < S.heads) & (group < S.groups)


@triton.jit
def all_gate_columns(S: tl.constexpr):
    """The same of all degrees, one after the other."""
    p = tl.arange(0, S.degree_tile * S.gates_tile)
    degree, head, group = p // S.gates_tile, p // S.group_tile % S.head_tile, p % S.group_tile
    exists = (degree <= S.l_max) & (head < S.heads) & (group < S.groups)
    return (degree * S.heads + head) * S.groups + group, exists


@triton.jit
def key_columns(S: tl.constexpr):
    """Which component of keys and queries each column is, and which are."""
    p = tl.arange(0, S.keys_tile)
    if S.keys_tile == S.heads * S.key_dim:
        return p, p < S.keys_tile
    else:
        head, inside = p // S.key_tile, p % S.key_tile
        return head * S.key_dim + inside, (head < S.heads) & (inside < S.key_dim)


@triton.jit
def term_columns(S: tl.constexpr):
    """Which weight of the logits each column is, and which are."""
    p = tl.arange(0, S.terms_tile)
    head, inside = p // S.term_tile, p % S.term_tile
    return head * S.terms + inside, (head < S.heads) & (inside < S.terms)


@triton.jit
def head_columns(S: tl.constexpr):
    """Heads, and which exist."""
    p = tl.arange(0, S.head_tile)
    return p, p < S.heads


@triton.jit
def slice_columns(k, S: tl.constexpr):
    """Components of slice k of z, and which exist."""
    p = k * S.slice_tile + tl.arange(0, S.slice_tile)
    return p, p < S.hidden


@triton.jit
def row(index, SIZE: tl.constexpr, columns):
    """Where the columns of rows of so many numbers are: (·, columns)."""
    tl.static_assert(index.dtype == tl.int64, "atoms and edges times channels pass 32 bits")
    return index[:, None] * SIZE + columns[None, :]


@triton.jit
def channel_offsets(atom, m, S: tl.constexpr):
    """Where row m of features (N, M, C) is: offsets (·, C), and which exist."""
    c, exists = channel_columns(S)
    return row(atom * S.rows + m, S.channels, c), exists[None, :]


@triton.jit
def key_offsets(atom, m, S: tl.constexpr):
    """Where row m of keys or queries (N, M, H K) is: offsets (·, H K), and which exist."""
    k, exists = key_columns(S)
    return row(atom * S.rows + m, S.heads * S.key_dim, k), exists[None, :]


@triton.jit
def head_offsets(index, here, S: tl.constexpr):
    """Where numbers (E, H) or (N, H) by head are, and which exist."""
    h, exists = head_columns(S)
    return row(index, S.heads, h), here[:, None] & exists[None, :]


@triton.jit
def channels(pointers, atom, m, S: tl.constexpr):
    """Row m of features, a number (·, C)."""
    at, exists = channel_offsets(atom, m, S)
    return load(pointers, at, exists)


@triton.jit
def constant_channels(pointer, atom, m, S: tl.constexpr):
    """The same of what has no slope."""
    at, exists = channel_offsets(atom, m, S)
    return tl.load(pointer + at, exists, 0.0)


@triton.jit
def keys(pointers, atom, m, S: tl.constexpr):
    """Row m of keys or queries, a number (·, H K)."""
    at, exists = key_offsets(atom, m, S)
    return load(pointers, at, exists)


@triton.jit
def by_head(pointers, index, here, S: tl.constexpr):
    """A number (·, H)."""
    at, exists = head_offsets(index, here, S)
    return load(pointers, at, exists)


@triton.jit
def harmonic(x, e, here, m, S: tl.constexpr):
    """Y_m (T, 1)."""
    return wide(load(x.harmonics, e * S.rows + m, here), 1)


@triton.jit
def radial_offsets(e, here, S: tl.constexpr):
    """Where RBF (E, B) of a tile is, and what exists."""
    b = tl.arange(0, S.radial_tile)
    return row(e, S.radial, b), here[:, None] & (b < S.radial)[None, :]


@triton.jit
def radial(x, e, here, S: tl.constexpr):
    """RBF (T, B)."""
    at, exists = radial_offsets(e, here, S)
    return load(x.radial, at, exists)


@triton.jit
def basis(x, e, here, S: tl.constexpr):
    """RBF as `radial_product` wants it: B numbers (T, 1) if they are few, or (T, B)."""
    B: tl.constexpr = S.radial
    if S.few:
        values = ()
        for b in tl.static_range(B):
            values += (wide(load(x.radial, e * S.radial + b, here), 1),)
        return values
    else:
        return radial(x, e, here, S)


@triton.jit
def radial_product(rbf, pointer, STRIDE: tl.constexpr, columns, exists, S: tl.constexpr):
    """RBF times columns of a constant weight (B, STRIDE): (T, columns)."""
    B: tl.constexpr = S.radial
    if S.few:
        sums = scaled(rbf[0], tl.load(pointer + columns, exists, 0.0)[None, :])
        for b in tl.static_range(1, B):
            sums = add(sums, scaled(rbf[b], tl.load(pointer + b * STRIDE + columns, exists, 0.0)[None, :]))
        return sums
    else:
        return matmul(rbf, weight(pointer, S.radial, S.radial_tile, STRIDE, columns, exists), S.precision)


@triton.jit
def weight(pointer, ROWS: tl.constexpr, ROW_TILE: tl.constexpr, STRIDE: tl.constexpr, columns, exists):
    """Columns of a whole weight (ROWS, STRIDE)."""
    r = tl.arange(0, ROW_TILE)
    return tl.load(pointer + r[:, None] * STRIDE + columns[None, :], (r < ROWS)[:, None] & exists[None, :], 0.0)


@triton.jit
def answer_radial(to, e, here, to_basis, S: tl.constexpr, MORE: tl.constexpr):
    """Gradient in RBF of a tile."""
    at, exists = radial_offsets(e, here, S)
    answer(to.radial, at, to_basis, exists, MORE)


@triton.jit
def answer_matrix(pointer, block, tile, rows, columns, ROWS: tl.constexpr, STRIDE: tl.constexpr, MORE: tl.constexpr):
    """Part of number `block` of a stack of matrices (ROWS, STRIDE).

    - rows, columns: which they are, and which exist
    """
    at = (block.to(tl.int64) * ROWS + rows[0][:, None]) * STRIDE + columns[0][None, :]
    answer(pointer, at, tile, rows[1][:, None] & columns[1][None, :], MORE)


@triton.jit
def answer_transposed(
    pointer, block, tile, columns, rows, ROWS: tl.constexpr, STRIDE: tl.constexpr, MORE: tl.constexpr
):
    """The same of a tile of (columns, rows)."""
    at = (block.to(tl.int64) * ROWS + rows[0][None, :]) * STRIDE + columns[0][:, None]
    answer(pointer, at, tile, columns[1][:, None] & rows[1][None, :], MORE)


@triton.jit
def radial_columns(S: tl.constexpr):
    """Radial functions, and which exist."""
    b = tl.arange(0, S.radial_tile)
    return b, b < S.radial


@triton.jit
def mlp_columns(S: tl.constexpr):
    """What enters the last layer of φ and ψ, and what exists of it."""
    inputs: tl.constexpr = S.mlp if S.mlp > 0 else S.radial
    c = tl.arange(0, S.mlp_tile)
    return c, c < inputs
