"""The form by centers is the twin of the reference, in values and in first and second derivatives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mlanet.ops import dispatch
from mlanet.ops.dispatch import PLAIN
from mlanet.ops.filtered_sum import reference, table
from mlanet.ops.filtered_sum.reference import FilterEdges, Senders
from mlanet.ops.segment import Neighborhoods

FUNCTIONS, WIDTH = 5, 4
NEIGHBOURS = {"even": (3, 3, 3, 3), "uneven": (2, 4, 3), "own_images": (6,), "one_without": (3, 0, 3, 3)}


def problem(counts: tuple[int, ...], vectors: bool) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Center, neighbor, and float64 leaves: edge vectors, scalars, arrows, weight, and vectors if any."""
    generator = torch.Generator().manual_seed(1)
    n, e = len(counts), sum(counts)
    center = torch.repeat_interleave(torch.arange(n), torch.tensor(counts))
    neighbor = torch.randint(n, (e,), generator=generator)
    shapes = [(e, 3), (n, WIDTH), (n, WIDTH), ((3 if vectors else 2) * WIDTH, FUNCTIONS)]
    shapes += [(n, 3, WIDTH)] if vectors else []
    leaves = [torch.randn(*s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]
    return center, neighbor, leaves


def evaluate(form: str, center: Tensor, neighbor: Tensor, leaves: list[Tensor], n: int) -> tuple[Tensor, Tensor]:
    """Run one form on the list or on the table, from the edge vectors on."""
    vectors, scalars, arrows, weight, *rest = leaves
    around, order = Neighborhoods(center, n), neighbor
    if form != "reference":
        around, order, slot, _ = dispatch.pairs(PLAIN, center, neighbor, n, scalars)
        assert around.degree and slot is not None
        vectors = torch.cat([vectors, torch.full((1, 3), 1e3, dtype=vectors.dtype)]).index_select(0, slot)
    distance = vectors.norm(dim=1)
    envelope = torch.where(distance < 100, torch.exp(-distance), torch.zeros_like(distance))
    basis = torch.stack([torch.sin((k + 1) * distance) * envelope for k in range(FUNCTIONS)], dim=1)
    direction = vectors / distance[:, None]
    directed = (direction[:, :, None] * basis[:, None, :]).flatten(1) if around.degree else None
    edges = FilterEdges(around, order, basis, direction, directed)
    senders = Senders(scalars, arrows, rest[0] if rest else None)
    chosen = {"reference": reference, "table": table}[form]
    result = chosen.filtered_sum(edges, senders, weight)
    assert torch.equal(result[0], dispatch.filtered_sum(edges, senders, weight)[0])
    return result


@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize("name", NEIGHBOURS)
def test_twins(name: str, vectors: bool) -> None:
    """Values, gradients of a random projection, and gradients of a random projection of those."""
    counts = NEIGHBOURS[name]
    results: dict[str, list[Tensor]] = {}
    for form in ("reference", "table"):
        center, neighbor, leaves = problem(counts, vectors)
        generator = torch.Generator().manual_seed(2)
        outputs = evaluate(form, center, neighbor, leaves, len(counts))

        def draw(like: Tensor, generator: torch.Generator = generator) -> Tensor:
            return torch.randn(like.shape, generator=generator, dtype=like.dtype)

        first = torch.autograd.grad(sum((o * draw(o)).sum() for o in outputs), leaves, create_graph=True)
        second = torch.autograd.grad(sum((g * draw(g)).sum() for g in first), leaves)
        results[form] = [*outputs, *first, *second]
    for a, b in zip(results["reference"], results["table"], strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)
        assert a.abs().max() > 0
