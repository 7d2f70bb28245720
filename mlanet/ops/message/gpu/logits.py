"""Logits of a tile of edges, all heads at once, and the way back (letters: `tiles`).

A logit is Σ_n w_n p_n over 2L+2 terms: weights w (T, H, 2L+2) that are linear in z, products p (T, H, 2L+2), the first
of which is 1, then <k_j, q_i> by degree, then <Y_ij, Σ_k q_i> by degree above 0.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mlanet.ops.gpu.dual import (
    add,
    flat,
    kept,
    matmul,
    mul,
    part_sums,
    parted,
    plane,
    repeated,
    scaled,
    shifted,
    total,
    wide,
)
from mlanet.ops.message.gpu.tiles import harmonic, head_columns, keys, slice_columns, term_columns


@triton.jit
def logit_matrix(w, k, S: tl.constexpr):
    """What slice k of z is multiplied with for the weights (H (2L+2), 16)."""
    n, exists = term_columns(S)
    r, wanted = slice_columns(k, S)
    return tl.load(w.logits + n[:, None] * S.hidden + r[None, :], exists[:, None] & wanted[None, :], 0.0)


@triton.jit
def no_terms(x, S: tl.constexpr):
    """Zeros (T, H (2L+2))."""
    return plane(S.tile, S.terms_tile, x.near)


@triton.jit
def logit_product(w, z, k, S: tl.constexpr):
    """What slice k of z adds to the weights (T, H (2L+2))."""
    return matmul(z[k], tl.trans(logit_matrix(w, k, S)), S.precision)


@triton.jit
def biased(w, weights, S: tl.constexpr):
    """w (T, H, 2L+2) from those products."""
    n, exists = term_columns(S)
    bias = tl.load(w.logits_bias + n, exists, 0.0)
    return parted(shifted(weights, bias[None, :]), S.head_tile)


@triton.jit
def logit_weights(w, x, z, S: tl.constexpr):
    """w (T, H, 2L+2)."""
    K: tl.constexpr = S.slices
    weights = no_terms(x, S)
    for k in tl.static_range(K):
        weights = add(weights, logit_product(w, z, k, S))
    return biased(w, weights, S)


@triton.jit
def logit_ends(w, to_weights, S: tl.constexpr):
    """Gradient in z, slices, from that in the weights (T, H (2L+2))."""
    K: tl.constexpr = S.slices
    slices = ()
    for k in tl.static_range(K):
        slices += (matmul(to_weights, logit_matrix(w, k, S), S.precision),)
    return slices


@triton.jit
def term(n, S: tl.constexpr):
    """Which of (1, 1, 2L+2) is term n."""
    return (tl.arange(0, S.term_tile) == n)[None, None, :]


@triton.jit
def picked(x, n, S: tl.constexpr):
    """Term n (T, H) of (T, H, 2L+2)."""
    return total(kept(x, term(n, S)), 2)


@triton.jit
def normalised(x, degree: tl.constexpr, S: tl.constexpr):
    """x / √(K (2l+1) (L+1)): products of one degree, or their gradients."""
    return scaled(x, (S.key_dim * (2 * degree + 1) * (S.l_max + 1)) ** -0.5)


@triton.jit
def products(x, i, j, e, here, S: tl.constexpr):
    """p (T, H, 2L+2)."""
    D: tl.constexpr = S.l_max + 1
    nothing = plane(S.tile, S.head_tile, x.key)
    terms = kept(wide(shifted(nothing, 1.0), 2), term(0, S))
    for degree in tl.static_range(D):
        along_keys = plane(S.tile, S.keys_tile, x.key)
        along_directions = plane(S.tile, S.keys_tile, x.key)
        for m in tl.static_range(degree * degree, (degree + 1) * (degree + 1)):
            query = keys(x.query, i, m, S)
            along_keys = add(along_keys, mul(keys(x.key, j, m, S), query))
            if degree > 0:
                along_directions = add(along_directions, mul(harmonic(x, e, here, m, S), query))
        product = normalised(part_sums(along_keys, S.head_tile), degree, S)
        terms = add(terms, kept(wide(product, 2), term(degree + 1, S)))
        if degree > 0:
            product = normalised(part_sums(along_directions, S.head_tile), degree, S)
            terms = add(terms, kept(wide(product, 2), term(S.l_max + 1 + degree, S)))
    return terms


@triton.jit
def cooling(w, S: tl.constexpr):
    """1 / temperature (1, H)."""
    h, exists = head_columns(S)
    return tl.exp(-tl.load(w.log_temperature + h, exists, 0.0))[None, :]


@triton.jit
def logits(w, weights, terms, S: tl.constexpr):
    """(T, H)."""
    return scaled(total(mul(weights, terms), 2), cooling(w, S))


@triton.jit
def weight_gradient(to_sum, terms):
    """In the weights (T, H (2L+2)); to_sum (T, H): in Σ_n w_n p_n."""
    return flat(mul(wide(to_sum, 2), terms))


@triton.jit
def key_gradients(to_sum, weights, degree: tl.constexpr, S: tl.constexpr):
    """In <k_j, q_i> of one degree, spread over (T, H K)."""
    return repeated(normalised(mul(to_sum, picked(weights, degree + 1, S)), degree, S), S.key_tile)


@triton.jit
def direction_gradients(to_sum, weights, degree: tl.constexpr, S: tl.constexpr):
    """In <Y_ij, Σ_k q_i> of one degree, spread over (T, H K)."""
    return repeated(normalised(mul(to_sum, picked(weights, S.l_max + 1 + degree, S)), degree, S), S.key_tile)
