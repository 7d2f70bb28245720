"""What only a GPU can show: its kernels say what the plain ones say, there and on the CPU, in every preset."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from systems import SPECIES, SYSTEMS

from mlanet.calculator import MLANetCalculator
from mlanet.config import preset_names
from mlanet.data.atoms import to_graph
from mlanet.errors import KernelError
from mlanet.execution import Execution
from mlanet.graph import AtomicGraph, Prediction, batch_graphs
from mlanet.kernels import use_kernels
from mlanet.laws import run_laws
from mlanet.memory import allocated_bytes
from mlanet.potential import Potential
from mlanet.profiling.ours import configuration, own
from mlanet.profiling.subject import Request
from mlanet.profiling.systems import system
from mlanet.statistics import Statistics

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

GPU = torch.device("cuda")
STATISTICS = Statistics.unit(SPECIES, 40.0)
WITHOUT_KERNELS = ("mlanet_l2_full",)


def built(name: str) -> Potential:
    torch.manual_seed(0)
    return Potential.build(configuration(name), STATISTICS).double().eval()


def everything(cutoff: float) -> AtomicGraph:
    """Molecule, crystal, slab, wire and lone atoms in one batch."""
    return batch_graphs([to_graph(atoms, cutoff) for atoms in SYSTEMS.values()])


def differences(one: Prediction, other: Prediction) -> dict[str, float]:
    """Largest of each quantity, relative to its largest number."""
    found = {}
    for name in ("energy", "forces", "stress"):
        a, b = (getattr(each, name).cpu().nan_to_num() for each in (one, other))
        found[name] = float((a - b).abs().max() / b.abs().max().clamp(min=1.0))
    return found


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_says_the_same_as_on_a_cpu(name: str) -> None:
    """Plain and fused, in double precision; fused are compared with plain through weight gradients before."""
    graph = everything(configuration(name).cutoff)
    wanted = built(name)(graph)
    for kernels in ("plain", "fused"):
        potential = built(name).to(GPU)
        if kernels == "fused" and name in WITHOUT_KERNELS:
            with pytest.raises(KernelError, match="light only"):
                use_kernels(potential, kernels)
            continue
        use_kernels(potential, kernels)
        found = differences(potential(graph), wanted)
        assert max(found.values()) < 1e-10, (kernels, found)


@pytest.mark.parametrize("name", ["mlanet_l1", "mlanet_l2", "mlanet_l3", "leignn"])
def test_fused_kernels_repeat_to_the_bit(name: str) -> None:
    """No atomics: the same inputs give the same bits, where torch too is told to sum in a fixed order."""
    potential = use_kernels(built(name).float().to(GPU), "fused")
    graph = everything(potential.cutoff)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        first, second = potential(graph), potential(graph)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(getattr(first, one), getattr(second, one)) for one in ("energy", "forces"))


@pytest.mark.parametrize("name", ["mlanet_l1", "mlanet_l2", "mlanet_l3", "leignn"])
def test_promised_laws_hold(name: str) -> None:
    """All of them, by fused kernels, on every kind of structure."""
    potential = use_kernels(built(name).to(GPU), "fused")
    broken = [one for one in run_laws(potential, SYSTEMS) if one.promised and not one.holds]
    assert not broken, [(one.law, one.deviation, one.detail) for one in broken]


@pytest.mark.parametrize("name", ["mlanet_l2", "leignn"])
def test_recorded_steps_follow_new_pairs(name: str) -> None:
    """Fused kernels replayed as a CUDA graph while the list of pairs is made anew again and again."""
    courses = []
    for capture in (False, True):
        atoms = SYSTEMS["triclinic"].repeat(2)
        calculator = MLANetCalculator(built(name), device="cuda", skin=0.2, kernels="fused", capture=capture)
        course = []
        for seed in range(8):
            atoms.rattle(0.06, seed=seed)
            atoms.calc = calculator
            course.append(atoms.get_forces())
        assert calculator.neighbor_lists_built > 3
        courses.append(course)
    for one, other in zip(*courses, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["mlanet_l2", "leignn:channels=64,layers=3"])
def test_memory_grows_with_atoms_and_not_with_edges(name: str) -> None:
    """A cell compressed to twice the neighbours needs little more, beside what the list of edges itself takes."""
    wide = system("LiCoO2:1536")
    dense = wide.copy()
    dense.set_cell(wide.cell * 2 ** (-1 / 3), scale_atoms=True)
    needed, edges = [], []
    for atoms in (wide, dense):
        subject = own(f"{name}@fused", Request((3, 8, 27), 75.0, Execution("float32", "cuda")))
        graph = subject.prepare([atoms])
        subject.evaluate(graph, False)
        needed.append(allocated_bytes(lambda: subject.evaluate(graph, False), GPU)[0])  # noqa: B023
        edges.append(graph.n_edges)
    per_edge = (needed[1] - needed[0]) / (edges[1] - edges[0])
    assert edges[1] > 1.6 * edges[0] and per_edge < 600, per_edge
