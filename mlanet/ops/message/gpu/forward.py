"""The kernel of attention and message, one program per center."""

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
    log,
    mul,
    plane,
    repeated,
    repeated_tile,
    scaled,
    shifted,
    store,
    total,
    wide,
)
from mlanet.ops.gpu.gather import envelope, one
from mlanet.ops.message.gpu.logits import biased, logit_product, logits, no_terms, products
from mlanet.ops.message.gpu.networks import activated, ends, filter_input, gate_product, no_gates, opened, weighed
from mlanet.ops.message.gpu.tiles import (
    basis,
    channel_offsets,
    channels,
    harmonic,
    head_offsets,
    unhoisted,
    veil,
)


@triton.jit
def attend(x, w, neighbor, start, logit, level, out, S: tl.constexpr, KEEP: tl.constexpr, MIX: tl.constexpr):
    """One sweep over the edges of center pid(0), with a running maximum, as FlashAttention does it.

    - KEEP: logits (E, H), and level (N, H), the logarithm of 1 + Σ u exp(logit); A = u exp(logit - level)
    - MIX: message (N, M, C) in `out`
    """
    M: tl.constexpr = S.rows
    center = tl.program_id(0).to(tl.int64)
    first, last = tl.load(start + center), tl.load(start + center + 1)
    norm = shifted(plane(1, S.head_tile, x.envelope), 1.0)  # the null key, of logit 0
    peak = plane(1, S.head_tile, x.envelope)[0]
    turned, own = no_rows(x, S), no_rows(x, S)
    for at in range(first, last, S.tile):
        e = one(at) + tl.arange(0, S.tile)
        here = e < last
        i, j = one(center + veil(at)), tl.load(neighbor + e, here, 0)
        rows = unhoisted(w, veil(at))
        rbf = basis(x, e, here, S)
        weights, all_gates = z_products(x, w, activated(ends(x, rows, i, j, rbf, S), S), S, MIX)
        u, present = envelope(x, e, here)
        values = kept(logits(w, weights, products(x, i, j, e, here, S), S), present[:, None])
        if KEEP:
            offsets, exists = head_offsets(e, here, S)
            store(logit, offsets, values, exists)
        top = tl.maximum(peak, tl.max(values[0], 0)[None, :])
        fade = tl.exp(peak - top)
        strength = mul(exp(shifted(values, -top)), wide(u, 1))
        norm = add(scaled(norm, fade), wide(total(strength, 0), 0))
        peak = top
        if MIX:
            spread = repeated_tile(fade, S.width_tile)
            hidden, weight = filter_input(rows, rbf, S), mul(strength, wide(u, 1))
            turned, own = mixed(x, rows, all_gates, hidden, weight, u, j, e, here, spread, turned, own, S)
    i = one(center)
    if KEEP:
        offsets, exists = head_offsets(i, i >= 0, S)
        store(level, offsets, shifted(log(norm), peak), exists)
    if MIX:
        scale = repeated(mul(inverse(norm), wide(load(x.factor, i, i >= 0), 1)), S.width_tile)
        for m in tl.static_range(M):
            offsets, exists = channel_offsets(i, m, S)
            message = mul(wide(total(turned[m], 0), 0), scale)
            if S.chemical_scale > 0:
                message = add(message, wide(total(own[m], 0), 0))
            answer(out, offsets, message, exists, False)


@triton.jit
def z_products(x, w, z, S: tl.constexpr, MIX: tl.constexpr):
    """Weights of the logits, and gates; slice by slice, so that none waits in registers for its second use."""
    K: tl.constexpr = S.slices
    weights, before = no_terms(x, S), no_gates(x, S)
    for k in tl.static_range(K):
        weights = add(weights, logit_product(w, z, k, S))
        if MIX:
            before = add(before, gate_product(w, z, k, S))
    return biased(w, weights, S), opened(w, before, S)


@triton.jit
def no_rows(x, S: tl.constexpr):
    """Zeros: M tiles (T, C)."""
    M: tl.constexpr = S.rows
    planes = ()
    for _ in tl.static_range(M):
        planes += (plane(S.tile, S.channel_tile, x.sent),)
    return planes


@triton.jit
def mixed(x, w, all_gates, hidden, strength, u, j, e, here, fade, turned, own, S: tl.constexpr):
    """Adds a tile to the sums (T, C) of each row: those that attention weighs, which fade, and those it does not."""
    D: tl.constexpr = S.l_max + 1
    more, others = (), ()
    scalar = channels(x.sent, j, 0, S)
    for degree in tl.static_range(D):
        chemical, geometric = weighed(w, all_gates, hidden, strength, u, degree, S)
        along = mul(geometric, scalar)
        for m in tl.static_range(degree * degree, (degree + 1) * (degree + 1)):
            each = mul(along, harmonic(x, e, here, m, S))
            kept_row = mul(chemical, channels(x.sent, j, m, S))
            if S.chemical_scale > 0:
                others += (add(own[m], kept_row),)
            else:
                each = add(each, kept_row)
                others += (own[m],)
            more += (add(scaled(turned[m], fade), each),)
    return more, others
