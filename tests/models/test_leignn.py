"""LEIGNN as published, to the digit: the vectors were made with the authors' code (float64, no cap, D = 5 Å)."""

from __future__ import annotations

import dataclasses
import math
import pickle
from typing import Any

import msgspec
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from torch import Tensor

from mlanet.calculator import MLANetCalculator
from mlanet.checkpoint import copied
from mlanet.config import parse
from mlanet.data.atoms import to_graph
from mlanet.errors import ConfigError
from mlanet.graph import AtomicGraph
from mlanet.laws import LAWS
from mlanet.models import LEIGNNConfig, ModelConfig, read_model_config
from mlanet.nn.edges import nearest
from mlanet.nn.radial import GaussianBasis, polynomial_envelope
from mlanet.nn.repulsion import ScreenedRepulsion
from mlanet.potential import Potential, deformed
from mlanet.statistics import Statistics
from mlanet.training.start import adopt

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

    Weights that cannot act are left out: the first layer receives no vectors (the block λ_u of its filter and MLP, and
    G), and nothing follows the last aggregation (ψ and H).
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
    """−dE/dr to 1e-10 and dE/dε to the nine digits it is given with; with `forces: gradient` too."""
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


def test_parameter_count_at_the_size_for_oc20() -> None:
    """18 834 945 published numbers, less the 1 311 744 of G_0, ψ and H, less the 197 632 of the first layer's λ_u."""
    potential = Potential.build(read_model_config("leignn_paper"), Statistics.unit(ALL))
    assert count(potential) == 18_834_945 - 1_311_744 - 197_632


def test_radial_functions() -> None:
    """Envelope and Gaussians against values worked out from their definitions."""
    basis = GaussianBasis(16, 5.0)
    distance = torch.tensor([2.5, 4.0, 4.9], dtype=torch.float64)
    envelope = polynomial_envelope(distance, 5.0, 5)
    assert envelope.tolist() == pytest.approx([0.7734375, 0.148032, 0.000263598739197], rel=1e-10)
    values = basis(distance, envelope)
    assert float(values[0, 8]) == pytest.approx(0.682556198092773, abs=1e-15)
    assert float(values[0, 3]) == pytest.approx(3.098800345e-5, rel=1e-9)
    assert float(values[1, 15]) == pytest.approx(0.001644486975549, abs=1e-15)


def test_no_basis_function_is_subnormal() -> None:
    """Numbers below 10⁻³⁸ would slow every product they enter."""
    distance = torch.linspace(0.5, 4.99, 500)
    values = GaussianBasis(128, 5.0)(distance, polynomial_envelope(distance, 5.0, 5))
    assert float(values[values > 0].min()) > 1e-30


def test_cap_keeps_the_nearest_and_whole_shells() -> None:
    """In fcc, shells of 12 and 6 stay whole; in disorder the count is the cap, the next, and near ties."""
    graph = to_graph(bulk("Cu", a=3.6), 5.0)
    distance = graph.edge_vectors().norm(dim=1)
    assert [int(nearest(graph.center, distance, 1, cap).sum()) for cap in (5, 11, 12, 17, 18, 40)] == [
        *(12, 12, 18, 18, 42, 42)
    ]
    atoms = bulk("Cu", a=3.6, cubic=True) * 2
    atoms.rattle(0.3, seed=0)
    graph = to_graph(atoms, 5.0)
    distance = graph.edge_vectors().norm(dim=1)
    kept = nearest(graph.center, distance, len(atoms), 20)
    for atom in range(len(atoms)):
        mine = distance[graph.center == atom].sort().values
        reach = float(torch.sqrt(mine[20] ** 2 + 0.01))
        assert kept[graph.center == atom].sum() == (mine <= reach).sum() >= 21


def test_cap_makes_the_energy_jump() -> None:
    """One atom moved by 0.3 Å in small steps: without the cap E changes evenly, with it there are steps."""

    def largest_step(cap: int | None) -> float:
        torch.manual_seed(0)
        config = LEIGNNConfig(channels=16, layers=2, neighbor_cap=cap)
        potential = Potential.build(config, Statistics.unit((8, 12))).double().eval()
        atoms = bulk("MgO", "rocksalt", a=4.2, cubic=True) * (2, 1, 1)
        atoms.rattle(0.1, seed=0)
        energies = []
        for _ in range(100):
            atoms.positions[0, 0] += 0.003
            energies.append(float(potential(to_graph(atoms, potential.cutoff)).energy))
        steps = torch.tensor(energies, dtype=torch.float64).diff()
        return float(steps.diff().abs().max() / steps.abs().max())

    assert largest_step(None) < 0.1
    assert largest_step(20) > 0.2


def test_curvature_at_a_symmetric_site() -> None:
    """d²E at 10⁻³ and 10⁻² Å from an fcc site: equal for the squared length, far apart for the published norm."""

    def spread(**changes: Any) -> float:
        torch.manual_seed(0)
        config = LEIGNNConfig(channels=32, layers=2, **changes)
        potential = Potential.build(config, Statistics.unit((29,))).double().eval()
        curvatures = []
        for step in (1e-3, 1e-2):
            energies = []
            for shift in (-step, 0.0, step):
                atoms = bulk("Cu", a=3.6, cubic=True) * 2
                atoms.positions[0, 0] += shift
                energies.append(float(potential(to_graph(atoms, potential.cutoff)).energy))
            curvatures.append((energies[0] - 2 * energies[1] + energies[2]) / step**2)
        return abs(curvatures[0] - curvatures[1]) / max(map(abs, curvatures))

    smooth = max(spread(invariant="soft"), spread(invariant="squared"))
    assert smooth < 0.01
    assert spread(invariant="norm") > 4 * smooth


def test_jump_at_the_cutoff_as_published() -> None:
    """The raw bias leaves a step of the energy as a dimer parts; the enveloped one leaves none."""

    def step(bias: str) -> float:
        torch.manual_seed(0)
        config = LEIGNNConfig(channels=16, layers=2, filter_bias=bias, isolated_atom="free")
        potential = Potential.build(config, Statistics.unit((8, 29))).double().eval()
        ends = [Atoms("CuO", [[0, 0, 0], [5.0 + side * 1e-6, 0, 0]]) for side in (-1, 1)]
        return abs(float(potential(to_graph(ends[0], 5.0)).energy - potential(to_graph(ends[1], 5.0)).energy))

    assert step("raw") > 1e-4
    assert step("enveloped") < 1e-12
    assert step("none") < 1e-12


@pytest.mark.parametrize("update", ["nmu", "painn"])
@pytest.mark.parametrize("whole", [False, True])
def test_fine_tuning_keeps_the_energy(update: str, whole: bool) -> None:
    """A conservative model that starts from a direct one has its energies exactly."""
    config = LEIGNNConfig(channels=8, layers=2, forces="direct", update=update, global_node=whole)  # type: ignore[arg-type]
    direct = Potential.build(config, Statistics.unit((3, 8, 15, 16))).double().eval()
    gradient = Potential.build(msgspec.structs.replace(config, forces="gradient"), direct.statistics).double().eval()
    remarks = adopt(gradient, direct)
    graph = crystal()
    assert torch.equal(direct(graph).energy, gradient(graph).energy)
    assert not any(line.startswith("newly drawn") for line in remarks)


def test_direct_stress_lives_in_a_centrosymmetric_crystal() -> None:
    """Compressed rock salt: an anisotropic strain gives an anisotropic stress, though every node vector is zero."""
    torch.manual_seed(0)
    config = LEIGNNConfig(channels=16, layers=2, forces="direct")
    potential = Potential.build(config, Statistics.unit((11, 17))).double().eval()
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.set_cell(atoms.cell.array @ torch.diag(torch.tensor([1.02, 1.0, 0.99])).double().numpy(), scale_atoms=True)
    prediction = potential(to_graph(atoms, potential.cutoff))
    assert float(prediction.forces.abs().max()) < 1e-12
    diagonal = prediction.stress[0].diagonal()
    assert float((diagonal - diagonal.mean()).abs().max()) > 1e-4


def test_repulsion_drives_overlapping_atoms_apart_and_leaves_bonds() -> None:
    """ZBL of two silicon atoms at 0.5 Å: 14² · 14.4/0.5 · φ(0.5/a) · u; beyond the sum of covalent radii exactly 0."""
    repulsion = ScreenedRepulsion(Statistics.unit((14,)))
    close, bonded = (Atoms("Si2", [[0, 0, 0], [d, 0, 0]]) for d in (0.5, 2.23))
    graph = to_graph(close, 5.0)
    given = float(repulsion(graph, graph.edge_vectors()).sum())
    x = 0.5 / (0.4685 / (2 * 14**0.23))
    phi = 0.18175 * math.exp(-3.1998 * x) + 0.50986 * math.exp(-0.94229 * x)
    phi += 0.28022 * math.exp(-0.4029 * x) + 0.02817 * math.exp(-0.20162 * x)
    t = 0.5 / 2.22
    envelope = 1 - 28 * t**6 + 48 * t**7 - 21 * t**8
    assert given == pytest.approx(14**2 * 14.399645 / 0.5 * phi * envelope, rel=1e-10)
    graph = to_graph(bonded, 5.0)
    assert float(repulsion(graph, graph.edge_vectors()).abs().max()) == 0.0
    config = LEIGNNConfig(channels=8, layers=1, repulsion="zbl")
    potential = Potential.build(config, Statistics.unit((14,))).double().eval()
    assert float(potential(to_graph(close, 5.0)).forces[1, 0]) > 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 7}, "channels must be even"),
        ({"radial_functions": 1}, "radial_functions must be at least 2"),
        ({"neighbor_cap": 0}, "neighbor_cap must be at least 1"),
        ({"cutoff": float("inf")}, "'cutoff' is inf, not a number"),
        ({"update": "memory"}, "update"),
        ({"irreps": "8x0e"}, "unknown key 'irreps'"),
    ],
)
def test_impossible_configurations(changes: dict[str, Any], message: str) -> None:
    """Each error names the key."""
    with pytest.raises(ConfigError, match=message):
        parse({"model": "leignn"} | changes, ModelConfig, "my.yaml")


@pytest.mark.parametrize("basis", ["bessel", "gaussian"])
@pytest.mark.parametrize("bias", ["enveloped", "raw", "none"])
def test_tabulated_filters(bias: str, basis: str) -> None:
    """Energies to 1e-7 eV/atom, forces and stress to 1e-4 of their size; the error falls with the table's spacing."""
    torch.manual_seed(0)
    config = LEIGNNConfig(channels=16, layers=2, filter_bias=bias, radial_basis=basis)  # type: ignore[arg-type]
    potential = Potential.build(config, Statistics.unit((3, 8, 15, 16))).double().eval()
    graph, exact = crystal(), potential(crystal())
    errors = []
    for rows in (8, 16, 32):
        other = copied(potential)
        other.model.tabulate(rows)
        found = other(graph)
        errors.append(float((found.forces - exact.forces).abs().max()))
    # Slopes of cubic splines converge as the third power of the spacing.
    assert errors[0] > 20 * errors[2]
    fine = copied(potential).tabulated()
    assert float((fine(graph).energy - exact.energy).abs()) / 4 < 1e-7
    assert (fine(graph).forces - exact.forces).abs().max() < 1e-4 * exact.forces.abs().max()
    assert (fine(graph).stress - exact.stress).abs().max() < 1e-4 * exact.stress.abs().max()
    if bias != "raw":
        ends = [Atoms("LiO", [[0, 0, 0], [5.0 + side * 1e-7, 0, 0]]) for side in (-1, 1)]
        assert abs(float(fine(to_graph(ends[0], 5.0)).energy - fine(to_graph(ends[1], 5.0)).energy)) < 1e-12


def test_forces_of_tabulated_filters_are_a_gradient() -> None:
    """The spline is differentiated, not the function it stands for, so no energy is lost in dynamics."""
    potential = Potential.build(LEIGNNConfig(channels=8, layers=2), Statistics.unit((1, 6, 8))).double().eval()
    law = next(law for law in LAWS if law.name == "forces")
    assert law.measure(potential.tabulated(), molecule("CH3CH2OH")) < 1e-6


def test_tables_of_a_direct_stress() -> None:
    """The head's filter is read from a table too."""
    torch.manual_seed(0)
    config = LEIGNNConfig(channels=8, layers=2, forces="direct")
    potential = Potential.build(config, Statistics.unit((3, 8, 15, 16))).double().eval()
    exact, found = potential(crystal()), copied(potential).tabulated()(crystal())
    assert 0 < float((found.stress - exact.stress).abs().max()) < 1e-5 * float(exact.stress.abs().max())
    assert float((found.forces - exact.forces).abs().max()) < 1e-5


def test_only_leignn_has_tables() -> None:
    """MLANet says that it has none."""
    potential = Potential.build(read_model_config("mlanet_l1"), Statistics.unit((1,)))
    with pytest.raises(ConfigError, match="only LEIGNN"):
        potential.tabulated()


def test_tables_survive_a_pickle() -> None:
    """A copied calculator computes the same, to the bit."""
    potential = Potential.build(LEIGNNConfig(channels=8, layers=2), Statistics.unit((29,))).double().eval()
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=0)
    calculator = MLANetCalculator(potential, tabulated=True)
    again = pickle.loads(pickle.dumps(calculator))
    plain = MLANetCalculator(potential)
    assert again.get_forces(atoms).tolist() == calculator.get_forces(atoms).tolist()
    assert plain.get_forces(atoms).tolist() != calculator.get_forces(atoms).tolist()
