"""Compiled steps: the numbers of the step as it stands, one program for all sizes, and words where there is none."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.md.verlet import VelocityVerlet
from compilers import COMPILER
from torch import Tensor

from mlanet import compiled
from mlanet.calculator import MLANetCalculator
from mlanet.compiled import CompiledPotential, CompileError
from mlanet.config import parse
from mlanet.data.atoms import to_graph
from mlanet.errors import UnsupportedElementError
from mlanet.graph import AtomicGraph, Labels, Prediction, batch_graphs
from mlanet.models import ModelConfig
from mlanet.potential import Potential
from mlanet.statistics import Statistics
from mlanet.training.config import LossConfig
from mlanet.training.processes import Processes
from mlanet.training.step import Gradient

pytestmark = pytest.mark.filterwarnings("error:(this step|a compiled step)")

STATISTICS = Statistics((6, 8, 14), (-10.0, -3.0, -20.0), (1.0, 1.5, 1.0), 12.0)
MLANET = {"model": "mlanet", "irreps": "8x0e+8x1o", "layers": 1, "heads": 2, "hidden": 8, "cutoff": 4.0}
LEIGNN = {"model": "leignn", "channels": 8, "layers": 1, "cutoff": 4.0}
DEEP = {**MLANET, "irreps": "8x0e+8x1o+8x2e", "layers": 2, "gate_channels": 4, "radial_hidden": [8]}
DEEP |= {"combine": "sum", "repulsion": "zbl", "charge": "total"}
MODELS: dict[str, tuple[dict[str, object], str]] = {
    "plain": (MLANET, "plain"),
    "fused": (MLANET, "fused"),
    "deep": (DEEP, "fused"),
    "full, fused": ({**MLANET, "layers": 2, "message": "full"}, "fused"),
    "products on edges": ({**MLANET, "attention": "fctp", "message": "full"}, "plain"),
    "direct": ({**MLANET, "forces": "direct"}, "fused"),
    "leignn": ({**LEIGNN, "layers": 2}, "plain"),
    "leignn, fused": (LEIGNN, "fused"),
    "leignn, global node": ({**LEIGNN, "global_node": True}, "fused"),
}
"""Small ones: what takes time is to trace, which goes by the number of operators."""

QUICK, LONG = ("fused", "leignn, fused"), ("products on edges",)


def named(*names: str) -> list[object]:
    """As parameters, those that take long to trace marked."""
    marks = {one: pytest.mark.long if one in LONG else pytest.mark.slow for one in names if one not in QUICK}
    return [pytest.param(one, marks=marks.get(one, ())) for one in names]


def build(name: str, dtype: torch.dtype = torch.float64) -> Potential:
    torch.manual_seed(0)
    config, kernels = MODELS[name]
    potential = Potential.build(parse(config, ModelConfig, "test"), STATISTICS).to(dtype=dtype)
    return potential.with_kernels(kernels).eval()


def crystal(repeat: int, seed: int = 0) -> Atoms:
    atoms = bulk("Si", "diamond", a=5.43, cubic=True) * (repeat, 1, 1)
    atoms.rattle(0.1, seed=seed)
    return atoms


def graph(*structures: Atoms) -> AtomicGraph:
    return batch_graphs([to_graph(one, 4.0) for one in structures])


@pytest.fixture
def traced_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs run operator by operator: what the tracer wrote down, without a minute of compiling."""
    monkeypatch.setattr(compiled, "_machine_code", lambda traced: traced)


@pytest.fixture
def inductor() -> Iterator[None]:
    """Torch's compiler takes `CXX` for the name of a program, without the arguments that the tests give it."""
    import torch._inductor.config as settings

    with settings.patch({"cpp.cxx": (None, COMPILER)}):
        yield


def assert_same(found: Prediction, expected: Prediction, tolerance: float = 1e-11) -> None:
    for field in dataclasses.fields(expected):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        assert (one is None) == (other is None)
        if other is not None:
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("name", named("plain", "deep", "direct", "leignn, fused", "leignn, global node"))
def test_one_program_for_all_sizes(name: str, traced_only: None) -> None:
    """Crystals of 8 to 24 atoms by one program, batches with molecules by another; all as the potential itself, with
    the weights as they are when it runs.

    Other models are traced for gradients only, which is more."""
    potential = build(name)
    step = CompiledPotential(potential)
    for repeat in (2, 1, 3):
        assert_same(step(graph(crystal(repeat))), potential(graph(crystal(repeat))))
    assert step.programs == 1
    batches = [(crystal(1), molecule("CO2")), (molecule("CO"), crystal(2, 1), molecule("CO2"), crystal(1, 3))]
    for batch in batches:
        assert_same(step(graph(*batch)), potential(graph(*batch)))
    given = graph(*batches[0])
    before = step(given)
    with torch.no_grad():
        for one in potential.parameters():
            one.mul_(1.1)
    assert_same(step(given), potential(given))
    assert not torch.allclose(before.energy, step(given).energy)
    assert step.programs == 2


@pytest.mark.long
def test_compiled_for_good(inductor: None) -> None:
    """Machine code by torch's Inductor in float32, for two sizes."""
    potential = build("fused", torch.float32)
    step = CompiledPotential(potential)
    for repeat in (2, 1):
        found, expected = step(graph(crystal(repeat))), potential(graph(crystal(repeat)))
        scale = float(expected.forces.abs().max())
        assert float((found.forces - expected.forces).abs().max()) < 1e-5 * scale and scale > 1e-3
    assert step.programs == 1


def test_what_is_too_small_or_unknown(traced_only: None) -> None:
    """Lone atoms and single pairs are answered as ever; unknown elements refused as ever."""
    potential = build("fused")
    step = CompiledPotential(potential)
    for few in (Atoms("Si"), Atoms("Si2", [[0, 0, 0], [0, 0, 9]])):
        assert_same(step(graph(few)), potential(graph(few)))
    assert step.programs == 0
    with pytest.raises(UnsupportedElementError, match="Fe"):
        step(graph(bulk("Fe", cubic=True)))


def test_wrong_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that differs is not used."""
    monkeypatch.setattr(
        compiled, "_machine_code", lambda traced: lambda *given: [1.001 * one for one in traced(*given)]
    )
    with pytest.raises(CompileError, match=r"differs by 1\.0e-03"):
        CompiledPotential(build("leignn, fused"))(graph(crystal(1)))


def test_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it raises, and whenever, becomes words."""
    calls = []

    def code(traced: torch.fx.GraphModule) -> Callable[..., Sequence[Tensor]]:
        def run(*given: Tensor) -> Sequence[Tensor]:
            calls.append(1)
            if len(calls) > 2:
                raise RuntimeError("no space left on device")
            found: Sequence[Tensor] = traced(*given)
            return found

        return run

    monkeypatch.setattr(compiled, "_machine_code", code)
    step = CompiledPotential(build("leignn, fused"))
    step(graph(crystal(1)))
    with pytest.raises(CompileError, match="RuntimeError: no space left on device"):
        step(graph(crystal(1)))


def test_what_cannot_be_traced(traced_only: None) -> None:
    """A cap on the neighbours asks for numbers: the error says that it cannot be compiled."""
    torch.manual_seed(0)
    config = parse({**LEIGNN, "neighbor_cap": 6}, ModelConfig, "test")
    with pytest.raises(CompileError, match="cannot be compiled"):
        CompiledPotential(Potential.build(config, STATISTICS).eval())(graph(crystal(1)))


def labels(given: AtomicGraph) -> Labels:
    """Some energies, forces and stresses, with holes."""
    generator = torch.Generator().manual_seed(1)

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64)

    found = Labels(normal(given.charge), normal(given.positions), normal(given.cell))
    found.energy[0], found.forces[2:5], found.stress[-1] = torch.nan, torch.nan, torch.nan
    return found


@pytest.mark.parametrize("name", named(*(name for name in MODELS if name != "direct")))
def test_gradients_of_a_training_step(name: str, traced_only: None) -> None:
    """The same loss and the same gradient of every weight, for two batches by one program; late energies weigh more."""
    potential = build(name).train()
    parameters = list(potential.parameters())
    config, alone = LossConfig(kind="huber"), Processes("cpu")
    by_program = Gradient(potential, parameters, config, alone, compiled=True)
    as_it_stands = Gradient(potential, parameters, config, alone, compiled=False)
    for factor, batch in ((1.0, [crystal(1), molecule("CO2")]), (5.0, [molecule("CO"), crystal(2), crystal(1, 4)])):
        answers = []
        for gradient in (by_program, as_it_stands):
            potential.zero_grad(set_to_none=True)
            given = graph(*batch)
            value = gradient(given, labels(given), factor)
            answers.append([value, *(one.grad for one in parameters)])
        assert float(answers[0][0]) > 0 and len([one for one in answers[0] if one is not None]) > len(parameters) // 2
        for one, other in zip(*answers, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.long
def test_a_training_step_compiled_for_good(inductor: None) -> None:
    """Machine code in float32: loss and gradients of two batches, to what float32 holds. Four minutes of a compiler.

    Torch compiles once more for the first batch of more than some 25 atoms; both have more."""
    potential = build("leignn, fused", torch.float32).train()
    parameters = list(potential.parameters())
    by_program, as_it_stands = (
        Gradient(potential, parameters, LossConfig(), Processes("cpu"), compiled=wanted) for wanted in (True, False)
    )
    for batch in ([crystal(3), molecule("CO2")], [molecule("CO"), crystal(2), crystal(2, 4)]):
        given = graph(*batch).to(dtype=torch.float32)
        slopes = []
        for gradient in (by_program, as_it_stands):
            potential.zero_grad(set_to_none=True)
            value = gradient(given, labels(given).to(dtype=torch.float32), 1.0)
            slopes.append([value, *(one.grad for one in parameters if one.grad is not None)])
        largest = max(float(one.abs().max()) for one in slopes[1][1:])
        assert len(slopes[0]) == len(slopes[1]) > 10 and largest > 1e-3
        for one, other in zip(*slopes, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * largest)


def test_a_size_that_is_frozen(traced_only: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program for each size is no way to go on: after a few it is given up, in words."""
    potential = build("leignn, fused")
    answer = potential.answer
    monkeypatch.setattr(potential, "answer", lambda given: (len(given.positions), answer(given))[1])
    step = CompiledPotential(potential)
    monkeypatch.setattr(compiled, "PROGRAMS_AT_MOST", 2)
    for repeat in (1, 2):
        step(graph(crystal(repeat)))
    assert step.programs == 2
    with pytest.raises(CompileError, match="2 programs do not serve"):
        step(graph(crystal(3)))


def test_training_goes_on_without(traced_only: None) -> None:
    """A model that cannot be traced: a warning, and the gradient all the same."""
    torch.manual_seed(0)
    potential = Potential.build(parse({**LEIGNN, "neighbor_cap": 6}, ModelConfig, "test"), STATISTICS).train()
    gradient = Gradient(potential, list(potential.parameters()), LossConfig(), Processes("cpu"), compiled=True)
    given = graph(crystal(1)).to(dtype=torch.float32)
    with pytest.warns(UserWarning, match="cannot be compiled .* goes on without"):
        gradient(given, labels(given).to(dtype=torch.float32), 1.0)
    assert any(one.grad is not None and bool(one.grad.any()) for one in potential.parameters())


def test_dynamics(traced_only: None) -> None:
    """The same trajectory with and without, through new neighbour lists; a copy of the calculator compiles anew."""
    courses = []
    for wanted in (False, True):
        atoms = crystal(1)
        atoms.calc = MLANetCalculator(build("leignn, fused"), skin=0.3, kernels="fused", compiled=wanted)
        VelocityVerlet(atoms, 2.0 * units.fs).run(20)
        courses.append(atoms.positions.copy())
    np.testing.assert_allclose(courses[0], courses[1], atol=1e-9)
    assert np.abs(courses[0] - crystal(1).positions).max() > 1e-3
    assert atoms.calc.steps.compiled is not None and atoms.calc.steps.compiled.programs == 1
    again = pickle.loads(pickle.dumps(atoms.calc))
    assert again.potential.model.kernels == "fused"
    assert again.get_potential_energy(atoms) == pytest.approx(atoms.get_potential_energy(), abs=1e-9)


def test_a_calculator_goes_on_without(traced_only: None) -> None:
    """One warning, then the potential itself."""
    torch.manual_seed(0)
    potential = Potential.build(parse({**LEIGNN, "neighbor_cap": 6}, ModelConfig, "test"), STATISTICS)
    atoms = crystal(1)
    atoms.calc = MLANetCalculator(potential, compiled=True)
    with pytest.warns(UserWarning, match="computed as they are"):
        atoms.get_forces()
    atoms.rattle(0.01)
    assert np.isfinite(atoms.get_forces()).all()
