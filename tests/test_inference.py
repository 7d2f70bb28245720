"""Batched, streaming predictions equal those of one structure at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from mlanet.config import parse
from mlanet.data.atoms import to_graph
from mlanet.errors import UnsupportedElementError
from mlanet.graph import AtomicGraph, Prediction, batch_graphs
from mlanet.inference import predict, split
from mlanet.models import ModelConfig
from mlanet.potential import Potential
from mlanet.statistics import Statistics

STATISTICS = Statistics((1, 8, 14), (-13.6, -2043.1, -289.4), (1.7, 0.3, 1.1), 12.3)


@pytest.fixture
def potential() -> Potential:
    """A small MLANet with random weights, in float64."""
    config = parse(
        {"model": "mlanet", "irreps": "8x0e+8x1o", "layers": 2, "heads": 2, "hidden": 8}, ModelConfig, "test"
    )
    return Potential.build(config, STATISTICS).double().eval()


def structures() -> list[Atoms]:
    """Molecules, crystals, a lone atom and far atoms without any neighbour."""
    silicon = bulk("Si", "diamond", a=5.43, cubic=True)
    silicon.rattle(0.1, seed=1)
    slab = bulk("Si", "diamond", a=5.43) * (2, 2, 1)
    slab.pbc = (True, True, False)
    far = Atoms("H3", positions=[[0, 0, 0], [50, 0, 0], [0, 50, 0]])
    return [
        molecule("H2O"),
        silicon,
        Atoms("O"),
        slab,
        far,
        bulk("Si", "diamond", a=5.2),
        molecule("H2"),
        molecule("O2"),
    ]


def graphs(cutoff: float = 5.0) -> list[AtomicGraph]:
    """One graph per structure."""
    return [to_graph(atoms, cutoff) for atoms in structures()]


def assert_close(one: Prediction, other: Prediction) -> None:
    """Equal but for rounding; NaN where NaN."""
    for name in ("energy", "forces", "stress", "atomic_energies"):
        left, right = getattr(one, name), getattr(other, name)
        assert left.shape == right.shape
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-11, equal_nan=True)


@pytest.mark.parametrize("max_edges", [1, 50, 400, 10**9])
def test_batching_changes_nothing(potential: Potential, max_edges: int) -> None:
    """Whatever the budget, one prediction per structure comes, in order, equal to that of the structure alone."""
    together = list(predict(potential, graphs(), max_edges=max_edges))
    assert len(together) == len(structures())
    for one, graph in zip(together, graphs(), strict=True):
        assert_close(one, potential(graph))


def test_graphs_of_several_structures_are_taken_apart(potential: Potential) -> None:
    """A batch given as one graph comes back structure by structure."""
    whole = batch_graphs(graphs())
    for one, other in zip(predict(potential, [whole]), split(potential(whole), whole), strict=True):
        assert_close(one, other)
        assert one.energy.shape == (1,) and one.stress.shape == (1, 3, 3)


def test_the_budget_bounds_every_batch(potential: Potential, monkeypatch: pytest.MonkeyPatch) -> None:
    """No batch has more edges than asked, except a structure that exceeds the budget alone."""
    sizes: list[tuple[int, int, int]] = []
    forward = Potential.forward

    def spy(self: Potential, graph: AtomicGraph) -> Prediction:
        sizes.append((graph.n_structures, graph.n_edges, graph.n_atoms))
        return forward(self, graph)

    monkeypatch.setattr(Potential, "forward", spy)
    list(predict(potential, graphs(), max_edges=300))
    assert sum(n for n, _, _ in sizes) == len(structures())
    assert all(n == 1 or max(edges, atoms) <= 300 for n, edges, atoms in sizes)
    assert any(n > 1 for n, _, _ in sizes)


def test_predictions_stream(potential: Potential) -> None:
    """Structures are taken only as far as the next batch needs them, so that memory holds one batch."""
    taken = 0

    def endless() -> Iterator[AtomicGraph]:
        nonlocal taken
        water = to_graph(molecule("H2O"), 5.0)
        while True:
            taken += 1
            yield water

    answers = predict(potential, endless(), max_edges=60)
    for _ in range(25):
        next(answers)
    assert taken <= 25 + 10 + 1


def test_predictions_have_no_history_and_the_mode_is_kept(potential: Potential) -> None:
    """A potential in training answers as in evaluation, without gradients, and trains on afterwards."""
    potential.train()
    for one in predict(potential, graphs()):
        assert not any(getattr(one, name).requires_grad for name in ("energy", "forces", "stress", "atomic_energies"))
    assert potential.training
    with pytest.raises(UnsupportedElementError, match="Au"):
        list(predict(potential, [to_graph(Atoms("Au"), 5.0)]))
    assert potential.training


def test_no_structures_no_predictions(potential: Potential) -> None:
    """An empty stream is no error; an impossible budget is."""
    assert list(predict(potential, [])) == []
    with pytest.raises(ValueError, match="max_edges"):
        list(predict(potential, graphs(), max_edges=0))
