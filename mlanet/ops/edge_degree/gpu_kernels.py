"""Kernels of the first directions h_i^l = f Σ_j u φ_l(RBF) s_j Y_l, l > 0, and of their gradient.

A plane is a tile of edges times all channels. Where φ is linear in RBF it is B products of a number of the edge and a
row of weights, each a multiplication and an addition in registers; a matrix product would fill B up to 16 and go
through shared memory. With a hidden layer its B inputs are treated so, and the last layer is a matrix product.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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
    total,
    wide,
)
from mlanet.ops.gpu.gather import constant_rows, envelope, one, repeated, rows


class Inputs(NamedTuple):
    """As `reference.DirectionInputs`: pointers to values, or to values and directions; of answers bare ones."""

    sender: Any
    envelope: Any
    radial: Any
    harmonics: Any


class Layers(NamedTuple):
    """Of φ; first (B, hidden) is not read without a hidden layer · last (B or hidden, L·C)."""

    first: Any
    last: Any


@triton.jit
def harmonic(x, e, present, m, S: tl.constexpr):
    """Y_m (T,)."""
    return load(x.harmonics, e * S.rows + m, present)


@triton.jit
def basis(x, e, present, S: tl.constexpr):
    """RBF, B numbers (T,)."""
    B: tl.constexpr = S.functions
    values = ()
    for b in tl.static_range(B):
        values += (load(x.radial, e * S.functions + b, present),)
    return values


@triton.jit
def weight_row(pointer, row, column, LENGTH: tl.constexpr, SIZE: tl.constexpr, TILE: tl.constexpr):
    """SIZE weights of a row of a layer whose rows have LENGTH, (1, TILE)."""
    c = tl.arange(0, TILE)
    return tl.load(pointer + row * LENGTH + column + c, c < SIZE, 0.0)[None, :]


@triton.jit
def first_row(w, b, r, S: tl.constexpr):
    """From function b to the hidden units r, r + 1, …, (1, units)."""
    return weight_row(w.first, b, r, S.hidden, S.hidden - r, S.units)


@triton.jit
def filter_row(w, b, degree, S: tl.constexpr):
    """From function b to φ of a degree, (1, C), without a hidden layer."""
    return weight_row(w.last, b, (degree - 1) * S.channels, S.l_max * S.channels, S.channels, S.width)


@triton.jit
def filter_offsets(r, degree, S: tl.constexpr):
    """Where the weights of φ of a degree are for the hidden units r, r + 1, … (units, C), and which exist."""
    row, c = r + tl.arange(0, S.units)[:, None], tl.arange(0, S.width)[None, :]
    at = row * (S.l_max * S.channels) + (degree - 1) * S.channels + c
    return at, (row < S.hidden) & (c < S.channels)


@triton.jit
def filter_matrix(w, r, degree, S: tl.constexpr):
    """Those weights (units, C)."""
    at, exists = filter_offsets(r, degree, S)
    return tl.load(w.last + at, exists, 0.0)


@triton.jit
def before_silu(w, rbf, r, S: tl.constexpr):
    """What enters the hidden units r, r + 1, … (T, units)."""
    B: tl.constexpr = S.functions
    sums = scaled(wide(rbf[0], 1), first_row(w, 0, r, S))
    for b in tl.static_range(1, B):
        sums = add(sums, scaled(wide(rbf[b], 1), first_row(w, b, r, S)))
    return sums


@triton.jit
def filter_rows(w, S: tl.constexpr):
    """All B · L of them, to be loaded once, before the edges; nothing with a hidden layer."""
    L: tl.constexpr = S.l_max
    B: tl.constexpr = S.functions
    layers = ()
    if S.hidden == 0:
        for degree in tl.static_range(1, L + 1):
            for b in tl.static_range(B):
                layers += (filter_row(w, b, degree, S),)
    return layers


@triton.jit
def filters(x, w, linear, rbf, S: tl.constexpr):
    """φ of each degree, L planes; linear: `filter_rows`."""
    L: tl.constexpr = S.l_max
    B: tl.constexpr = S.functions
    if S.hidden > 0:
        phi = no_planes(L, S.width, x.sender, S)
        for r in range(0, S.hidden, S.units):
            units, more = silu(before_silu(w, rbf, r, S)), ()
            for degree in tl.static_range(1, L + 1):
                product = matmul(units, filter_matrix(w, r, degree, S), S.precision)
                more += (add(phi[degree - 1], product),)
            phi = more
        return phi
    else:
        phi = ()
        for degree in tl.static_range(1, L + 1):
            sums = scaled(wide(rbf[0], 1), linear[(degree - 1) * B])
            for b in tl.static_range(1, B):
                sums = add(sums, scaled(wide(rbf[b], 1), linear[(degree - 1) * B + b]))
            phi += (sums,)
        return phi


@triton.jit
def sent_weighed(x, j, u, present, S: tl.constexpr):
    """f u s_j (T, C), and s_j."""
    sent = rows(x.sender, j, present, S)
    return mul(sent, wide(scaled(u, S.factor), 1)), sent


@triton.jit
def pulled(up, i, m, S: tl.constexpr):
    """Row m > 0 of what is asked of centers (N, M − 1, C), (·, C)."""
    return constant_rows(up, i * (S.rows - 1) + (m - 1), i >= 0, S)


@triton.jit
def along_direction(x, up, i, e, present, degree: tl.constexpr, S: tl.constexpr):
    """Σ_m up_m Y_m of one degree (T, C)."""
    sums = plane(S.tile, S.width, x.sender)
    for m in tl.static_range(degree * degree, (degree + 1) * (degree + 1)):
        sums = add(sums, scaled(wide(harmonic(x, e, present, m, S), 1), pulled(up, i, m, S)))
    return sums


@triton.jit
def no_planes(NUMBER: tl.constexpr, COLUMNS: tl.constexpr, pointers, S: tl.constexpr):
    """Zeros, so many planes."""
    planes = ()
    for _ in tl.static_range(NUMBER):
        planes += (plane(S.tile, COLUMNS, pointers),)
    return planes


@triton.jit
def by_function(sums, rbf, to_filter, S: tl.constexpr):
    """Adds RBF_b times a plane to plane b of B."""
    B: tl.constexpr = S.functions
    more = ()
    for b in tl.static_range(B):
        more += (add(sums[b], mul(wide(rbf[b], 1), to_filter)),)
    return more


@triton.jit
def directions(x, w, neighbor, start, out, S: tl.constexpr):
    """h (N, M − 1, C) of center pid(0)."""
    L: tl.constexpr = S.l_max
    M: tl.constexpr = S.rows
    center = tl.program_id(0).to(tl.int64)
    first, last = tl.load(start + center), tl.load(start + center + 1)
    linear, sums = filter_rows(w, S), no_planes(M - 1, S.width, x.sender, S)
    for at in range(first, last, S.tile):
        e = at + tl.arange(0, S.tile)
        u, present = envelope(x, e, e < last)
        weighed = sent_weighed(x, tl.load(neighbor + e, present, 0), u, present, S)[0]
        phi, more = filters(x, w, linear, basis(x, e, present, S), S), ()
        for degree in tl.static_range(1, L + 1):
            weighed_filter = mul(weighed, phi[degree - 1])
            for m in tl.static_range(degree * degree, (degree + 1) * (degree + 1)):
                more += (add(sums[m - 1], mul(weighed_filter, wide(harmonic(x, e, present, m, S), 1))),)
        sums = more
    c = tl.arange(0, S.width)
    for m in tl.static_range(1, M):
        offsets = (center * (M - 1) + m - 1) * S.channels + c
        answer(out, offsets, total(sums[m - 1], 0), c < S.channels, False)


@triton.jit
def edge_gradient(x, w, neighbor, start, up, to, S: tl.constexpr):
    """In u, RBF and Y of the edges of center pid(0).

    - up (N, M − 1, C) · to: gradients of the inputs
    """
    L: tl.constexpr = S.l_max
    B: tl.constexpr = S.functions
    center = tl.program_id(0).to(tl.int64)
    first, last = tl.load(start + center), tl.load(start + center + 1)
    i, linear = repeated(center, S.tile), filter_rows(w, S)
    for at in range(first, last, S.tile):
        e = at + tl.arange(0, S.tile)
        exists = e < last
        u, present = envelope(x, e, exists)
        rbf = basis(x, e, present, S)
        phi = filters(x, w, linear, rbf, S)
        weighed, sent = sent_weighed(x, tl.load(neighbor + e, present, 0), u, present, S)
        to_weight, to_filters = plane(S.tile, S.width, x.sender), ()
        answer(to.harmonics, e * S.rows, line(S.tile, x.sender), exists, False)
        for degree in tl.static_range(1, L + 1):
            along = along_direction(x, up, i, e, present, degree, S)
            to_weight = add(to_weight, mul(phi[degree - 1], along))
            to_filters += (mul(weighed, along),)
            product = mul(weighed, phi[degree - 1])
            for m in tl.static_range(degree * degree, (degree + 1) * (degree + 1)):
                to_row = total(scaled(product, pulled(up, i, m, S)), 1)
                answer(to.harmonics, e * S.rows + m, to_row, exists, False)
        to_u = scaled(total(mul(to_weight, sent), 1), S.factor)
        answer(to.envelope, e, kept(to_u, present), exists, False)
        to_rbf = basis_gradient(x, w, linear, rbf, to_filters, S)
        for b in tl.static_range(B):
            answer(to.radial, e * B + b, to_rbf[b], exists, False)


@triton.jit
def basis_gradient(x, w, linear, rbf, to_filters, S: tl.constexpr):
    """In RBF, B numbers (T,)."""
    L: tl.constexpr = S.l_max
    B: tl.constexpr = S.functions
    to_basis = ()
    if S.hidden > 0:
        for _ in tl.static_range(B):
            to_basis += (line(S.tile, x.sender),)
        for r in range(0, S.hidden, S.units):
            to_before, more = unit_gradient(x, w, rbf, to_filters, r, S), ()
            for b in tl.static_range(B):
                more += (add(to_basis[b], total(scaled(to_before, first_row(w, b, r, S)), 1)),)
            to_basis = more
        return to_basis
    else:
        for b in tl.static_range(B):
            sums = scaled(to_filters[0], linear[b])
            for degree in tl.static_range(2, L + 1):
                sums = add(sums, scaled(to_filters[degree - 1], linear[(degree - 1) * B + b]))
            to_basis += (total(sums, 1),)
        return to_basis


@triton.jit
def unit_gradient(x, w, rbf, to_filters, r, S: tl.constexpr):
    """In what enters the hidden units r, r + 1, … (T, units)."""
    L: tl.constexpr = S.l_max
    sums = plane(S.tile, S.units, x.sender)
    for degree in tl.static_range(1, L + 1):
        sums = add(sums, matmul(to_filters[degree - 1], tl.trans(filter_matrix(w, r, degree, S)), S.precision))
    return mul(sums, silu_slope(before_silu(w, rbf, r, S)))


@triton.jit
def sender_gradient(x, w, order, center, sent_start, up, to_sender, S: tl.constexpr):
    """In s (N, C) of sender pid(0).

    - order (E,): edges sorted by sender, sent_start[j]:sent_start[j+1] those of j · center (E,): of each edge
    """
    L: tl.constexpr = S.l_max
    sender = tl.program_id(0).to(tl.int64)
    first, last = tl.load(sent_start + sender), tl.load(sent_start + sender + 1)
    linear, sums = filter_rows(w, S), plane(S.tile, S.width, x.sender)
    for at in range(first, last, S.tile):
        place = at + tl.arange(0, S.tile)
        exists = place < last
        e = tl.load(order + place, exists, 0)
        u, present = envelope(x, e, exists)
        i = tl.load(center + e, present, 0)
        phi, along = filters(x, w, linear, basis(x, e, present, S), S), plane(S.tile, S.width, x.sender)
        for degree in tl.static_range(1, L + 1):
            along = add(along, mul(phi[degree - 1], along_direction(x, up, i, e, present, degree, S)))
        sums = add(sums, mul(along, wide(scaled(u, S.factor), 1)))
    c = tl.arange(0, S.width)
    answer(to_sender, sender * S.channels + c, total(sums, 0), c < S.channels, False)


@triton.jit
def filter_gradient(x, neighbor, up, i, e, exists, degree: tl.constexpr, S: tl.constexpr):
    """In φ of one degree (T, C), and RBF."""
    u, present = envelope(x, e, exists)
    weighed = sent_weighed(x, tl.load(neighbor + e, present, 0), u, present, S)[0]
    return mul(weighed, along_direction(x, up, i, e, present, degree, S)), basis(x, e, present, S)


@triton.jit(do_not_specialize=["n_centers"])
def last_gradient(x, w, neighbor, start, n_centers, up, to_last, S: tl.constexpr, DEGREE: tl.constexpr):
    """In the columns of one degree of the last layer, over the centers pid(0), pid(0) + programs, ….

    Of the rows of functions; with a hidden layer of its units pid(1) · units, ….
    - to_last (programs, B or hidden, L·C): partial sums
    """
    B: tl.constexpr = S.functions
    program, r = tl.program_id(0).to(tl.int64), tl.program_id(1) * S.units
    sums = no_filter_sums(x, S)
    for center in range(program, n_centers, tl.num_programs(0)):
        first, last = tl.load(start + center), tl.load(start + center + 1)
        for at in range(first, last, S.tile):
            e = at + tl.arange(0, S.tile)
            to_filter, rbf = filter_gradient(x, neighbor, up, one(center), e, e < last, DEGREE, S)
            if S.hidden > 0:
                sums = add(sums, outer(silu(before_silu(w, rbf, r, S)), to_filter, S.precision))
            else:
                sums = by_function(sums, rbf, to_filter, S)
    if S.hidden > 0:
        offsets, exists = filter_offsets(r, DEGREE, S)
        answer(to_last, program * (S.hidden * S.l_max * S.channels) + offsets, sums, exists, False)
    else:
        c = tl.arange(0, S.width)
        for b in tl.static_range(B):
            row = (program * B + b) * S.l_max + DEGREE - 1
            answer(to_last, row * S.channels + c, total(sums[b], 0), c < S.channels, False)


@triton.jit
def no_filter_sums(x, S: tl.constexpr):
    """Zeros: a matrix (units, C), or B planes (T, C)."""
    if S.hidden > 0:
        return plane(S.units, S.width, x.sender)
    else:
        return no_planes(S.functions, S.width, x.sender, S)


@triton.jit(do_not_specialize=["n_centers"])
def first_gradient(x, w, neighbor, start, n_centers, up, to_first, S: tl.constexpr):
    """In the first of two layers, hidden units pid(1) · units, …, over the centers pid(0), pid(0) + programs, ….

    - to_first (programs, B, hidden): partial sums
    """
    L: tl.constexpr = S.l_max
    B: tl.constexpr = S.functions
    program, r = tl.program_id(0).to(tl.int64), tl.program_id(1) * S.units
    sums = no_planes(B, S.units, x.sender, S)
    for center in range(program, n_centers, tl.num_programs(0)):
        first, last = tl.load(start + center), tl.load(start + center + 1)
        for at in range(first, last, S.tile):
            e = at + tl.arange(0, S.tile)
            to_filters = ()
            for degree in tl.static_range(1, L + 1):
                to_filter, rbf = filter_gradient(x, neighbor, up, one(center), e, e < last, degree, S)
                to_filters += (to_filter,)
            sums = by_function(sums, rbf, unit_gradient(x, w, rbf, to_filters, r, S), S)
    unit = r + tl.arange(0, S.units)
    for b in tl.static_range(B):
        offsets = (program * B + b) * S.hidden + unit
        answer(to_first, offsets, total(sums[b], 0), unit < S.hidden, False)
