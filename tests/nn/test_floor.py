"""What a network sees of nearer atoms than it learnt from, and that within what it learnt from nothing changes."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from mlanet.checkpoint import load_model, save_model
from mlanet.crowding import crowding
from mlanet.data.atoms import to_graph, to_labels
from mlanet.data.fit import fit_statistics
from mlanet.data.samples import Sample
from mlanet.laws.law import ask_all
from mlanet.laws.wall import INSIDE, LAWS, _limit
from mlanet.models import LEIGNNConfig, MLANetConfig
from mlanet.nn.floor import SLACK, WIDTH, DistanceFloor, ramp
from mlanet.ops.traced import tracing
from mlanet.potential import Potential
from mlanet.statistics import Statistics
from mlanet.training.tune import extended

CONFIGS = {
    "mlanet": MLANetConfig(irreps="4x0e+4x1o", layers=2, heads=2, key_dim=2, hidden=8),
    "leignn": LEIGNNConfig(channels=8, layers=2),
    "coulomb": LEIGNNConfig(channels=8, layers=2, long_range="coulomb"),
}


def rattled(size: float, seed: int = 3) -> Atoms:
    """Salt of eight atoms, moved by some hundredths of an Å."""
    atoms = bulk("NaCl", "rocksalt", a=size, cubic=True)
    atoms.positions += np.random.default_rng(seed).normal(0, 0.08 * size / 5.6, (8, 3))
    return atoms


def sample(atoms: Atoms) -> Sample:
    """With an energy."""
    atoms.info["REF_energy"] = -1.0 * len(atoms)
    return Sample(to_graph(atoms, 5.0), to_labels(atoms), "test", "test")


@pytest.fixture(scope="module")
def statistics() -> Statistics:
    """Of salt at rest, and a little moved."""
    return fit_statistics([sample(rattled(5.6, seed)) for seed in range(3)], "none")[0]


def potential(name: str, statistics: Statistics) -> Potential:
    """With random weights."""
    torch.manual_seed(5)
    return Potential.build(CONFIGS[name], statistics).double().eval()


def test_the_most_crowded_atom_is_found_and_saved(statistics: Statistics, tmp_path: Path) -> None:
    """By the formula, written as a loop; the same after a round trip; 0 for an element without neighbours."""
    expected = dict.fromkeys(statistics.species, 0.0)
    for graph in (to_graph(rattled(5.6, seed), 5.0) for seed in range(3)):
        vectors, kinds = graph.edge_vectors(), graph.numbers.tolist()
        for atom in range(8):
            rho = 0.0
            for edge in (graph.center == atom).nonzero().flatten().tolist():
                pair = (statistics.species.index(kinds[atom]), statistics.species.index(kinds[graph.neighbor[edge]]))
                square = statistics.closest[pair[0]][pair[1]] ** 2
                rho += max(0.0, square / float(vectors[edge] @ vectors[edge]) - square / 25.0) ** 6
            expected[kinds[atom]] = max(expected[kinds[atom]], rho)
    assert statistics.crowding == pytest.approx(tuple(expected.values()))
    save_model(potential("leignn", statistics), tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors").statistics == statistics
    assert fit_statistics([sample(Atoms("Na"))], "none")[0].crowding == (0.0,)


@pytest.mark.parametrize("name", CONFIGS)
def test_within_the_training_set_nothing_changes(name: str, statistics: Statistics) -> None:
    """To the last digit, whether or not it is asked for by a tracer, which cannot look."""
    known, unknown = (potential(name, one) for one in (statistics, dataclasses.replace(statistics, crowding=())))
    graph = to_graph(rattled(5.6, 1), 5.0)
    with tracing():
        seen = DistanceFloor(statistics, 5.0)(graph, graph.edge_vectors())
    assert torch.equal(seen.vectors, graph.edge_vectors()) and not seen.energy.any()
    assert torch.equal(known(graph).forces, unknown(graph).forces)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_crystal_looks_the_same_at_any_density_beyond(name: str, statistics: Statistics) -> None:
    """Nearly; so the network says the same, and with the wall the energy rises to 0.3 of the lattice constant."""
    model = potential(name, statistics)
    start = INSIDE * _limit(model, rattled(5.6))
    squeezed = [rattled(5.6 * factor) for factor in np.geomspace(start, 0.3, 40)]
    assert (np.diff([one.energy for one in ask_all(model, squeezed)]) > 0).all() and start > 0.8
    first, second = (
        DistanceFloor(statistics, 5.0)(graph, graph.edge_vectors()).vectors
        for graph in (to_graph(rattled(5.6 * factor), 5.0) for factor in (0.6, 0.4))
    )
    assert float(second.norm(dim=1).min() / first.norm(dim=1).min()) == pytest.approx(1.0, abs=0.05)
    system = {"NaCl": bulk("NaCl", "rocksalt", a=5.6), "dimer": Atoms("NaCl", [[0, 0, 0], [2.4, 0, 0]])}
    for law in LAWS:
        assert all((law.measure(model, atoms) or 0.0) == 0.0 for atoms in system.values()), law.name


@pytest.mark.parametrize("name", CONFIGS)
def test_forces_and_stress_are_derivatives_across_the_ramp(name: str, statistics: Statistics) -> None:
    """Central differences, from where nothing changes to where the network stands still; no jump on the way."""
    model = potential(name, statistics)
    step, shift, strain = 1e-5, np.zeros((8, 3)), np.zeros((3, 3))
    shift[2, 1] = strain[0, 1] = strain[1, 0] = 1.0
    for factor in (0.99, 0.97, 0.95, 0.93, 0.9, 0.7):
        moved = []
        for sign in (1, -1):
            one, other = rattled(5.6 * factor), rattled(5.6 * factor)
            one.positions += sign * step * shift
            other.set_cell(other.cell.array @ (np.eye(3) + sign * step * strain), scale_atoms=True)
            moved += [one, other]
        answers = ask_all(model, [rattled(5.6 * factor), *moved])
        rest, up, sheared, down, back = answers
        size = max(1.0, float(np.abs(rest.forces).max()))
        assert rest.forces[2, 1] == pytest.approx(-(up.energy - down.energy) / (2 * step), abs=1e-6 * size)
        volume = (5.6 * factor) ** 3
        work = (sheared.energy - back.energy) / (2 * step) / volume
        assert rest.stress[0, 1] + rest.stress[1, 0] == pytest.approx(work, abs=1e-6 * size)


def test_the_ramp_is_smooth_to_second_order() -> None:
    """Both ends, by differences; slope 1 beyond."""
    for end in (SLACK, SLACK + WIDTH):
        t = torch.tensor([end - 1e-7, end + 1e-7], dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(ramp(t).sum(), t, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), t)
        assert slope[0].item() == pytest.approx(slope[1].item(), abs=1e-10)
        assert bend[0].item() == pytest.approx(bend[1].item(), abs=1e-3)
    assert float(ramp(torch.tensor(0.5)) - ramp(torch.tensor(0.4))) == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_atoms_on_top_of_each_other_give_numbers(dtype: torch.dtype, statistics: Statistics) -> None:
    """As near as a structure may be, where powers of the distance are near the end of float32."""
    model = potential("leignn", statistics).to(dtype=dtype)
    for distance in (0.11, 0.2, 0.5):
        prediction = model(to_graph(Atoms("NaCl", [[0, 0, 0], [distance, 0, 0]]), 5.0).to(dtype=dtype))
        assert prediction.forces.isfinite().all() and float(prediction.forces[1, 0]) > 0


def test_fine_tuning_lets_it_come_nearer(statistics: Statistics) -> None:
    """The larger crowding of old and new data; models without stay without."""
    model = potential("leignn", statistics)
    dense, thin = ([sample(rattled(size, 1))] for size in (5.2, 6.0))
    assert all(np.array(extended(model, dense)[0].statistics.crowding) > 0.9 * np.array(statistics.crowding))
    assert extended(model, thin)[0].statistics.crowding == statistics.crowding
    bare = potential("leignn", dataclasses.replace(statistics, crowding=()))
    assert extended(bare, dense)[0].statistics.crowding == ()


def test_crowding_is_the_twelfth_power_of_the_distance() -> None:
    """Where neighbours are near in relation to the cutoff."""
    vectors = torch.eye(3, dtype=torch.float64)
    center, closest = torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.float64)
    near, far = (float(crowding(size * vectors, closest, center, 1, 50.0)) for size in (0.8, 1.0))
    assert math.log(near / far) / 12 == pytest.approx(-math.log(0.8), abs=1e-3)
