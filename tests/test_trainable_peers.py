"""Other packages' potentials in our training loop: units, references, molecules, a choice of rates.

A small stand-in takes the place of a package; those that are installed in `.peers` are trained for three steps.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "benchmarks"))

from compare import Budget, fit, objective  # noqa: E402
from peers import PEERS, Entry, Pairs, Peer, Request, pairs  # noqa: E402
from trainable import PeerConfig, TrainablePeer, as_pairs  # noqa: E402
from zoo import configuration, potential  # noqa: E402

from mlanet.data.atoms import to_graph  # noqa: E402
from mlanet.data.loader import Loader  # noqa: E402
from mlanet.data.samples import Sample  # noqa: E402
from mlanet.graph import AtomicGraph, Labels, batch_graphs, batch_labels  # noqa: E402
from mlanet.statistics import Statistics  # noqa: E402

CUTOFF = 4.0
STATISTICS = Statistics(species=(3, 8), references=(-200.0, -2000.0), scale=(2.0, 2.0), mean_neighbors=20.0)


class Springs(torch.nn.Module):
    """E = w Σ_pairs (1 − d/r_c)³, with derivatives as packages take them, stress divided by the volume as it comes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.7))

    def forward(self, graph: Pairs, training: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        positions = graph.positions.clone().requires_grad_()
        strain = torch.zeros_like(graph.cell, requires_grad=True)
        symmetric = (strain + strain.transpose(1, 2)) / 2
        vectors = positions[graph.neighbor] - positions[graph.center] + graph.offsets()
        edge = graph.structure[graph.center]
        length = (vectors + torch.einsum("ea,eab->eb", vectors, symmetric[edge])).norm(dim=1)
        energy = torch.zeros(len(graph.atoms)).index_add(0, edge, self.weight * (1 - length / CUTOFF) ** 3)
        slopes = torch.autograd.grad(energy.sum(), [positions, strain], create_graph=training)
        return energy, -slopes[0], slopes[1] / graph.volumes()[:, None, None]


def structures() -> list[Atoms]:
    """A shaken crystal and a molecule."""
    crystal = bulk("LiO", "rocksalt", a=4.2, cubic=True)
    crystal.rattle(0.1, seed=1)
    return [crystal, Atoms("LiO2", [[0.0, 0.0, 0.0], [1.6, 0.0, 0.0], [0.0, 1.7, 0.3]])]


def peer() -> Peer:
    springs = Springs()
    request = Request(STATISTICS.species, STATISTICS.mean_neighbors)
    return Peer(springs, CUTOFF, request, lambda graph: graph, lambda graph: len(graph.center), springs)


def batch() -> AtomicGraph:
    return batch_graphs([to_graph(atoms, CUTOFF) for atoms in structures()])


def at_rest(graph: AtomicGraph) -> Labels:
    """Zeros, and no stress of a molecule."""
    stress = torch.full((1, 3, 3), 0.0 if graph.pbc.any() else torch.nan).double()
    return Labels(torch.zeros(1).double(), torch.zeros(graph.n_atoms, 3).double(), stress)


def test_pairs_are_those_of_the_search() -> None:
    """What our data sets hold is what the builders get when they are timed, but for a cell that is not there."""
    crystal = structures()[:1]
    ours = as_pairs(batch_graphs([to_graph(crystal[0], CUTOFF)]).to(dtype=torch.float32))
    theirs = pairs(crystal, CUTOFF, Request(STATISTICS.species, 20.0))
    for name in Pairs.__dataclass_fields__:
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert torch.equal(as_pairs(batch()).cell[1], torch.eye(3, dtype=batch().cell.dtype))


def test_references_and_scale() -> None:
    """E = Σ E₀ + s E_peer in float64, forces and stress times s; the molecule has no stress."""
    subject = peer()
    found = TrainablePeer(subject, STATISTICS).eval()(batch())
    energy, forces, stress = subject.evaluate(as_pairs(batch().to(dtype=torch.float32)), False)
    references = torch.tensor([4 * -200.0 + 4 * -2000.0, -200.0 + 2 * -2000.0]).double()
    assert found.energy.dtype == torch.float64 and not found.energy.requires_grad
    assert torch.allclose(found.energy - references, 2 * energy.double(), rtol=1e-6, atol=1e-9)
    assert torch.equal(found.forces, 2 * forces) and torch.equal(found.stress[0], 2 * stress[0])
    assert found.stress[1].isnan().all()


def test_forces_are_the_slope_of_the_energy() -> None:
    """With the references and the scale inside."""
    model = TrainablePeer(peer(), STATISTICS).eval()
    graph, step = batch(), 0.01
    energies = []
    for sign in (1, -1):
        moved = structures()
        moved[0].positions[2, 1] += sign * step
        energies.append(float(model(batch_graphs([to_graph(one, CUTOFF) for one in moved])).energy.sum()))
    slope = (energies[0] - energies[1]) / (2 * step)
    assert float(model(graph).forces[2, 1]) == pytest.approx(-slope, rel=1e-2)


def test_a_molecule_trains_a_peer_that_divides_by_the_volume() -> None:
    """The gradient of the weight is a number, and a few steps lower the loss."""
    torch.manual_seed(0)
    model = TrainablePeer(peer(), STATISTICS)
    graphs = [to_graph(atoms, CUTOFF) for atoms in structures()]
    samples = [Sample(graph, at_rest(graph), "here", "") for graph in graphs]
    together = batch_graphs(graphs), batch_labels([one.labels for one in samples])
    before = float(objective(model.train(), *together, 1.0).detach())
    found = fit(model, Loader(samples, max_edges=10_000), 1e-2, Budget(60.0, 20), 3.0)
    assert found.steps == 20 and np.isfinite(float(model.module.weight.detach()))
    assert float(objective(model.train(), *together, 1.0).detach()) < before


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer's name is one of the table; where its package is not installed, the reason says what to run."""
    config = configuration("mace:l_max=1,cutoff=4.5")
    assert config == PeerConfig("mace", {"l_max": 1, "cutoff": 4.5}) and config.cutoff == 4.5
    assert configuration("leignn:layers=2").layers == 2

    def absent(options: dict[str, Any], request: Request) -> Peer:
        raise ImportError("No module named 'fairchem'")

    monkeypatch.setitem(PEERS, "esen", Entry("nowhere", ("fairchem",), absent))
    assert configuration("esen").home is None
    with pytest.raises(RuntimeError, match=r"environments\.py esen makes a place"):
        potential(configuration("esen"), STATISTICS)


def test_budget() -> None:
    """Half of it is half of the seconds, or of the steps."""
    assert (Budget(240.0).done(120.0, 7), str(Budget(240.0))) == (0.5, "240 s")
    assert (Budget(240.0, 10).done(999.0, 5), str(Budget(240.0, 10))) == (0.5, "10 steps")


def compared(folder: Path, *words: str) -> list[dict[str, str]]:
    command = [sys.executable, str(ROOT / "benchmarks" / "compare.py"), "--demo", *words, "--output", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    with (folder / "compare_demo_cpu.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("forks")
def test_the_better_rate_is_chosen(tmp_path: Path) -> None:
    """By the loss on the middle part; time is the processor's, and a second budget is a second row."""
    words = ["--models", "leignn:channels=8,layers=1", "--rates", "1e-9", "0.01", "--trial", "0.5"]
    compared(tmp_path, *words, "--minutes", "0.01")
    rows = compared(tmp_path, *words, "--steps", "3")
    assert [row["budget"] for row in rows] == ["0.6 s", "3 steps"] and rows[1]["steps"] == "3"
    assert all(row["lr"] == "0.01" and row["trials"].startswith("1e-09:") for row in rows)
    assert 0.6 <= float(rows[0]["cpu_s"]) < 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mace:l_max=1", "nequip:l_max=1", "painn"])
def test_installed_peers_are_trained(name: str, tmp_path: Path) -> None:
    """In their own environments."""
    home = configuration(name).home
    if home is None:
        pytest.skip("not installed in .peers")
    (row,) = compared(tmp_path, "--steps", "3", "--models", f"{name}{',' if ':' in name else ':'}channels=8")
    assert row["steps"] == "3" and float(row["stress_mae_GPa"]) > 0
