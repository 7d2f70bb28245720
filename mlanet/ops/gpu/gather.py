"""What the kernels of first directions and pooled neighbours do with a tile of T edges, whatever they sum.

Indices: e (T,) edges · exists (T,) which of the tile exist · present (T,) which of those weigh something · row (T,) or
(1,) rows of a matrix with channels. A row that all edges of a tile share has an index of length one: it is loaded once
and broadcast. What is not present reads 0 everywhere, so that it adds nothing, whatever it holds.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mlanet.ops.gpu.dual import kept, load


@triton.jit
def one(index):
    """An index as a tile of length one."""
    return tl.zeros([1], tl.int64) + index


@triton.jit
def repeated(index, TILE: tl.constexpr):
    """An index for each edge of a tile."""
    return tl.zeros([TILE], tl.int64) + index


@triton.jit
def envelope(x, e, exists):
    """u (T,), and which edges are present; where u is 0 it has no slope either."""
    u = load(x.envelope, e, exists)
    present = u[0] > 0
    return kept(u, present), present


@triton.jit
def row_offsets(row, present, S: tl.constexpr):
    """Where rows of C channels are: offsets (·, C), and what is read."""
    c = tl.arange(0, S.width)
    return row[:, None] * S.channels + c[None, :], present[:, None] & (c < S.channels)[None, :]


@triton.jit
def rows(pointers, row, present, S: tl.constexpr):
    """Rows of a matrix, a number (·, C)."""
    at, read = row_offsets(row, present, S)
    return load(pointers, at, read)


@triton.jit
def constant_rows(pointer, row, present, S: tl.constexpr):
    """The same of what has no slope."""
    at, read = row_offsets(row, present, S)
    return tl.load(pointer + at, read, 0.0)
