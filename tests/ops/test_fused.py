"""The message in blocks is the message: values, first and second derivatives, in the function and in whole models."""

from __future__ import annotations

import shutil

import pytest
import torch
from systems import SPECIES, slab, triclinic
from torch import Tensor

from mlanet.config import preset_names
from mlanet.data.atoms import to_graph
from mlanet.errors import ConfigError
from mlanet.kernels import use_kernels
from mlanet.memory import peak_bytes
from mlanet.models import read_model_config
from mlanet.ops import fused
from mlanet.ops.block import BlockInputs, BlockShape, BlockWeights, message
from mlanet.ops.fused import Plan, fused_message
from mlanet.potential import Potential
from mlanet.profiling.subject import configuration
from mlanet.profiling.systems import system
from mlanet.statistics import Statistics


def problem(l_max: int, chemical_scale: float) -> tuple[BlockShape, Tensor, list[Tensor], list[Tensor]]:
    """Seven centers with four rows each, one of them without neighbours; cut into blocks of two."""
    generator = torch.Generator().manual_seed(l_max)
    n, degree, channels, heads, width, hidden, functions = 7, 4, 4, 2, 2, 3, 3
    rows = (l_max + 1) ** 2

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    envelope = torch.rand(n, degree, generator=generator, dtype=torch.float64)
    envelope[3], envelope[5, 2] = 0.0, 0.0
    inputs = [draw(n, rows, channels), draw(n, rows, heads * width), draw(n, hidden)]
    inputs += [draw(n, rows, heads * width), draw(n, hidden), draw(n)]
    inputs += [envelope.requires_grad_(), draw(n, degree, functions), draw(n, degree, rows)]
    out = channels * (l_max + 1)
    weights = [draw(functions, hidden), draw(out, hidden), draw(out), draw(heads * (2 * l_max + 2), hidden)]
    weights += [draw(heads * (2 * l_max + 2)), draw(heads), draw(functions, 5), draw(5, 2 * out)]
    neighbor = torch.randint(n, (n, degree), generator=generator)
    return BlockShape(l_max, heads, width, chemical_scale), neighbor, inputs, weights


def at_once(shape: BlockShape, neighbor: Tensor, inputs: list[Tensor], weights: list[Tensor]) -> Tensor:
    """Without blocks, differentiated by torch."""
    gathered = [one[neighbor] for one in inputs[:3]]
    return message(shape, BlockInputs(*gathered, *inputs[3:]), BlockWeights.of(weights))


def in_blocks(shape: BlockShape, neighbor: Tensor, inputs: list[Tensor], weights: list[Tensor]) -> Tensor:
    return fused_message(Plan(shape, neighbor, 2, False), inputs, BlockWeights.of(weights))


@pytest.mark.parametrize("chemical_scale", [0.0, 0.3])
@pytest.mark.parametrize("l_max", [1, 2, 3])
def test_blocks_agree_through_second_derivatives(l_max: int, chemical_scale: float) -> None:
    """A force-like loss on the first derivatives has the same gradients in all inputs and weights."""
    shape, neighbor, inputs, weights = problem(l_max, chemical_scale)
    results = []
    for call in (at_once, in_blocks):
        out = call(shape, neighbor, inputs, weights)
        first = torch.autograd.grad(out.square().sum(), [*inputs, *weights], create_graph=True)
        loss = out.sum() + sum(one.square().sum() for one in first)
        results.append([out, *first, *torch.autograd.grad(loss, [*inputs, *weights])])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-11, atol=1e-11 * float(one.detach().abs().max()))


def test_derivatives_are_those_of_the_values() -> None:
    """Finite differences, first and second, through all blocks."""
    shape, neighbor, inputs, weights = problem(1, 0.0)
    tensors = [*inputs, *weights]

    def call(*given: Tensor) -> Tensor:
        return in_blocks(shape, neighbor, list(given[:9]), list(given[9:]))

    smooth = [one.detach() if index == 6 else one for index, one in enumerate(tensors)]  # u = 0 is an edge of where()
    assert torch.autograd.gradcheck(call, smooth, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, smooth, fast_mode=True)


FUSED = [
    name
    for name in preset_names()
    if name.startswith("mlanet") and (c := read_model_config(name)).message == "light" and c.attention == "tp_dot"
]


def answers(potential: Potential, kernels: str) -> list[Tensor]:
    """Results and parameter gradients of a loss on all of them, on a crystal and a slab in one batch."""
    from mlanet.graph import batch_graphs

    graph = batch_graphs([to_graph(atoms, potential.cutoff) for atoms in (triclinic(), slab())])
    found = potential.with_kernels(kernels).train()(graph)
    loss = found.energy.square().sum() + found.forces.square().sum() + found.stress.nan_to_num().square().sum()
    slopes = torch.autograd.grad(loss, list(potential.parameters()), allow_unused=True, materialize_grads=True)
    return [found.energy.detach(), found.forces.detach(), found.stress.nan_to_num().detach(), *slopes]


@pytest.mark.parametrize("preset", FUSED)
def test_models_give_the_same_in_blocks(preset: str) -> None:
    """Energy, forces, stress and every gradient of the weights, for every preset that can."""
    torch.manual_seed(0)
    potential = Potential.build(read_model_config(preset), Statistics.unit(SPECIES, 40.0)).double()
    plain, blocks = (answers(potential, kernels) for kernels in ("plain", "blocks"))
    for one, other in zip(plain, blocks, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-10 * max(1.0, float(one.abs().max())))


def test_memory_does_not_grow_with_edges() -> None:
    """Training a layer in blocks needs less than a third of the memory, and hardly more for twice the neighbours."""
    potential = Potential.build(read_model_config("mlanet_l2"), Statistics.unit((3, 8, 27), 75.0)).float()
    graph = to_graph(system("LiCoO2:48"), potential.cutoff).to(dtype=torch.float32)

    def run() -> None:
        found = potential(graph)
        (found.energy.sum() + found.forces.square().sum()).backward()
        potential.zero_grad(set_to_none=True)

    peaks = {}
    for kernels in ("plain", "blocks"):
        potential.with_kernels(kernels)
        run()
        peaks[kernels] = peak_bytes(run)
    assert peaks["blocks"] < peaks["plain"] / 3


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.slow
def test_compiled_kernels_are_checked_and_agree() -> None:
    """Compiled for a small model: the comparison at the start, through the gradients of a training step, passes."""
    torch.manual_seed(0)
    config = configuration("mlanet_l1:irreps=8x0e+8x1o,layers=1,heads=2")
    potential = Potential.build(config, Statistics.unit(SPECIES, 40.0)).double()
    assert use_kernels(potential, "compiled").model.kernels == "compiled"


def test_wrong_kernels_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that give other numbers, or cannot be made, are an error that says so; the plain ones stay."""
    potential = Potential.build(configuration("mlanet_l1:irreps=8x0e+8x1o,layers=1"), Statistics.unit(SPECIES)).double()

    def wrong(self, function, static, arguments):  # type: ignore[no-untyped-def]
        found = function(*static, *arguments)
        return found * 1.001 if isinstance(found, Tensor) else found

    monkeypatch.setattr(fused.Kernels, "run", wrong)
    with pytest.raises(ConfigError, match="compiled gives other numbers than plain: energy differs"):
        use_kernels(potential, "compiled")
    assert potential.model.kernels == "plain"

    def impossible(*_: object) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(fused.Kernels, "run", impossible)
    with pytest.raises(ConfigError, match=r"cannot be made here .*no compiler.* `blocks` needs none"):
        use_kernels(potential, "compiled")
    assert potential.model.kernels == "plain"


@pytest.mark.parametrize(
    ("name", "kernels"), [("mlanet_l2_full", "blocks"), ("leignn", "compiled"), ("mlanet_l1", "x")]
)
def test_kernels_that_a_model_has_not(name: str, kernels: str) -> None:
    """Are refused with what is missing."""
    potential = Potential.build(read_model_config(name), Statistics.unit(SPECIES))
    with pytest.raises(ConfigError, match="kernels"):
        potential.with_kernels(kernels)
