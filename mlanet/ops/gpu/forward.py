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
    line,
    load,
    mul,
    plane,
    scaled,
    shifted,
    silu,
    store,
    total,
    wide,
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
    """share (E, H) = exp(logit) / (1 + Σ u exp(logit)) of center pid(0), head pid(1): attention is share · u.

    Two passes: logits with a running maximum and sum, kept in `share`; then the quotient in their place.
    """
    center, h = tl.program_id(0).to(tl.int64), tl.program_id(1)
    first, last = tl.load(start + center), tl.load(start + center + 1)
    i = one(center)
    peak = line(1, share)[0]
    norm = shifted(line(1, share), 1.0)  # the null key, of logit 0
    for at in range(first, last, S.tile):
        e = at + tl.arange(0, S.tile)
        here = e < last
        j = tl.load(neighbor + e, here, 0)
        z = silu(ends(x, w, i, j, radial(x, e, here, S), S))
        logit = logits(w, logit_weights(w, z, h, S), products(x, i, j, e, here, h, S), h, S)
        u, present = envelope(x, e, here)
        logit = kept(logit, present)
        top = tl.maximum(peak, tl.max(logit[0], 0))
        sums = total(wide(mul(u, exp(shifted(logit, -top))), 1), 0)
        norm = add(scaled(norm, tl.exp(peak - top)), sums)
        peak = top
        store(share, e * S.heads + h, logit, here)
    tl.debug_barrier()  # other threads wrote what is read now
    quotient = inverse(norm)
    for at in range(first, last, S.tile):
        e = at + tl.arange(0, S.tile)
        here = e < last
        present = envelope(x, e, here)[1]
        found = mul(exp(shifted(load(share, e * S.heads + h, here), -peak)), quotient)
        store(share, e * S.heads + h, kept(found, present), here)


@triton.jit
def mix(x, w, neighbor, start, share, out, S: tl.constexpr, DEGREE: tl.constexpr):
    """Message (N, M, C) of center pid(0) in the channels of head pid(1), rows of one degree."""
    center, h = tl.program_id(0).to(tl.int64), tl.program_id(1)
    first, last = tl.load(start + center), tl.load(start + center + 1)
    i = one(center)
    factor = load(x.factor, i, i >= 0)
    sums = ()
    for _ in tl.static_range(DEGREE * DEGREE, (DEGREE + 1) * (DEGREE + 1)):
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
        _gate, phi, psi, geometric, chemical = paths(w, z, hidden, strength, u, DEGREE, h, S)
        own, along = mul(phi, chemical), mul(mul(psi, geometric), channels(x.sent, j, 0, h, S))
        more = ()
        for m in tl.static_range(DEGREE * DEGREE, (DEGREE + 1) * (DEGREE + 1)):
            kept_row = mul(own, channels(x.sent, j, m, h, S))
            turned = mul(along, wide(harmonic(x, e, here, m, S), 1))
            more += (add(sums[m - DEGREE * DEGREE], add(kept_row, turned)),)
        sums = more
    for m in tl.static_range(DEGREE * DEGREE, (DEGREE + 1) * (DEGREE + 1)):
        at_row, exists = channel_offsets(i, m, h, S)
        answer(out, at_row, wide(total(sums[m - DEGREE * DEGREE], 0), 0), exists, False)
