"""Numbers do not depend on what the caller has set in torch, nor on whether the process is a fork."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from mlanet.calculator import MLANetCalculator
from mlanet.checkpoint import load_model, save_model
from mlanet.data.atoms import to_graph
from mlanet.graph import batch_graphs
from mlanet.potential import Potential
from mlanet.profiling.ours import configuration
from mlanet.statistics import Statistics

pytestmark = pytest.mark.filterwarnings("ignore:the forces of this model")

SMALL = "irreps=8x0e+8x1o,layers=1,heads=2"
MODELS = (f"mlanet_l1:{SMALL},long_range=both", f"mlanet_l1:{SMALL},forces=direct", "leignn:channels=8,layers=1")
STATISTICS = Statistics((1, 6, 8, 14), (-1.0, -2.0, -3.0, -4.0), (1.0,) * 4, 12.0)


@contextlib.contextmanager
def default_type(kind: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(kind)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


AMBIENTS: dict[str, Callable[[], contextlib.AbstractContextManager[object]]] = {
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "bfloat16": lambda: default_type(torch.bfloat16),
    "float16": lambda: default_type(torch.float16),
    "float64": lambda: default_type(torch.float64),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "device": lambda: torch.device("meta"),
}


def structures() -> list[Atoms]:
    crystal, slab = bulk("Si", "diamond", a=5.43), bulk("Si", "diamond", a=5.43)
    slab.pbc = (True, True, False)
    return [crystal, slab, molecule("CH3CH2OH")]


@pytest.fixture(scope="module", params=MODELS, ids=lambda one: one.split(",")[0] + one[-12:])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    torch.manual_seed(0)
    save_model(Potential.build(configuration(request.param), STATISTICS), path)
    return path


def answers(model: Path) -> list[np.ndarray]:
    """All that a caller gets, from a batch and from ASE."""
    potential = load_model(model)
    batch = potential(batch_graphs([to_graph(one, potential.cutoff) for one in structures()]))
    found = [batch.energy, batch.forces, batch.stress]
    atoms = structures()[0]
    atoms.calc = MLANetCalculator(model, skin=0.5, kernels="plain")
    first = atoms.get_potential_energy()
    atoms.rattle(0.02, seed=1)
    numbers = [first, atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()]
    return [*(one.numpy() for one in found), *map(np.asarray, numbers)]


@pytest.mark.parametrize("ambient", AMBIENTS)
def test_what_the_caller_has_set_changes_no_number(model: Path, ambient: str) -> None:
    """Loaded, built into graphs and asked inside, a model says bit for bit what it says outside."""
    right = answers(model)
    with AMBIENTS[ambient]():
        inside = answers(model)
    for one, other in zip(right, inside, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("ambient", ["inference_mode", "autocast", "bfloat16"])
def test_what_was_made_inside_serves_outside(model: Path, ambient: str) -> None:
    """Models, graphs and casts of inference mode can be differentiated and trained afterwards."""
    with AMBIENTS[ambient]():
        potential = load_model(model).double().float()
        graphs = batch_graphs([to_graph(one, potential.cutoff) for one in structures()])
        potential(graphs)
    right = load_model(model)(batch_graphs([to_graph(one, potential.cutoff) for one in structures()]))
    assert torch.equal(potential(graphs).forces, right.forces)
    potential.train()
    potential(graphs).energy.sum().backward()
    assert any(one.grad is not None for one in potential.parameters())


FORK = """
import multiprocessing, sys
import numpy as np, torch
from ase.build import bulk
from mlanet.calculator import MLANetCalculator

torch.set_num_threads(2)

def forces(calculator):
    atoms = bulk("Si", cubic=True) * (2, 2, 2)
    atoms.rattle(0.05, seed=0)
    atoms.calc = calculator
    return atoms.get_potential_energy(), atoms.get_forces()

def child(queue, calculator, kernels):
    again = MLANetCalculator("elemental", kernels=kernels)
    queue.put([forces(calculator), forces(again)])

fork = multiprocessing.get_context("fork")
for kernels in sys.argv[1:]:
    calculator = MLANetCalculator("elemental", kernels=kernels)
    energy, right = forces(calculator)
    calculator.reset()
    queue = fork.Queue()
    worker = fork.Process(target=child, args=(queue, calculator, kernels), daemon=True)
    worker.start()
    for found, there in queue.get(timeout=100):
        assert abs(found - energy) < 1e-5 * abs(energy) and np.abs(there - right).max() < 1e-4
    worker.join()
"""


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_forked_worker_computes_the_same() -> None:
    """After the parent has used its two threads, of which a fork has none: with OpenMP it would wait for ever."""
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", FORK, "plain", "auto"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
