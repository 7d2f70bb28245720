"""Steps of fixed shape: spare pairs change nothing, and a replay follows a simulation as the potential itself would."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, graphene, molecule
from ase.md.verlet import VelocityVerlet

from mlanet.calculator import MLANetCalculator
from mlanet.capture import CaptureError, Replay, Step, padded
from mlanet.config import parse
from mlanet.data.atoms import to_graph
from mlanet.errors import ConfigError
from mlanet.graph import AtomicGraph, Prediction, batch_graphs
from mlanet.models import ModelConfig
from mlanet.potential import Potential
from mlanet.statistics import Statistics

STATISTICS = Statistics((6, 14), (-10.0, -20.0), (1.0, 1.0), 12.0)
MLANET = {"model": "mlanet", "irreps": "8x0e+8x1o+8x2e", "layers": 2, "heads": 2, "hidden": 8, "cutoff": 4.0}
MODELS: dict[str, dict[str, object]] = {
    "light": MLANET,
    "full": {**MLANET, "message": "full", "combine": "sum"},
    "repulsive": {**MLANET, "repulsion": "zbl", "pooling": "paper"},
    "leignn": {"model": "leignn", "channels": 8, "layers": 2, "cutoff": 4.0},
    "global": {"model": "leignn", "channels": 8, "layers": 2, "cutoff": 4.0, "global_node": True},
}


def build(name: str, dtype: torch.dtype = torch.float64) -> Potential:
    torch.manual_seed(0)
    return Potential.build(parse(MODELS[name], ModelConfig, "test"), STATISTICS).to(dtype=dtype).eval()


def silicon(repeat: int = 1) -> Atoms:
    atoms = bulk("Si", "diamond", a=5.43, cubic=True) * (repeat, 1, 1)
    atoms.rattle(0.1, seed=1)
    return atoms


def layer() -> Atoms:
    atoms = graphene(size=(2, 2, 1), vacuum=6.0)
    atoms.rattle(0.1, seed=3)
    return atoms


def graphs() -> dict[str, AtomicGraph]:
    """A small cell, whose images are several cells away, a layer, and both in a batch with one more."""
    primitive = bulk("Si", "diamond", a=5.43)
    primitive.rattle(0.1, seed=2)
    found = {name: to_graph(one, 4.0) for name, one in (("bulk", primitive), ("layer", layer()))}
    return found | {"batch": batch_graphs([*found.values(), to_graph(silicon(2), 4.0)])}


def assert_same(one: Prediction, other: Prediction, tolerance: float) -> None:
    for name in ("energy", "forces", "stress", "atomic_energies"):
        torch.testing.assert_close(
            getattr(one, name), getattr(other, name), rtol=tolerance, atol=tolerance, equal_nan=True
        )


@pytest.mark.parametrize("spare", [0, 1, 7, 500])
@pytest.mark.parametrize("where", ["bulk", "layer", "batch"])
@pytest.mark.parametrize("name", MODELS)
def test_spare_pairs_weigh_nothing(name: str, where: str, spare: int) -> None:
    """Energy, forces, stress and energies of atoms to 1e-12, whatever the number of spare pairs."""
    potential, graph = build(name), graphs()[where]
    longer = padded(graph, graph.n_edges + spare)
    assert longer.n_edges == graph.n_edges + spare
    assert_same(potential(longer), potential(graph), 1e-12)


@pytest.mark.parametrize("where", ["bulk", "layer", "batch"])
def test_spare_pairs_are_far_sorted_and_shared_out(where: str) -> None:
    """Beyond the cutoff by as much again, sorted by center like all pairs, and no atom has two more than another."""
    graph = graphs()[where]
    longer = padded(graph, graph.n_edges + 3 * graph.n_atoms + 1)
    assert bool((longer.center.diff() >= 0).all())
    distance = longer.edge_vectors().norm(dim=1)
    spare = distance >= 2 * graph.cutoff - 1e-9
    assert int(spare.sum()) == 3 * graph.n_atoms + 1
    assert torch.equal(torch.unique(torch.bincount(longer.center[spare])), torch.tensor([3, 4]))
    near = torch.stack([graph.center, graph.neighbor, *graph.shift.T])
    assert torch.equal(torch.stack([longer.center, longer.neighbor, *longer.shift.T])[:, ~spare], near)


def test_too_many_pairs_are_refused() -> None:
    """Never cut off."""
    graph = graphs()["bulk"]
    with pytest.raises(ValueError, match="do not fit"):
        padded(graph, graph.n_edges - 1)


def overwriting(step: Step) -> Step:
    """A recorder without a GPU that behaves like one: the same tensors each time, with new numbers."""
    first = step()

    def replay() -> Prediction:
        again = step()
        for name in ("energy", "forces", "stress", "atomic_energies"):
            getattr(first, name).copy_(getattr(again, name))
        return first

    return replay


def replaying(potential: Potential, record: Callable[[Step], Step]) -> MLANetCalculator:
    calculator = MLANetCalculator(potential, skin=0.4)
    calculator.steps.replay = Replay(calculator.potential, record)
    return calculator


@pytest.mark.parametrize("name", ["light", "leignn"])
def test_a_simulation_by_replay_is_the_same(name: str) -> None:
    """Through many lists and a cell that changes; one recording serves them all, and kept results stay as they were."""
    potential = build(name)
    courses, calculators = [], [MLANetCalculator(potential, skin=0.4), replaying(potential, overwriting)]
    for calculator in calculators:
        atoms = silicon()
        atoms.set_velocities(np.random.default_rng(0).normal(scale=0.03, size=(8, 3)))
        atoms.calc = calculator
        dynamics, course = VelocityVerlet(atoms, timestep=2 * units.fs), []
        for _ in range(4):
            dynamics.run(4)
            course.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
            atoms.set_cell(atoms.cell.array * 1.002, scale_atoms=True)
        courses.append(course)
    for one, other in zip(*courses, strict=True):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-11, atol=1e-11)
    replay = calculators[1].steps.replay
    assert replay is not None and replay.recordings == 1
    assert calculators[1].neighbor_lists_built >= 2


def test_a_new_recording_is_made_where_the_old_one_does_not_fit() -> None:
    """More atoms, or more pairs than there is room for; elements may change without one."""
    potential = build("light")
    replay = Replay(potential, overwriting)
    squeezed, carbon = silicon(), silicon()
    squeezed.set_cell(squeezed.cell.array * 0.7, scale_atoms=True)
    carbon.numbers[:] = 6
    for atoms, recordings in ((silicon(), 1), (carbon, 1), (silicon(2), 2), (silicon(), 3), (squeezed, 4), (carbon, 4)):
        graph = to_graph(atoms, 4.0)
        assert_same(replay(graph), potential(graph), 1e-12)
        assert replay.recordings == recordings


def wrong(step: Step) -> Step:
    def replay() -> Prediction:
        answer = step()
        return Prediction(answer.energy, answer.forces * 1.01, answer.stress, answer.atomic_energies)

    return replay


def stale(step: Step) -> Step:
    """What an empty recording gives: the answer of the time when it was made."""
    answer = step()
    return lambda: answer


def impossible(step: Step) -> Step:
    raise RuntimeError("operation not permitted when stream is capturing\nmore")


FAILURES = [(wrong, "forces differs by 1.0e-02"), (stale, "gives other numbers"), (impossible, "not permitted when")]


@pytest.mark.parametrize(("record", "why"), FAILURES)
def test_a_replay_that_fails_is_left_for_the_usual_way(record: Callable[[Step], Step], why: str) -> None:
    """With a warning that says why, once, and the right numbers."""
    potential = build("light")
    graph = to_graph(silicon(), 4.0)
    with pytest.raises(CaptureError, match=why):
        Replay(potential, record)(graph)
    atoms, plain = silicon(), silicon()
    atoms.calc, plain.calc = replaying(potential, record), MLANetCalculator(potential)
    with pytest.warns(UserWarning, match=f"{why}.*; steps are computed one by one"):
        energy = atoms.get_potential_energy()
    assert energy == pytest.approx(plain.get_potential_energy(), abs=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.rattle(0.01)
        atoms.get_forces()


def test_a_molecule_is_computed_the_usual_way() -> None:
    """It has no cell vector, so there is nothing to pad its list with."""
    ethane = molecule("C2H6")
    ethane = ethane[ethane.numbers == 6]
    potential = build("light")
    ethane.calc = replaying(potential, impossible)
    assert np.isfinite(ethane.get_forces()).all()


def test_capture_needs_a_gpu_and_survives_pickling() -> None:
    """A refusal on a CPU; a calculator's copy has no recording of its original."""
    with pytest.raises(ConfigError, match="capture is for NVIDIA GPUs; device 'cpu'"):
        MLANetCalculator(build("light"), capture=True)
    atoms = silicon()
    atoms.calc = replaying(build("light"), overwriting)
    atoms.get_forces()
    assert pickle.loads(pickle.dumps(atoms.calc)).steps.replay is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", ["light", "leignn"])
def test_a_cuda_graph_gives_the_same(name: str) -> None:
    """On a GPU: some steps of dynamics by replay, without a warning, beside those without."""
    courses = []
    for capture in (False, True):
        atoms = silicon(2)
        atoms.calc = MLANetCalculator(build(name), device="cuda", skin=0.4, capture=capture)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            VelocityVerlet(atoms, timestep=2 * units.fs).run(20)
            courses.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
    for one, other in zip(*courses, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)
