"""Kernels of the product of a node's features with themselves. Equations: `mlanet.ops.node_product.reference`.

All three sums, y_m, the gradient in x_m and that in w_p, have one form: for every place (a row or a path)

    Σ_groups outer_g Σ_terms value_t left_t right_t

with outer a weight or a row of `up`, left and right rows of x or `up`. `gpu.Table` lists groups and terms by
place; a kernel walks the list. A program has a place, N nodes and C channels, and gathers rows from its cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from mlanet.ops.gpu.dual import add, answer, load, mul, plane, scaled, total


class Lists(NamedTuple):
    """Pointers to a `gpu.Table`."""

    groups: Any
    outer: Any
    terms: Any
    left: Any
    right: Any
    value: Any


@triton.jit
def node_row(pointers, nodes, row, c, rows: tl.constexpr, exists, S: tl.constexpr):
    """A row (N, C) of features (nodes, rows, C), a number."""
    return load(pointers, (nodes[:, None] * rows + row) * S.channels + c[None, :], exists)


@triton.jit
def times(left, right):
    """left · right, where left has a slope or none."""
    if len(left) == len(right):
        return mul(left, right)
    else:
        return scaled(right, left[0])


@triton.jit
def group_sum(left, x, lists, group, nodes, c, rows: tl.constexpr, exists, S: tl.constexpr):
    """Σ value · left · right (N, C) over the terms of one group; left (nodes, rows, C), right from x."""
    sums = plane(S.node_tile, S.channel_tile, x)
    for term in range(tl.load(lists.terms + group), tl.load(lists.terms + group + 1)):
        one = node_row(left, nodes, tl.load(lists.left + term), c, rows, exists, S)
        other = node_row(x, nodes, tl.load(lists.right + term), c, S.rows_in, exists, S)
        sums = add(sums, scaled(times(one, other), tl.load(lists.value + term)))
    return sums


@triton.jit(do_not_specialize=["n_nodes"])
def weighed_rows(left, x, weight, lists, n_nodes, out, ROWS_LEFT: tl.constexpr, ROWS: tl.constexpr, S: tl.constexpr):
    """Row pid(0) mod ROWS of nodes pid(0) div ROWS, channels pid(1): out (nodes, ROWS, C), outer a weight.

    - left (nodes, ROWS_LEFT, C): x for y, `up` for the gradient in x · weight (paths, C)
    """
    program = tl.program_id(0)
    row = program % ROWS
    nodes = (program // ROWS).to(tl.int64) * S.node_tile + tl.arange(0, S.node_tile)
    c = tl.program_id(1) * S.channel_tile + tl.arange(0, S.channel_tile)
    exists = (nodes < n_nodes)[:, None] & (c < S.channels)[None, :]
    sums = plane(S.node_tile, S.channel_tile, x)
    for group in range(tl.load(lists.groups + row), tl.load(lists.groups + row + 1)):
        product = group_sum(left, x, lists, group, nodes, c, ROWS_LEFT, exists, S)
        path = tl.load(lists.outer + group)
        sums = add(sums, scaled(product, tl.load(weight + path * S.channels + c, c < S.channels, 0.0)[None, :]))
    answer(out, (nodes[:, None] * ROWS + row) * S.channels + c[None, :], sums, exists, False)


@triton.jit(do_not_specialize=["n_nodes"])
def path_sums(x, up, lists, n_nodes, to_weight, ROWS_UP: tl.constexpr, S: tl.constexpr):
    """Gradient of the weight of path pid(2), channels pid(1), over nodes of tiles pid(0), pid(0) + programs, …

    - up (nodes, ROWS_UP, C), outer · to_weight (programs, paths, C): partial sums
    """
    program, path = tl.program_id(0).to(tl.int64), tl.program_id(2)
    c = tl.program_id(1) * S.channel_tile + tl.arange(0, S.channel_tile)
    sums = plane(S.node_tile, S.channel_tile, x)
    for at in range(program * S.node_tile, n_nodes, tl.num_programs(0) * S.node_tile):
        nodes = at + tl.arange(0, S.node_tile)
        exists = (nodes < n_nodes)[:, None] & (c < S.channels)[None, :]
        for group in range(tl.load(lists.groups + path), tl.load(lists.groups + path + 1)):
            product = group_sum(x, x, lists, group, nodes, c, S.rows_in, exists, S)
            asked = node_row((up,), nodes, tl.load(lists.outer + group), c, ROWS_UP, exists, S)
            sums = add(sums, scaled(product, asked[0]))
    place = (program * tl.num_programs(2) + path) * S.channels + c
    answer(to_weight, place, total(sums, 0), c < S.channels, False)
