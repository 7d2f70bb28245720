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
from mlanet.ops.gpu.gather import constant_rows, envelope, one, rows


class Inputs(NamedTuple):
    """As `directions.DirectionInputs`: pointers to values, or to values and directions; of answers bare ones."""

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
    found = ()
    for b in tl.static_range(S.functions):
        found += (load(x.radial, e * S.functions + b, present),)
    return found


@triton.jit
def weight_row(pointer, row, column, LENGTH: tl.constexpr, SIZE: tl.constexpr, TILE: tl.constexpr):
    """SIZE weights of a row of a layer whose rows have LENGTH, (1, TILE)."""
    c = tl.arange(0, TILE)
    return tl.load(pointer + row * LENGTH + column + c, c < SIZE, 0.0)[None, :]


@triton.jit
def first_row(w, b, S: tl.constexpr):
    """From function b to the hidden layer, (1, hidden)."""
    return weight_row(w.first, b, 0, S.hidden, S.hidden, S.hidden_tile)


@triton.jit
def filter_row(w, row, degree, S: tl.constexpr):
    """From one input of the last layer to φ of a degree, (1, C)."""
    return weight_row(w.last, row, (degree - 1) * S.channels, S.l_max * S.channels, S.channels, S.width)


@triton.jit
def filter_offsets(degree, S: tl.constexpr):
    """Where the columns of φ of a degree are in the last layer (hidden, L·C), and which exist."""
    r, c = tl.arange(0, S.hidden_tile)[:, None], tl.arange(0, S.width)[None, :]
    at = r * (S.l_max * S.channels) + (degree - 1) * S.channels + c
    return at, (r < S.hidden) & (c < S.channels)


@triton.jit
def filter_matrix(w, degree, S: tl.constexpr):
    """Those columns (hidden, C)."""
    at, exists = filter_offsets(degree, S)
    return tl.load(w.last + at, exists, 0.0)


@triton.jit
def last_input(w, rbf, S: tl.constexpr):
    """What enters the last layer, and the same before its SiLU: B numbers (T,), or a plane (T, hidden)."""
    if S.hidden > 0:
        before = scaled(wide(rbf[0], 1), first_row(w, 0, S))
        for b in tl.static_range(1, S.functions):
            before = add(before, scaled(wide(rbf[b], 1), first_row(w, b, S)))
        return silu(before), before
    else:
        return rbf, rbf


@triton.jit
def filters(w, inside, degree, S: tl.constexpr):
    """φ of one degree (T, C)."""
    if S.hidden > 0:
        return matmul(inside, filter_matrix(w, degree, S), S.precision)
    else:
        sums = scaled(wide(inside[0], 1), filter_row(w, 0, degree, S))
        for b in tl.static_range(1, S.functions):
            sums = add(sums, scaled(wide(inside[b], 1), filter_row(w, b, degree, S)))
        return sums


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
    found = ()
    for _ in tl.static_range(NUMBER):
        found += (plane(S.tile, COLUMNS, pointers),)
    return found


@triton.jit
def by_function(sums, rbf, found, S: tl.constexpr):
    """Adds RBF_b times a plane to plane b of B."""
    more = ()
    for b in tl.static_range(S.functions):
        more += (add(sums[b], mul(wide(rbf[b], 1), found)),)
    return more


@triton.jit
def directions(x, w, neighbor, start, out, S: tl.constexpr):
    """h (N, M − 1, C) of center pid(0)."""
    center = tl.program_id(0).to(tl.int64)
    first, last = tl.load(start + center), tl.load(start + center + 1)
    sums = no_planes(S.rows - 1, S.width, x.sender, S)
    for at in range(first, last, S.tile):
        e = at + tl.arange(0, S.tile)
        u, present = envelope(x, e, e < last)
        weighed = sent_weighed(x, tl.load(neighbor + e, present, 0), u, present, S)[0]
        inside = last_input(w, basis(x, e, present, S), S)[0]
        more = ()
        for degree in tl.static_range(1, S.l_max + 1):
            found = mul(weighed, filters(w, inside, degree, S))
            for m in tl.static_range(degree * degree, (degree + 1) * (degree + 1)):
                more += (add(sums[m - 1], mul(found, wide(harmonic(x, e, present, m, S), 1))),)
        sums = more
    c = tl.arange(0, S.width)
    for m in tl.static_range(1, S.rows):
        offsets = (center * (S.rows - 1) + m - 1) * S.channels + c
        answer(out, offsets, total(sums[m - 1], 0), c < S.channels, False)


@triton.jit(do_not_specialize=["n_centers"])
def edge_gradient(x, w, neighbor, start, n_centers, up, to, to_first, S: tl.constexpr, WEIGHTS: tl.constexpr):
    """In u, RBF and Y of the edges of the centers pid(0), pid(0) + programs, …, and in the first layer of two.

    - up (N, M − 1, C) · to: gradients of the inputs · to_first (programs, B, hidden): partial sums, if WEIGHTS
    """
    program = tl.program_id(0).to(tl.int64)
    layer = no_planes(S.functions, S.hidden_tile, x.sender, S)
    for center in range(program, n_centers, tl.num_programs(0)):
        first, last = tl.load(start + center), tl.load(start + center + 1)
        i = one(center)
        for at in range(first, last, S.tile):
            e = at + tl.arange(0, S.tile)
            exists = e < last
            u, present = envelope(x, e, exists)
            rbf = basis(x, e, present, S)
            inside, before = last_input(w, rbf, S)
            weighed, sent = sent_weighed(x, tl.load(neighbor + e, present, 0), u, present, S)
            to_weight = plane(S.tile, S.width, x.sender)
            to_filters = ()
            answer(to.harmonics, e * S.rows, line(S.tile, x.sender), exists, False)
            for degree in tl.static_range(1, S.l_max + 1):
                phi = filters(w, inside, degree, S)
                along = along_direction(x, up, i, e, present, degree, S)
                to_weight = add(to_weight, mul(phi, along))
                to_filters += (mul(weighed, along),)
                product = mul(weighed, phi)
                for m in tl.static_range(degree * degree, (degree + 1) * (degree + 1)):
                    to_row = total(scaled(product, pulled(up, i, m, S)), 1)
                    answer(to.harmonics, e * S.rows + m, to_row, exists, False)
            to_u = scaled(total(mul(to_weight, sent), 1), S.factor)
            answer(to.envelope, e, kept(to_u, present), exists, False)
            if S.hidden > 0:
                to_inside = mul(hidden_gradient(x, w, to_filters, S), silu_slope(before))
                for b in tl.static_range(S.functions):
                    to_rbf = total(scaled(to_inside, first_row(w, b, S)), 1)
                    answer(to.radial, e * S.functions + b, to_rbf, exists, False)
                if WEIGHTS:
                    layer = by_function(layer, rbf, to_inside, S)
            else:
                for b in tl.static_range(S.functions):
                    to_rbf = total(row_gradient(x, w, to_filters, b, S), 1)
                    answer(to.radial, e * S.functions + b, to_rbf, exists, False)
    if S.hidden > 0 and WEIGHTS:
        r = tl.arange(0, S.hidden_tile)
        for b in tl.static_range(S.functions):
            offsets = (program * S.functions + b) * S.hidden + r
            answer(to_first, offsets, total(layer[b], 0), r < S.hidden, False)


@triton.jit
def hidden_gradient(x, w, to_filters, S: tl.constexpr):
    """In what the hidden layer gives (T, hidden)."""
    sums = plane(S.tile, S.hidden_tile, x.sender)
    for degree in tl.static_range(1, S.l_max + 1):
        sums = add(sums, matmul(to_filters[degree - 1], tl.trans(filter_matrix(w, degree, S)), S.precision))
    return sums


@triton.jit
def row_gradient(x, w, to_filters, row, S: tl.constexpr):
    """Gradients of φ times one row of the last layer (T, C), degrees summed."""
    sums = plane(S.tile, S.width, x.sender)
    for degree in tl.static_range(1, S.l_max + 1):
        sums = add(sums, scaled(to_filters[degree - 1], filter_row(w, row, degree, S)))
    return sums


@triton.jit
def sender_gradient(x, w, order, center, sent_start, up, to_sender, S: tl.constexpr):
    """In s (N, C) of sender pid(0).

    - order (E,): edges sorted by sender, sent_start[j]:sent_start[j+1] those of j · center (E,): of each edge
    """
    sender = tl.program_id(0).to(tl.int64)
    first, last = tl.load(sent_start + sender), tl.load(sent_start + sender + 1)
    sums = plane(S.tile, S.width, x.sender)
    for at in range(first, last, S.tile):
        place = at + tl.arange(0, S.tile)
        exists = place < last
        e = tl.load(order + place, exists, 0)
        u, present = envelope(x, e, exists)
        i = tl.load(center + e, present, 0)
        inside = last_input(w, basis(x, e, present, S), S)[0]
        found = plane(S.tile, S.width, x.sender)
        for degree in tl.static_range(1, S.l_max + 1):
            along = along_direction(x, up, i, e, present, degree, S)
            found = add(found, mul(filters(w, inside, degree, S), along))
        sums = add(sums, mul(found, wide(scaled(u, S.factor), 1)))
    c = tl.arange(0, S.width)
    answer(to_sender, sender * S.channels + c, total(sums, 0), c < S.channels, False)


@triton.jit(do_not_specialize=["n_centers"])
def last_gradient(x, w, neighbor, start, n_centers, up, to_last, S: tl.constexpr, DEGREE: tl.constexpr):
    """In the columns of one degree of the last layer, over the centers pid(0), pid(0) + programs, ….

    - to_last (programs, B or hidden, L·C): partial sums
    """
    program = tl.program_id(0).to(tl.int64)
    sums = no_filter_sums(x, S)
    for center in range(program, n_centers, tl.num_programs(0)):
        first, last = tl.load(start + center), tl.load(start + center + 1)
        for at in range(first, last, S.tile):
            e = at + tl.arange(0, S.tile)
            u, present = envelope(x, e, e < last)
            weighed = sent_weighed(x, tl.load(neighbor + e, present, 0), u, present, S)[0]
            to_filter = mul(weighed, along_direction(x, up, one(center), e, present, DEGREE, S))
            rbf = basis(x, e, present, S)
            if S.hidden > 0:
                sums = add(sums, outer(last_input(w, rbf, S)[0], to_filter, S.precision))
            else:
                sums = by_function(sums, rbf, to_filter, S)
    if S.hidden > 0:
        offsets, exists = filter_offsets(DEGREE, S)
        answer(to_last, program * (S.hidden * S.l_max * S.channels) + offsets, sums, exists, False)
    else:
        c = tl.arange(0, S.width)
        for b in tl.static_range(S.functions):
            row = (program * S.functions + b) * S.l_max + DEGREE - 1
            answer(to_last, row * S.channels + c, total(sums[b], 0), c < S.channels, False)


@triton.jit
def no_filter_sums(x, S: tl.constexpr):
    """Zeros: a matrix (hidden, C), or B planes (T, C)."""
    if S.hidden > 0:
        return plane(S.hidden_tile, S.width, x.sender)
    else:
        return no_planes(S.functions, S.width, x.sender, S)
