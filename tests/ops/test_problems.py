"""Every twin computes what `reference` says on every named problem, padding and empty neighbourhoods included."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from problems import LARGE, SMALL, Inputs, Problem, as_table, draw
from torch import Tensor

from mlanet.ops.dispatch import message_pieces
from mlanet.ops.message import reference, table
from mlanet.ops.message.reference import enveloped_softmax
from mlanet.ops.segment import Neighborhoods, segment_max, segment_mean, segment_sum

WITH_EDGES = [problem for problem in SMALL if problem.n_edges]
LEAVES = ("query", "key", "harmonics", "value", "chemical", "geometric", "logits", "envelope")


def by_name(problem: Problem) -> str:
    return problem.name


def leaves(problem: Problem) -> Inputs:
    """Inputs of which every floating-point tensor asks for gradients."""
    inputs = draw(problem)
    return inputs._replace(**{name: getattr(inputs, name).requires_grad_() for name in LEAVES})


OPERATIONS: dict[str, tuple[tuple[str, ...], Callable[..., Tensor]]] = {
    "degree_dots": (("query", "key"), lambda ops, i: ops.degree_dots(i.query, i.key, i.around)),
    "harmonic_dots": (
        ("query", "harmonics"),
        lambda ops, i: ops.harmonic_dots(i.query[..., 0], i.harmonics, i.around),
    ),
    "light_message": (
        ("value", "chemical", "geometric", "harmonics"),
        lambda ops, i: ops.light_message(i.value, i.chemical, i.geometric, i.harmonics, i.neighbor, i.around),
    ),
    "enveloped_softmax": (
        ("logits", "envelope"),
        lambda ops, i: enveloped_softmax(i.logits, i.envelope, i.around),
    ),
}


@pytest.mark.parametrize("problem", WITH_EDGES, ids=by_name)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_tables_and_lists_agree(operation: str, problem: Problem) -> None:
    """Same values, first and second derivatives at 1e-12, also where the table has rows without an edge."""
    names, call = OPERATIONS[operation]
    results = []
    for as_padded in (False, True):
        inputs = leaves(problem)
        given = [getattr(inputs, name) for name in names]
        if as_padded:
            padded, row = as_table(inputs)
            out = call(table, padded)
            out = out if operation == "light_message" else out[row]
        else:
            out = call(reference, inputs)
        # Weights of every entry differ, so that a swap of two entries cannot cancel.
        weights = torch.linspace(0.5, 1.5, out.numel(), dtype=out.dtype).view_as(out)
        first = torch.autograd.grad((weights * out.square()).sum(), given, create_graph=True)
        second = torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), given)
        results.append((out, *first, *second))
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-12 * float(1 + theirs.detach().abs().max()))


@pytest.mark.parametrize("problem", SMALL, ids=by_name)
def test_reference_against_loops(problem: Problem) -> None:
    """The specification itself, written out edge by edge and degree by degree."""
    i = draw(problem)
    dots = torch.zeros(problem.n_edges, problem.heads, problem.l_max + 1, dtype=torch.float64)
    along, message = dots.clone(), torch.zeros_like(i.value)
    for e, (center, neighbor) in enumerate(zip(i.around.center.tolist(), i.neighbor.tolist(), strict=True)):
        for degree in range(problem.l_max + 1):
            rows = slice(degree**2, (degree + 1) ** 2)
            dots[e, :, degree] = (i.query[center, rows] * i.key[e, rows]).sum((0, 2))
            along[e, :, degree] = (i.query[center, rows, :, 0] * i.harmonics[e, rows, None]).sum(0)
            message[center, rows] += i.chemical[e, degree] * i.value[neighbor, rows]
            message[center, rows] += i.harmonics[e, rows, None] * (i.geometric[e, degree] * i.value[neighbor, 0])
    for operation, expected in (("degree_dots", dots), ("harmonic_dots", along), ("light_message", message)):
        assert torch.allclose(OPERATIONS[operation][1](reference, i), expected, atol=1e-12)


@pytest.mark.parametrize("problem", SMALL, ids=by_name)
def test_segments_on_every_problem(problem: Problem) -> None:
    """Sum, mean and maximum equal a Python loop, 0 where a center has no edge."""
    i = draw(problem)
    for center in range(problem.n_atoms):
        mine = [i.logits[e] for e in range(problem.n_edges) if i.around.center[e] == center]
        nothing = torch.zeros(problem.heads, dtype=torch.float64)
        total, peak = (torch.stack(mine).sum(0), torch.stack(mine).amax(0)) if mine else (nothing, nothing)
        arguments = (i.logits, i.around.center, problem.n_atoms)
        assert torch.allclose(segment_sum(*arguments)[center], total, atol=1e-14)
        assert torch.allclose(segment_mean(*arguments)[center], total / max(len(mine), 1), atol=1e-14)
        assert torch.equal(segment_max(*arguments)[center], peak)


@pytest.mark.parametrize("problem", SMALL, ids=by_name)
def test_softmax_with_the_null_key(problem: Problem) -> None:
    """α = u eᵃ / (1 + Σ u eᵃ) edge by edge, below 1 in sum for each center and head."""
    i = draw(problem)
    weights = enveloped_softmax(i.logits, i.envelope, i.around)
    raw = i.envelope[:, None] * i.logits.exp()
    for e, center in enumerate(i.around.center.tolist()):
        mine = raw[i.around.center == center].sum(0)
        assert torch.allclose(weights[e], raw[e] / (1 + mine), atol=1e-14)
    assert (i.around.sum(weights) < 1).all()


def test_null_key_takes_what_is_left() -> None:
    """A lone neighbour of logit 0 and envelope 1 shares evenly with the null key; a hopeless one leaves it all."""
    around, one = Neighborhoods(torch.tensor([0]), 1), torch.ones(1, dtype=torch.float64)
    assert enveloped_softmax(0 * one[:, None], one, around).item() == pytest.approx(0.5, abs=1e-15)
    assert enveloped_softmax(-500 * one[:, None], one, around).item() < 1e-200


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [80.0, 500.0, 1e4])
@pytest.mark.parametrize("as_padded", [False, True])
def test_softmax_survives_huge_logits(dtype: torch.dtype, size: float, as_padded: bool) -> None:
    """Values, first and second derivatives finite, and an edge that weighs nothing never drowns those that do."""
    inputs = draw(Problem("uneven", (2, 3, 1), 1, 2, 2, 1), dtype=dtype)
    inputs = as_table(inputs)[0] if as_padded else inputs
    real = (inputs.envelope > 0).nonzero()[:, 0].tolist()
    logits, envelope = torch.full_like(inputs.logits, size), inputs.envelope.clone()
    logits[real[0]], logits[real[1]] = -size, 1.0
    envelope[real[2]] = 0.0  # the first neighbour of the second center: weightless, with the largest logit
    logits[real[3]], logits[real[4]] = -1.0, 0.5
    logits, envelope = logits.requires_grad_(), envelope.requires_grad_()
    weights = enveloped_softmax(logits, envelope, inputs.around)
    first = torch.autograd.grad(weights.square().sum(), (logits, envelope), create_graph=True)
    second = torch.autograd.grad(first[0].square().sum(), (logits, envelope))
    assert all(t.isfinite().all() for t in (weights, *first, *second))
    assert (weights[envelope == 0] == 0).all()
    share = envelope[real[3:5], None] * logits[real[3:5]].exp()
    assert torch.allclose(weights[real[3:5]], share / (1 + share.sum(0)), rtol=1e-5)


@pytest.mark.parametrize("problem", [WITH_EDGES[0], WITH_EDGES[3], WITH_EDGES[4]], ids=by_name)
def test_softmax_has_two_derivatives(problem: Problem) -> None:
    """By finite differences, in logits and envelope together."""
    i = leaves(problem)
    assert torch.autograd.gradcheck(lambda a, u: enveloped_softmax(a, u, i.around), (i.logits, i.envelope))
    assert torch.autograd.gradgradcheck(lambda a, u: enveloped_softmax(a, u, i.around), (i.logits, i.envelope))


@pytest.mark.parametrize("problem", [*SMALL, LARGE[0]], ids=by_name)
def test_problems_are_what_they_say(problem: Problem) -> None:
    """The same seed gives the same numbers; edges are sorted by center and counted as asked."""
    one, again, other = draw(problem), draw(problem), draw(problem, seed=1)
    assert all(torch.equal(getattr(one, name), getattr(again, name)) for name in LEAVES)
    assert not torch.equal(one.value, other.value)
    assert torch.bincount(one.around.center, minlength=problem.n_atoms).tolist() == list(problem.edges)
    assert (one.around.center.diff() >= 0).all()


def test_layout_decides_the_implementation() -> None:
    """Tables are served by `table`, lists by `reference`; no edges, no table."""
    assert message_pieces(draw(SMALL[0]).around) is reference.LISTS
    assert message_pieces(as_table(draw(SMALL[0]))[0].around) is table.TABLES
    with pytest.raises(ValueError, match="no table"):
        as_table(draw(SMALL[-2]))
