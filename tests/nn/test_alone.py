"""Lone atoms ride along only of elements that are there, and change no number."""

from __future__ import annotations

from typing import Any

import golden
import msgspec
import pytest
import torch
from ase.build import bulk

from mlanet.data.atoms import to_graph
from mlanet.graph import AtomicGraph, batch_graphs
from mlanet.models import ModelConfig
from mlanet.nn.alone import Alone
from mlanet.potential import Potential
from mlanet.statistics import Statistics

MANY = tuple(range(1, 90))
OF_MANY = Statistics(MANY, (-1.0,) * len(MANY), (1.0,) * len(MANY), 12.0)
MODELS: dict[str, dict[str, Any]] = {
    "mlanet": golden.MLANET,
    "mlanet charge": golden.MLANET | {"charge": "total"},
    "mlanet coulomb": golden.MLANET | {"long_range": "coulomb", "charge_sum": "total", "smearing": 0.8},
    "leignn global node": golden.LEIGNN | {"global_node": True},
    "leignn coulomb": golden.LEIGNN | {"long_range": "coulomb", "smearing": 0.8},
}


def crystals(cutoff: float) -> AtomicGraph:
    """Two of elements far from each other in the table."""
    silicon, salt = bulk("Si", cubic=True), bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    for one in (silicon, salt):
        one.rattle(0.1, seed=3)
    return batch_graphs([to_graph(one, cutoff) for one in (silicon, salt)])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kernels", ["plain", "fused"])
def test_numbers_and_gradients_are_those_with_every_element(
    name: str, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Energies, forces, stress and the gradients of a loss on forces, of a model of 89 elements."""
    torch.manual_seed(1)
    potential = Potential.build(msgspec.convert(MODELS[name], ModelConfig), OF_MANY).double().with_kernels(kernels)
    graph = crystals(potential.cutoff)
    nodes: list[int] = []
    potential.model.embedding.register_forward_hook(lambda *of: nodes.append(len(of[2])))

    def numbers() -> list[torch.Tensor]:
        found = potential(graph)
        value = found.forces.square().sum() + found.stress.square().sum() + found.energy.sum()
        weights = list(potential.parameters())
        slopes = torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True)
        return [found.energy.detach(), found.forces.detach(), found.stress.detach(), *slopes]

    few = numbers()
    monkeypatch.setattr(Alone, "of", lambda species, n: Alone(torch.arange(n), species))
    many = numbers()
    assert nodes == [16 + 3, 16 + 89]
    for one, other in zip(few, many, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12 * max(1.0, float(other.abs().max())))
