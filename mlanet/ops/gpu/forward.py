"""Kernels of the attention and of the message, one program per center (and head)."""

from __future__ import annotations

import triton
import triton.language as tl

from mlanet.ops.gpu.dual import (
    add,
    answer,
    exp,
    inverse,
    kept,
    load,
    mul,
    scaled,
    shifted,
    silu,
    store,
    total,
    wide,
    line,
    plane,
)
from mlanet.ops.gpu.tiles import (
    channel_offsets,
    channels,
    ends,
    envelope,
    filter_input,
    harmonic,
    logit_weights,
    logits,
    one,
    paths,
    products,
    radial,
    strengths,
)


@triton.jit
def attend(x, w, neighbor, start, share, S: tl.constexpr):
    """share (E, H) = exp(logit) / (1 + Σ u exp(logit)), so that attention is share · u; all heads of center pid(0).

    Two passes: logits with a running maximum and sum, kept in `share`; then the quotient in their place.
    """
    center = tl.program_id(0).to(tl.int64)
    first, last = tl.load(start + center), tl.load(start + center + 1)
    i, h = one(center), tl.arange(0, S.head_tile)
    peak = line(S.head_tile, share)[0]
    norm = shifted(line(S.head_tile, share), 1.0)  # the null key, of logit 0
    for at in range(first, last, S.tile):
        e = at + tl.arange(0, S.tile)
        here = e < last
        j = tl.load(neighbor + e, here, 0)
        z = silu(ends(x, w, i, j, radial(x, e, here, S), S))
        logit = logits(w, logit_weights(w, z, S), products(x, i, j, e, here, S), S)
        u, present = envelope(x, e, here)
        logit = kept(logit, present[:, None])
        top = tl.maximum(peak, tl.max(logit[0], 0))
        sums = total(mul(wide(u, 1), exp(shifted(logit, -top[None, :]))), 0)
        norm = add(scaled(norm, tl.exp(peak - top)), sums)
        peak = top
        store(share, e[:, None] * S.heads + h[None, :], logit, here[:, None] & (h < S.heads)[None, :])
    tl.debug_barrier()  # other threads wrote what is read now
    quotient = wide(inverse(norm), 0)
    for at in range(first, last, S.tile):
        e = at + tl.arange(0, S.tile)
        here = e < last
        offsets, exists = e[:, None] * S.heads + h[None, :], here[:, None] & (h < S.heads)[None, :]
        present = envelope(x, e, here)[1]
        found = mul(exp(shifted(load(share, offsets, exists), -peak[None, :])), quotient)
        store(share, offsets, kept(found, present[:, None]), exists)


@triton.jit
def mix(x, w, neighbor, start, share, out, S: tl.constexpr):
    """Message (N, M, C) of center pid(0) in the channels of head pid(1)."""
    center, h = tl.program_id(0).to(tl.int64), tl.program_id(1)
    first, last = tl.load(start + center), tl.load(start + center + 1)
    i = one(center)
    factor = load(x.factor, i, i >= 0)
    M: tl.constexpr = S.rows
    L: tl.constexpr = S.l_max
    sums = ()
    for m in tl.static_range(M):
        sums += (plane(S.tile, S.width_tile, x.sent),)
    for at in range(first, last, S.tile):
        e = at + tl.arange(0, S.tile)
        here = e < last
        j = tl.load(neighbor + e, here, 0)
        rbf = radial(x, e, here, S)
        z = silu(ends(x, w, i, j, rbf, S))
        hidden = filter_input(w, rbf, S)[0]
        u = envelope(x, e, here)[0]
        strength = strengths(x, share, factor, u, e, here, h, S)[0]
        scalar = channels(x.sent, j, 0, h, S)
        more = ()
        for degree in tl.static_range(L + 1):
            gate, phi, psi, geometric, chemical = paths(w, z, hidden, strength, u, degree, h, S)
            own, along = mul(phi, chemical), mul(mul(psi, geometric), scalar)
            for m in tl.static_range(degree * degree, (degree + 1) * (degree + 1)):
                kept_row = mul(own, channels(x.sent, j, m, h, S))
                more += (add(sums[m], add(kept_row, mul(along, wide(harmonic(x, e, here, m, S), 1)))),)
        sums = more
    for m in tl.static_range(M):
        at, exists = channel_offsets(i, m, h, S)
        answer(out, at, wide(total(sums[m], 0), 0), exists)
