"""LEIGNN as published, to the digit: the vectors were made with the authors' code (float64, no cap, D = 5 Å)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import msgspec
import pytest
import torch
from ase import Atoms
from torch import Tensor

from mlanet.data.atoms import to_graph
from mlanet.graph import AtomicGraph
from mlanet.models import LEIGNNConfig, read_model_config
from mlanet.potential import Potential, deformed
from mlanet.statistics import Statistics

ALL = tuple(range(1, 119))
CELL = [[5.0, 0.0, 0.0], [0.25, 5.25, 0.0], [0.125, -0.375, 4.75]]
POSITIONS = [[0.1, 0.2, 0.3], [1.9, 0.7, 0.4], [2.6, 2.9, 1.1], [0.6, 3.1, 3.0]]
VARIANTS = {"leignn_paper": 4177, "leignn_paper_nmu": 3081, "leignn_paper_vanilla": 3081}
"""Preset and number of parameters as published, at F = 8, T = 2, K = 16 and 118 elements."""

ENERGY = {
    "leignn_paper": -0.0773193806,
    "leignn_paper_nmu": 1.3723524663,
    "leignn_paper_vanilla": 1.2668702511,
}
DIRECT = {
    "leignn_paper": [
        [-0.009598540586, -0.003323150510, -0.005553964687],
        [0.068353768607, -0.001995189456, -0.008765829761],
        [0.014176487136, 0.022687315022, -0.018128484842],
        [0.023850776799, -0.002113869197, -0.020722867702],
    ],
    "leignn_paper_nmu": [
        [0.004583404310, 0.011100597078, 0.008756309363],
        [-0.004232702657, 0.000088534298, -0.007729051259],
        [0.006115869849, -0.004686717700, -0.009314451319],
        [-0.007275474131, -0.004138818008, 0.008875792407],
    ],
    "leignn_paper_vanilla": [
        [0.005217033906, 0.011297240704, 0.008979711830],
        [-0.001579602392, 0.000886924663, -0.006626928231],
        [0.007447125139, -0.004227406943, -0.008966071938],
        [-0.005385836740, -0.002200479727, 0.009020753277],
    ],
}
GRADIENT = {
    "leignn_paper": [
        [0.063824811179, 0.036028662310, -0.012714671625],
        [-0.068375907834, 0.014152564037, 0.005151807452],
    ],
    "leignn_paper_nmu": [
        [0.031304944468, 0.034903090970, 0.011462509614],
        [-0.118143004458, -0.089781221184, -0.041814444146],
    ],
    "leignn_paper_vanilla": [
        [0.006403808862, 0.020200245591, 0.031124877550],
        [-0.002818993636, 0.021338415232, 0.003407452677],
    ],
}
VIRIAL = {
    "leignn_paper": [-0.053911978, -0.110485232, -0.093012498, 0.062498707, -0.020644819, 0.106211498],
    "leignn_paper_nmu": [0.167551251, 0.048163583, 0.141276866, -0.057656986, 0.318239006, 0.019514164],
    "leignn_paper_vanilla": [0.005933393, 0.067932028, -0.019233811, -0.053823409, -0.023040244, 0.030181188],
}
"""dE/dε in the order xx yy zz yz xz xy."""


def crystal() -> AtomicGraph:
    """The structure of the vectors."""
    atoms = Atoms(numbers=[3, 8, 15, 16], positions=POSITIONS, cell=CELL, pbc=True)
    # Each atom has images at exactly 5 Å, which the authors' code counts and a neighbour list within 5 Å leaves out.
    return to_graph(atoms, 5.0 + 1e-9).to(dtype=torch.float64)


def small(name: str, **changes: Any) -> LEIGNNConfig:
    """A published form at the size of the vectors."""
    size: dict[str, Any] = {"channels": 8, "layers": 2, "radial_functions": 16, "cutoff": 5.0, "neighbor_cap": None}
    config = read_model_config(name)
    assert isinstance(config, LEIGNNConfig)
    return msgspec.structs.replace(config, **size | changes)


def wave(shape: tuple[int, ...], number: int, scale: float) -> Tensor:
    """w_k = s sin(0.7 k + 1.3 id), k row-major."""
    k = torch.arange(math.prod(shape), dtype=torch.float64)
    return (scale * torch.sin(0.7 * k + 1.3 * number)).view(shape)


def matrix(rows: int, columns: int, number: int) -> Tensor:
    """A weight, (out, in)."""
    return wave((rows, columns), number, 1 / math.sqrt(columns))


def published(name: str, **changes: Any) -> tuple[Potential, int]:
    """The network with the weights of the vectors, and how many published weights it does not have.

    Weights that cannot act are left out: the first layer receives no vectors (the block λ_u of its filter and MLP, and G),
    and nothing follows the last aggregation (ψ and H).
    """
    potential = Potential.build(small(name, **changes), Statistics.unit(ALL)).double().eval()
    model, f, k = potential.model, 8, 16
    dead = 0
    with torch.no_grad():
        # The published table is indexed by Z from 0; ours by element from Z = 1.
        model.embedding.weight[:117] = wave((118, f), 9001, 1.0)[1:]
        _fill(model.readout[0], 9003, 9004)
        _fill(model.readout[2], 9005, 9006)
        if model.direct_forces is not None:
            model.direct_forces.weight.copy_(matrix(1, f, 9007)[0])
        if model.whole is not None:
            model.whole.copy_(wave((1, f), 9002, 1.0))
        for index, layer in enumerate(model.layers):
            base, message, update = 100 * index, layer.message, layer.update
            _fill(message.network[0], base + 1, base + 2)
            u, v, h = matrix(3 * f, f // 2, base + 3).view(3, f, -1)
            message.network[2].weight.copy_(torch.cat([h, v, u])[: message.blocks * f])
            u, v, h = wave((3 * f,), base + 4, 0.1).view(3, f)
            message.network[2].bias.copy_(torch.cat([h, v, u])[: message.blocks * f])
            u, v, h = torch.cat([matrix(3 * f, k, base + 5), wave((3 * f, 1), base + 6, 0.1)], dim=1).view(3, f, -1)
            message.filter.copy_(torch.cat([h, v, u])[: message.blocks * f])
            dead += (3 - message.blocks) * (f * (f // 2) + f + f * k + f)
            u, v = matrix(2 * f, f, base + 7).view(2, f, f)
            update.mix.weight.copy_(torch.cat([v, u])[: len(update.mix.weight)])
            _fill(update.network[0], base + 8, base + 9)
            order = [1, 2, 0] if name != "leignn_paper_vanilla" else [0, 1, 2]
            rows = len(update.network[2].bias)
            update.network[2].weight.copy_(matrix(3 * f, f, base + 10).view(3, f, f)[order].view(-1, f)[:rows])
            update.network[2].bias.copy_(wave((3 * f,), base + 11, 0.1).view(3, f)[order].view(-1)[:rows])
            if name == "leignn_paper":
                dead += _fill_global(layer, base, f)
    return potential, dead


def _fill(linear: torch.nn.Module, weight: int, bias: int) -> None:
    linear.weight.copy_(matrix(*linear.weight.shape, weight))
    linear.bias.copy_(wave(tuple(linear.bias.shape), bias, 0.1))


def _fill_global(layer: torch.nn.Module, base: int, f: int) -> int:
    """Weights of the global node; returns how many of the published ones the layer does not have."""
    dead = 0
    _fill(layer.distribute.scalars[0], base + 12, base + 13)
    _fill(layer.distribute.scalars[2], base + 14, base + 15)
    if layer.distribute.vectors is None:
        dead += f * f
    else:
        layer.distribute.vectors.weight.copy_(matrix(f, f, base + 20))
    if layer.aggregate is None:
        return dead + (2 * f * f + f) + (f * f + f) + f * f
    _fill(layer.aggregate.scalars[0], base + 16, base + 17)
    _fill(layer.aggregate.scalars[2], base + 18, base + 19)
    layer.aggregate.vectors.weight.copy_(matrix(f, f, base + 21))
    return dead


def count(potential: Potential) -> int:
    """Numbers to be trained."""
    return sum(parameter.numel() for parameter in potential.parameters())


@pytest.mark.parametrize("name", VARIANTS)
def test_energy_and_direct_forces(name: str) -> None:
    """E to 1e-9 and every component of every force to 1e-10."""
    potential, _ = published(name)
    graph = crystal()
    assert torch.bincount(graph.center).tolist() == [16, 17, 18, 17]
    prediction = potential(graph)
    assert float(prediction.energy) == pytest.approx(ENERGY[name], abs=1e-9)
    assert prediction.forces.tolist() == [pytest.approx(row, abs=1e-10) for row in DIRECT[name]]


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("forces", ["gradient", "direct"])
def test_gradient_and_virial(name: str, forces: str) -> None:
    """−dE/dr of the published network to 1e-10, dE/dε to the nine digits it is given with; also by `forces: gradient`."""
    potential, _ = published(name, forces=forces)
    graph = crystal()
    positions = graph.positions.clone().requires_grad_()
    strain = torch.zeros_like(graph.cell).requires_grad_()
    energy = potential.model(deformed(dataclasses.replace(graph, positions=positions), strain)).atomic_energies.sum()
    slope, virial = torch.autograd.grad(energy, (positions, strain))
    assert float(energy.detach()) == pytest.approx(ENERGY[name], abs=1e-9)
    assert (-slope[:2]).tolist() == [pytest.approx(row, abs=1e-10) for row in GRADIENT[name]]
    given = [float(virial[0, a, b]) for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))]
    assert given == pytest.approx(VIRIAL[name], abs=1e-9)
    if forces == "gradient":
        assert torch.allclose(potential(graph).forces, -slope, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", VARIANTS)
def test_parameter_count(name: str) -> None:
    """As published, less the weights that cannot act."""
    potential, dead = published(name)
    assert count(potential) + dead == VARIANTS[name]
