"""Runs the GPU kernels of first directions and pooled neighbours in Triton's interpreter against plain torch.

`TRITON_INTERPRET=1 python interpreted_pooling.py float64|float32,HIDDEN_WIDTH,PROBLEM …`, a program of its own
for the same reason as `interpreted`; the folder above, where `operations` is, must be on the path.
"""

from __future__ import annotations

import itertools
import sys

import torch
from interpreted import PROBLEMS, TOLERANCE, compare
from operations import derivatives, draw
from problems import Problem
from torch import Tensor

from mlanet.ops import autograd
from mlanet.ops.edge_degree import gpu as directions
from mlanet.ops.edge_degree.gpu import GpuDirections
from mlanet.ops.neighbor_pooling.gpu import GpuPooling
from mlanet.ops.rows import Rows

MORE = (Problem("wide", (3, 0, 5), 2, 40, 2, 2), Problem("no_atoms", (), 1, 4, 2, 2))
"""In the first, a plane of a whole tile of edges fills the registers: two edges at a time in float64."""

KNOWN = {**PROBLEMS, **{one.name: one for one in MORE}}

FUNCTIONS, FACTOR = 3, 0.3

directions.PROGRAMS = 2  # so that programs have several centers, and there are several


def given(problem: Problem, hidden: int, dtype: torch.dtype) -> tuple[Rows, list[Tensor], list[Tensor]]:
    """Seeded edges with envelopes of 0 among them, inputs of the directions, and layers."""
    generator = torch.Generator().manual_seed(0)
    n, e, c, m = problem.n_atoms, problem.n_edges, problem.channels, problem.rows
    rows = Rows(torch.randint(max(n, 1), (e,), generator=generator), torch.tensor((0, *problem.edges)).cumsum(0))
    envelope = torch.rand(e, generator=generator, dtype=torch.float64)
    envelope[1::4] = 0.0
    sender, radial, harmonics = (draw(size, generator, dtype) for size in ((n, c), (e, FUNCTIONS), (e, m)))
    widths = (FUNCTIONS, *((hidden,) if hidden else ()), c * problem.l_max)
    layers = [draw(size, generator, dtype) for size in itertools.pairwise(widths)]
    return rows, [sender, envelope.to(dtype).requires_grad_(), radial, harmonics], layers


def check(problem: Problem, hidden: int, dtype: torch.dtype) -> None:
    """Both operations are their references, values, first and second derivatives."""
    rows, inputs, layers = given(problem, hidden, dtype)
    pairs = [(GpuDirections(problem.l_max, FACTOR, rows), inputs, layers), (GpuPooling(rows), inputs[:2], [])]
    for operation, x, w in pairs:
        wide, weights = ([one.detach().double().requires_grad_() for one in part] for part in (x, w))
        wanted = derivatives(lambda o=operation, x=wide, w=weights: o.reference([*x, *w]), wide, weights, 1)
        found = derivatives(lambda o=operation, x=x, w=w: autograd.apply(o, x, w), x, w, 1)
        compare(f"{type(operation).__name__}, {problem.name}", found, wanted, dtype)
        assert not problem.n_edges or all(one.abs().max() > 0 for one in wanted[: 1 + len(x) + len(w)])


def main(*cases: str) -> None:
    """One by one."""
    assert TOLERANCE[torch.float64] <= 1e-10
    for case in cases:
        precision, hidden, name = case.split(",")
        check(KNOWN[name], int(hidden), getattr(torch, precision))


if __name__ == "__main__":
    main(*sys.argv[1:])
