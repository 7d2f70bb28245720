"""Sums over edges, the smooth softmax, and the table twins of the reference operations."""

from __future__ import annotations

import pytest
import torch

from mlanet.ops.dispatch import FUSED, PLAIN, pairs
from mlanet.ops.message import reference, table
from mlanet.ops.message.reference import enveloped_softmax
from mlanet.ops.segment import (
    Neighborhoods,
    segment_max,
    segment_mean,
    segment_sum,
    segment_sum_scatter,
)

INDEX = torch.tensor([0, 0, 1, 3, 3, 3])
SHAPES = [(5, 4, 1, 4, 2), (7, 3, 2, 8, 4), (3, 6, 3, 4, 2), (1, 1, 2, 4, 4)]
"""(atoms, neighbours of each, l_max, channels, heads)."""


def test_segments_against_a_loop() -> None:
    """Sum, mean and maximum of every segment, 0 for an empty one."""
    values = torch.randn(6, 2, dtype=torch.float64)
    for segment in range(4):
        mine = values[segment == INDEX]
        empty = torch.zeros(2, dtype=torch.float64)
        assert torch.allclose(segment_sum(values, INDEX, 4)[segment], mine.sum(0))
        assert torch.allclose(segment_mean(values, INDEX, 4)[segment], mine.mean(0) if len(mine) else empty)
        assert torch.equal(segment_max(values, INDEX, 4)[segment], mine.amax(0) if len(mine) else empty)


def test_torch_scatter_is_a_twin_of_the_sum() -> None:
    """Values, first and second derivatives of the optional backend."""
    pytest.importorskip("torch_scatter")
    values = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(segment_sum_scatter(values, INDEX, 4), segment_sum(values, INDEX, 4))
    assert torch.autograd.gradgradcheck(lambda v: segment_sum_scatter(v, INDEX, 4).pow(3), values)


@pytest.mark.parametrize("as_table", [False, True])
def test_enveloped_softmax(as_table: bool) -> None:
    """Below 1 in sum, 0 where the envelope is 0, finite for huge logits, twice differentiable."""
    center = torch.arange(3).repeat_interleave(4)
    around = Neighborhoods(center, 3, 4 if as_table else 0)
    logits = torch.randn(12, 2, dtype=torch.float64, requires_grad=True)
    envelope = torch.rand(12, dtype=torch.float64)
    envelope[[3, 7]] = 0.0
    weights = enveloped_softmax(logits, envelope, around).detach()
    assert (around.sum(weights) < 1).all() and (weights[[3, 7]] == 0).all()
    expected = envelope[:, None] * logits.detach().exp()
    assert torch.allclose(weights, expected / (1 + around.spread(around.sum(expected))), atol=1e-14)
    for size in (500.0, -500.0):
        huge = logits.detach().clone()
        huge[3] = size
        huge[8] = -size
        assert enveloped_softmax(huge.float(), envelope.float(), around).isfinite().all()
    assert torch.autograd.gradgradcheck(lambda a: enveloped_softmax(a, envelope, around), logits)


@pytest.mark.parametrize(("n", "degree", "l_max", "channels", "heads"), SHAPES)
@pytest.mark.parametrize("name", ["degree_dots", "harmonic_dots", "light_message"])
def test_table_is_a_twin_of_the_reference(
    name: str, n: int, degree: int, l_max: int, channels: int, heads: int
) -> None:
    """Same values, first and second derivatives, whatever the sizes."""
    generator = torch.Generator().manual_seed(n)
    rows, edges = (l_max + 1) ** 2, n * degree
    center = torch.arange(n).repeat_interleave(degree)
    neighbor = torch.randint(n, (edges,), generator=generator)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    inputs = {
        "degree_dots": lambda: (draw(n, rows, heads, 2), draw(edges, rows, heads, 2)),
        "harmonic_dots": lambda: (draw(n, rows, heads), draw(edges, rows)),
        "light_message": lambda: (
            draw(n, rows, channels),
            draw(edges, l_max + 1, channels),
            draw(edges, l_max + 1, channels),
            draw(edges, rows),
        ),
    }[name]()
    extra = (neighbor,) if name == "light_message" else ()
    results = []
    for module, around in ((reference, Neighborhoods(center, n)), (table, Neighborhoods(center, n, degree))):
        out = getattr(module, name)(*inputs, *extra, around)
        first = torch.autograd.grad(out.pow(2).sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum(g.pow(2).sum() for g in first), inputs)
        results.append((out, *first, *second))
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-11, atol=1e-11)


def test_layout_is_a_table_only_where_it_pays() -> None:
    """Even neighbourhoods become a table with every edge exactly once; uneven ones and kernels' stay a list."""
    center = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
    neighbor = torch.tensor([1, 2, 1, 0, 2, 0, 1, 1])
    layout = pairs(PLAIN, center, neighbor, 3, torch.empty(0))
    assert layout.around.degree == 3 and layout.slot is not None
    assert sorted(slot for slot in layout.slot.tolist() if slot < 8) == list(range(8))
    real = layout.slot < 8
    assert torch.equal(layout.around.center[real], center[layout.slot[real]])
    assert torch.equal(layout.neighbor[real], neighbor[layout.slot[real]])
    uneven = torch.tensor([0] * 20 + [1])
    assert pairs(PLAIN, uneven, torch.zeros(21, dtype=torch.int64), 3, torch.empty(0)).around.degree == 0
    assert pairs(PLAIN, center[:0], neighbor[:0], 3, torch.empty(0)).around.degree == 0
    by_kernels = pairs(FUSED, center, neighbor, 3, torch.empty(0))
    assert by_kernels.around.degree == 0 and by_kernels.rows is not None
    assert by_kernels.rows.start.tolist() == [0, 3, 5, 8] and layout.rows is None
    half = pairs(FUSED, center, neighbor, 3, torch.empty(0, dtype=torch.bfloat16))
    assert half.rows is None and half.around.degree == 3
