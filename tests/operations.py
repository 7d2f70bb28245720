"""Problems for the fused operations, and what two ways to compute one must agree on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mlanet.ops.message.reference import MessageShape
from mlanet.ops.rows import Rows


@dataclass(frozen=True)
class Case:
    """Sizes of one problem; `degrees`: edges of each center; `layers`: hidden widths of the radial network."""

    degrees: tuple[int, ...]
    l_max: int
    channels: int = 4
    heads: int = 2
    key_dim: int = 2
    hidden: int = 3
    layers: tuple[int, ...] = (5,)
    chemical_scale: float = 0.0
    functions: int = 3
    full: bool = False
    gate_channels: int = 1
    envelope_once: bool = False


CASES = {
    "even": Case((4,) * 6, 1),
    "even sum": Case((4,) * 6, 2, chemical_scale=0.3),
    "uneven l3": Case((1, 5, 0, 3, 2), 3),
    "uneven sum": Case((0, 7, 2), 1, chemical_scale=0.7),
    "own images": Case((6,), 2, heads=1),
    "one edge": Case((0, 1), 1),
    "no edges": Case((0, 0, 0), 2),
    "whole vectors": Case((9, 70, 130), 3, channels=32, heads=4, key_dim=4, hidden=32, layers=(16,), functions=8),
    "odd widths": Case((11, 3), 2, channels=20, heads=5, key_dim=3, hidden=7, layers=(9, 17)),
    "linear filters": Case((5, 2, 4), 2, layers=()),
    "full l1": Case((5, 0, 4), 1, full=True),
    "full l2": Case((3, 9), 2, channels=20, full=True),
    "full l3": Case((3, 130), 3, channels=16, full=True),
    "three layers": Case((5, 2, 4), 1, layers=(4, 6, 5), chemical_scale=0.2),
    "gates of two": Case((70, 0, 9), 2, channels=20, heads=5, gate_channels=2),
    "gates of two, sum": Case((4,) * 6, 1, gate_channels=2, chemical_scale=0.3),
    "gates of three": Case((5, 2), 1, channels=54, heads=3, gate_channels=3),
    "gates of four": Case((9, 130), 3, channels=64, heads=4, hidden=32, layers=(), gate_channels=4),
    "gates across heads": Case((3, 7), 2, channels=20, heads=10, gate_channels=4),
    "full gates of two": Case((3, 70), 2, channels=20, full=True, gate_channels=2),
    "full gates of four": Case((5, 0, 4), 3, channels=12, heads=3, full=True, gate_channels=4),
    "envelope once": Case((5, 0, 70), 2, channels=20, gate_channels=2, envelope_once=True),
    "envelope once, sum": Case((4, 9), 1, chemical_scale=0.3, envelope_once=True),
    "envelope once, full": Case((3, 70), 2, channels=20, full=True, envelope_once=True),
    "no heads": Case((5, 0, 70), 2, channels=20, heads=0, gate_channels=2),
    "no heads, sum": Case((4, 9), 1, heads=0, chemical_scale=0.3),
    "no heads, full": Case((3, 70), 2, channels=20, heads=0, full=True),
}


def draw(shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Normal numbers, the same in both precisions."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


def rows_of(degrees: Sequence[int], generator: torch.Generator) -> Rows:
    """Neighbours at random, a center itself among them."""
    n, counts = len(degrees), torch.tensor(degrees)
    start = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    return Rows(torch.randint(n, (int(counts.sum()),), generator=generator), start)


def envelope_of(rows: Rows, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Between 0 and 1, every fifth exactly 0."""
    envelope = torch.rand(len(rows.neighbor), generator=generator, dtype=torch.float64)
    envelope[2::5] = 0.0
    return envelope.to(dtype).requires_grad_()


def message_problem(
    case: Case, dtype: torch.dtype = torch.float64
) -> tuple[MessageShape, Rows, list[Tensor], list[Tensor]]:
    """Shape, edges, inputs and weights of a message."""
    generator = torch.Generator().manual_seed(case.l_max)
    rows = rows_of(case.degrees, generator)
    n, edges, m = len(case.degrees), len(rows.neighbor), (case.l_max + 1) ** 2
    gates = (case.l_max + 1) * case.channels // case.gate_channels
    keys, logits = case.heads * case.key_dim, case.heads * (2 * case.l_max + 2)
    sizes = [(n, m, case.channels), (n, m, keys), (n, case.hidden), (n, m, keys), (n, case.hidden), (n,)]
    inputs = [draw(size, generator, dtype) for size in sizes] + [envelope_of(rows, generator, dtype)]
    inputs += [draw(size, generator, dtype) for size in ((edges, case.functions), (edges, m))]
    scales = {"chemical_scale": case.chemical_scale, "uniform_scale": 0.0 if case.heads else 0.4}
    scales |= {"envelope_once": case.envelope_once}
    shape = MessageShape(
        case.l_max, case.heads, case.key_dim, full=case.full, gate_channels=case.gate_channels, **scales
    )
    widths = (case.functions, *case.layers, shape.radial_groups * case.channels)
    sizes = [(case.functions, case.hidden), (gates, case.hidden), (gates,), (logits, case.hidden), (logits,)]
    weights = [draw(size, generator, dtype) for size in (*sizes, (case.heads,), *itertools.pairwise(widths))]
    weights = [(one.detach() * 0.3).requires_grad_() for one in weights]
    return shape, rows, inputs, weights


def derivatives(
    call: Callable[[], Tensor], inputs: Sequence[Tensor], weights: Sequence[Tensor], envelope: int
) -> list[Tensor]:
    """Value, gradients of a loss on it, and of a loss on its gradients for the inputs, as force training needs them.

    What the gradients say of an envelope (or a number of a basis) that is 0 is left out: such an edge is absent.
    """
    there = (inputs[envelope] != 0).to(inputs[envelope].dtype)

    def seen(found: Sequence[Tensor]) -> list[Tensor]:
        return [one * there if index == envelope else one for index, one in enumerate(found)]

    def grad(of: Tensor, places: Sequence[Tensor], again: bool = False) -> list[Tensor]:
        return seen(torch.autograd.grad(of, places, create_graph=again, allow_unused=True, materialize_grads=True))

    out = call()
    plain = grad(out.square().sum(), [*inputs, *weights])
    first = grad(call().square().sum(), inputs, again=True)
    second = grad(call().sum() + torch.stack([one.square().sum() for one in first]).sum(), [*inputs, *weights])
    return [one.detach() for one in (out, *plain, *first, *second)]


def assert_same(found: Sequence[Tensor], wanted: Sequence[Tensor], tolerance: float) -> None:
    """Relative to the largest entry of each."""
    for index, (one, other) in enumerate(zip(found, wanted, strict=True)):
        scale = float(other.abs().max()) if other.numel() else 0.0
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance * max(scale, 1e-3), msg=lambda m: f"{index}: {m}")  # noqa: B023
