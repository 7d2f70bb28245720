"""Matrix products in fewer digits: on request, only where they exist, and with what they cost said once."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from ase.build import bulk

from mlanet.calculator import MLANetCalculator
from mlanet.config import parse
from mlanet.data.atoms import to_graph
from mlanet.errors import ConfigError
from mlanet.graph import AtomicGraph, Labels, Prediction, batch_graphs
from mlanet.models import ModelConfig
from mlanet.ops.digits import SETTING
from mlanet.potential import Potential
from mlanet.precision import HOME, MatmulCost, _has_effect, cost, use_matmul
from mlanet.statistics import Statistics
from mlanet.training.config import LossConfig
from mlanet.training.processes import Processes
from mlanet.training.step import Gradient

MODEL = {"model": "mlanet", "irreps": "32x0e+32x1o", "layers": 1, "heads": 2, "hidden": 32, "cutoff": 4.0}


def potential(dtype: torch.dtype = torch.float32) -> Potential:
    torch.manual_seed(0)
    statistics = Statistics((14,), (-20.0,), (1.0,), 12.0)
    return Potential.build(parse(MODEL, ModelConfig, "test"), statistics).to(dtype=dtype).eval()


def silicon() -> AtomicGraph:
    atoms = bulk("Si", "diamond", a=5.43, cubic=True)
    atoms.rattle(0.1, seed=1)
    return batch_graphs([to_graph(atoms, 4.0), to_graph(atoms * (2, 1, 1), 4.0)])


pytestmark = pytest.mark.filterwarnings("error:(this step|a compiled step)")


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """`tf32` stands for the fewer digits that this CPU has: torch's "medium", where it has AMX or AVX512-BF16."""
    monkeypatch.setitem(SETTING, "tf32", "medium")
    monkeypatch.setitem(HOME, "tf32", "cpu")
    if not _has_effect("tf32", torch.device("cpu")):
        pytest.skip("needs a CPU with products of fewer digits")


@pytest.mark.usefixtures("on_cpu")
def test_fewer_digits_and_what_they_cost() -> None:
    """The answer changes, by what is told, once, and torch's setting is as before."""
    told: list[MatmulCost] = []
    exact, given = potential()(silicon()), silicon()
    coarse = use_matmul(potential(), "tf32", told.append)
    found = coarse(given)
    coarse(given)
    assert torch.get_float32_matmul_precision() == "highest"
    (said,) = told
    assert said == cost("tf32", found, exact, given)
    largest = float((found.forces - exact.forces).abs().max())
    assert said.forces == pytest.approx(1e3 * largest)
    assert 0 < largest < 0.1 * float(exact.forces.abs().max())
    assert said.energy > 0 and said.stress > 0 and "tf32" in str(said)


@pytest.mark.usefixtures("on_cpu")
def test_a_calculator_says_it() -> None:
    """After its first calculation, and a copy says it again."""
    atoms = bulk("Si", "diamond", a=5.43, cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.calc = MLANetCalculator(potential(), kernels="plain", matmul="tf32")
    assert atoms.calc.matmul_cost is None
    forces = atoms.get_forces()
    assert atoms.calc.matmul_cost is not None and atoms.calc.matmul_cost.forces > 0
    again = pickle.loads(pickle.dumps(atoms.calc))
    assert (again.get_forces(atoms) == forces).all() and again.parameters["matmul"] == "tf32"
    assert MLANetCalculator(potential()).matmul_cost is None


@pytest.mark.usefixtures("on_cpu")
def test_a_compiled_calculator_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its program is compared in float32 and run in fewer digits."""
    monkeypatch.setattr("mlanet.compiled._machine_code", lambda traced: traced)
    atoms = bulk("Si", "diamond", a=5.43, cubic=True)
    atoms.rattle(0.1, seed=1)
    exact = MLANetCalculator(potential()).get_forces(atoms)
    atoms.calc = MLANetCalculator(potential(), kernels="plain", matmul="tf32", compiled=True)
    apart = np.abs(atoms.get_forces() - exact).max()
    assert atoms.calc.steps.compiled is not None and atoms.calc.steps.compiled.programs == 1
    assert atoms.calc.matmul_cost is not None
    assert 0.2 < 1e3 * apart / atoms.calc.matmul_cost.forces < 5


def test_what_the_cost_is() -> None:
    """Energy by atom, the largest force component, stress in GPa where it is defined."""
    graph = silicon()
    zeros = Prediction(torch.zeros(2), torch.zeros(24, 3), torch.zeros(2, 3, 3), torch.zeros(24))
    moved = Prediction(torch.tensor([0.8, -3.2]), torch.zeros(24, 3), torch.full((2, 3, 3), torch.nan), torch.zeros(24))
    moved.forces[7, 1] = -0.002
    found = cost("tf32", moved, zeros, graph)
    assert (found.energy, found.forces) == (pytest.approx(200.0), pytest.approx(2.0))
    assert found.stress != found.stress and "stress" not in str(found)


@pytest.mark.parametrize(
    ("kind", "dtype", "complaint"),
    [
        ("tf32", torch.float32, "tf32 is for cuda, this model is on cpu"),
        ("tf32", torch.float64, "for models in float32, this is in float64"),
        ("fp8", torch.float32, "none of float32, tf32"),
    ],
)
def test_refused(kind: str, dtype: torch.dtype, complaint: str) -> None:
    """What does not exist is an error, not a hint that nobody takes."""
    with pytest.raises(ConfigError, match=complaint):
        use_matmul(potential(dtype), kind, print)


def test_a_processor_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch would take the request and compute in float32."""
    monkeypatch.setitem(HOME, "tf32", "cpu")
    monkeypatch.setattr("mlanet.precision._has_effect", lambda kind, device: False)
    with pytest.raises(ConfigError, match="computes such products in float32 whatever"):
        use_matmul(potential(), "tf32", print)


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("compiled", [False, True])
def test_a_training_says_it(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its first step, compiled or not; the gradient is that of fewer digits, backward too."""
    monkeypatch.setattr("mlanet.compiled._machine_code", lambda traced: traced)
    given, slopes, told = silicon().to(dtype=torch.float32), [], []
    labels = Labels(torch.zeros(2, dtype=torch.float64), torch.zeros(24, 3), torch.zeros(2, 3, 3))
    for kind in ("float32", "tf32"):
        trained = use_matmul(potential().train(), kind, told.append)
        parameters = list(trained.parameters())
        Gradient(trained, parameters, LossConfig(), Processes("cpu"), compiled=compiled)(given, labels, 1.0)
        slopes.append(torch.cat([one.grad.flatten() for one in parameters if one.grad is not None]))
    apart = float((slopes[0] - slopes[1]).norm() / slopes[0].norm())
    assert 1e-4 < apart < 0.5 and len(told) == 1 and torch.get_float32_matmul_precision() == "highest"
