"""Every preset obeys the laws it promises on every kind of structure, and visibly breaks those it does not."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from ase import Atoms
from systems import SPECIES, SYSTEMS, ethanol, triclinic

from mlanet.config import preset_names
from mlanet.data.atoms import to_graph
from mlanet.graph import AtomicGraph, Prediction
from mlanet.laws import LAWS, promised, run_laws
from mlanet.laws.law import Answer, difference
from mlanet.models import LEIGNNConfig, MLANetConfig, ModelConfig, read_model_config
from mlanet.nn.equivariant import natural_irreps
from mlanet.potential import Potential
from mlanet.statistics import Statistics

STATISTICS = Statistics(SPECIES, (-1.5, -7.25, -11.0), (1.0, 0.8, 1.3), 12.0)
EXTRA: dict[str, dict[str, Any]] = {
    "fctp": {"attention": "fctp"},
    "gatv2": {"attention": "gatv2"},
    "no_attention": {"attention": "none"},
    "envelope_once": {"attention_envelope": "once"},
    "output_gate": {"output_gate": "head"},
    "sum": {"combine": "sum"},
    "full_sum": {"combine": "sum", "message": "full"},
    "shared_gates": {"gate_channels": 4},
    "full_shared_gates": {"gate_channels": 2, "message": "full"},
    "no_norm": {"norm": "none"},
    "extensive": {"pooling": "extensive"},
    "paper_pooling": {"pooling": "paper"},
    "sum_pooling": {"pooling": "sum"},
    "free_atom": {"isolated_atom": "free"},
    "charged": {"charge": "total"},
    "direct": {"forces": "direct", "pooling": "local"},
    "zbl": {"repulsion": "zbl"},
    "electric": {"outputs": ["dipole", "polarizability"]},
    "electric_charges": {"outputs": ["dipole"], "charge": "total", "long_range": "coulomb", "smearing": 1.0},
    "both": {"long_range": "both", "c6": "learned", "charge_sum": "total", "charge": "total", "smearing": 1.0},
}
"""Switches that no preset turns, on a small l_max 2 model."""
EXTRA_LEIGNN: dict[str, dict[str, Any]] = {
    "leignn_unbiased": {"filter_bias": "none"},
    "leignn_raw_bias": {"filter_bias": "raw"},
    "leignn_painn_update": {"update": "painn"},
    "leignn_norm": {"invariant": "norm"},
    "leignn_gaussian": {"radial_basis": "gaussian", "scaling": "published"},
    "leignn_squared": {"invariant": "squared"},
    "leignn_global": {"global_node": True},
    "leignn_capped": {"neighbor_cap": 4},
    "leignn_no_repulsion": {"repulsion": "none"},
    "leignn_free_atom": {"isolated_atom": "free"},
    "leignn_dipole": {"outputs": ["dipole"]},
    "leignn_both": {"long_range": "both", "c6": "learned"},
    "leignn_direct_raw": {"forces": "direct", "remove_net_force": False, "direct_stress": "none"},
    "leignn_paper_gradient": {"filter_bias": "raw", "invariant": "norm", "global_node": True, "forces": "gradient"},
}
"""Each repair of LEIGNN taken back, one at a time, on a small model."""


preset_called = functools.cache(read_model_config)
"""A preset, read from its file once."""


def small(name: str) -> ModelConfig:
    """A preset, or a variant, with the same switches and few channels."""
    if name.startswith("leignn"):
        preset = preset_called(name if name in preset_names() else "leignn")
        assert isinstance(preset, LEIGNNConfig)
        few = {"channels": 8, "layers": 2, "radial_functions": 12, "cutoff": 4.2}
        return msgspec.structs.replace(preset, **few | EXTRA_LEIGNN.get(name, {}))
    preset = preset_called(name if name in preset_names() else "mlanet_l2_fast")
    if not isinstance(preset, MLANetConfig):
        return preset
    size = {
        "irreps": str(natural_irreps(8, preset.l_max)),
        "layers": 2,
        "key_dim": 2,
        "hidden": 8,
        "radial_hidden": (8,),
        "cutoff": 4.2,
    }
    return msgspec.structs.replace(preset, **size, **EXTRA.get(name, {}))


def drawn(config: ModelConfig) -> Potential:
    """Random weights, none of them zero, in float64."""
    torch.manual_seed(3)
    potential = Potential.build(config, STATISTICS).double().eval()
    with torch.no_grad():
        for parameter in potential.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return potential


EVERYWHERE = {"mlanet_l2", "leignn", "both", "leignn_both"}
"""Asked on all kinds of structures: one of each kind of network, with nothing and with all that acts at a distance."""
FEW = {"part of a molecule, an atom apart": ethanol()[:4] + Atoms("O", [[20.0, -3.0, 11.0]]), "triclinic": triclinic()}
"""For the others, whose switches know nothing of periodicity: that is in the list of neighbours, one for all."""
ALL_KINDS = FEW | {name: SYSTEMS[name] for name in ("slab", "wire", "lone")}
BY_KERNELS = [("mlanet_l2", "fused"), ("leignn", "fused")]
"""Of kernels that give the numbers of plain torch, for every preset and switch (`test_golden`, `ops`)."""


def different(names: list[str]) -> list[str]:
    """Of names that are the same when small, as those that differ in width are, the first."""
    configs = [small(name) for name in names]
    return [name for place, name in enumerate(names) if configs[place] not in configs[:place]]


WAYS = [(name, "plain") for name in different([*preset_names(), *EXTRA, *EXTRA_LEIGNN])]


@pytest.mark.parametrize(("name", "kernels"), WAYS + BY_KERNELS)
def test_promised_laws_hold(name: str, kernels: str) -> None:
    """All promised laws, whatever computes them."""
    potential = drawn(small(name)).with_kernels(kernels)
    systems = ALL_KINDS if name in EVERYWHERE and kernels == "plain" else FEW
    broken = [one for one in run_laws(potential, systems) if one.promised and not one.holds]
    assert not broken, "\n".join(f"{one.law} {one.deviation:.1e} > {one.tolerance:.0e}: {one.detail}" for one in broken)


UNPROMISED = [
    *(
        (f"mlanet_l{l_max}_paper", law)
        for l_max in (1, 2, 3)
        for law in ("forces", "stress", "supercell", "far fragments")
    ),
    ("paper_pooling", "supercell"),
    ("paper_pooling", "far fragments"),
    ("extensive", "far fragments"),
    ("free_atom", "lone atom"),
    ("direct", "forces"),
    # As published: a jump at the cutoff, no additivity, a net force, and forces that are no gradient.
    *(("leignn_paper", law) for law in ("last neighbour", "far fragments", "net force", "forces", "lone atom")),
    *((f"leignn_paper_{name}", law) for name in ("nmu", "vanilla") for law in ("last neighbour", "net force")),
    ("leignn_raw_bias", "last neighbour"),
    ("leignn_raw_bias", "leaving neighbour"),
    ("leignn_global", "far fragments"),
    ("leignn_direct", "forces"),
    ("leignn_direct", "stress"),
]


@pytest.mark.parametrize("name", ["mlanet_l1", "mlanet_l2", "mlanet_l3", "mlanet_l2_full", "leignn"])
def test_neighbours_come_and_go_smoothly_at_full_width(name: str) -> None:
    """Wide random networks have large features, and a large feature must not make a cliff of the cutoff."""
    torch.manual_seed(0)
    potential = Potential.build(read_model_config(name), STATISTICS).double().eval()
    smooth = [law for law in LAWS if law.name in ("last neighbour", "leaving neighbour")]
    results = list(run_laws(potential, {"ethanol": ethanol()}, smooth))
    assert len(results) == 2 and all(one.holds for one in results), results


@pytest.mark.parametrize(("name", "law"), UNPROMISED)
@pytest.mark.xfail(strict=True, raises=AssertionError, reason="the mode does not promise this law")
def test_unpromised_laws_are_broken(name: str, law: str) -> None:
    """What the documentation warns of is true: the violation is there, far above rounding."""
    potential = drawn(small(name))
    assert law not in promised(potential)
    chosen = [one for one in LAWS if one.name == law]
    assert all(one.deviation < 100 * one.tolerance for one in run_laws(potential, SYSTEMS, chosen))


def test_unpromised_is_the_whole_list() -> None:
    """Default presets promise everything."""
    sound = [name for name in preset_names() if "paper" not in name and "direct" not in name]
    assert {"leignn", "mlanet_l1", "mlanet_l2", "mlanet_l3"} <= set(sound)
    for name in sound:
        # Charges act at any distance, so fragments are never quite alone.
        given_up = {"far fragments"} if "coulomb" in name else set()
        assert promised(drawn(small(name))) == {law.name for law in LAWS} - given_up


@pytest.mark.parametrize("name", preset_names())
def test_presets_at_full_size(name: str) -> None:
    """Rotation, inversion and (where promised) forces of a few atoms, also at the width people use."""
    torch.manual_seed(0)
    potential = Potential.build(read_model_config(name), STATISTICS).double().eval()
    cheap = [law for law in LAWS if law.name in {"rotation", "inversion", "net force", "site energies", "forces"}]
    broken = [one for one in run_laws(potential, {"part": ethanol()[:4]}, cheap) if one.promised and not one.holds]
    assert not broken, broken


class Spoiled(Potential):
    """A potential with one thing wrong."""

    def __init__(self, potential: Potential, fault: str) -> None:
        super().__init__(potential.model, potential.statistics)
        self.fault = fault

    def forward(self, graph: AtomicGraph) -> Prediction:
        prediction = super().forward(graph)
        if self.fault == "stress sign":
            return dataclasses.replace(prediction, stress=-prediction.stress)
        if self.fault == "force size":
            return dataclasses.replace(prediction, forces=1.001 * prediction.forces)
        height = graph.positions[:, 2] if self.fault == "absolute position" else graph.edge_vectors()[:1, 2]
        if self.fault == "cutoff jump":
            height = 1e-6 * torch.bincount(graph.structure[graph.center], minlength=graph.n_structures).double()
            return dataclasses.replace(prediction, energy=prediction.energy + height)
        site = prediction.atomic_energies.clone()
        site[: len(height)] += 1e-3 * height
        energy = torch.zeros_like(prediction.energy).index_add(0, graph.structure, site)
        return dataclasses.replace(prediction, energy=energy, atomic_energies=site)


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        ("stress sign", "stress"),
        ("force size", "forces"),
        ("absolute position", "translation"),
        ("absolute position", "rotation"),
        ("first edge", "inversion"),
        ("cutoff jump", "last neighbour"),
        ("cutoff jump", "leaving neighbour"),
        ("cutoff jump", "site energies"),
    ],
)
def test_a_broken_potential_is_caught(fault: str, law: str) -> None:
    """The suite is not satisfied by anything: a small fault breaks the law that forbids it."""
    spoiled = Spoiled(drawn(small("mlanet_l1")), fault).double().eval()
    systems = {"ethanol": ethanol(), "triclinic": triclinic()}
    results = list(run_laws(spoiled, systems, [one for one in LAWS if one.name == law]))
    assert any(not one.holds for one in results)


def test_parameter_gradients_of_the_loss() -> None:
    """∂L/∂θ of a loss on E, F and σ is the difference quotient: training follows the true slope.

    Along a random direction in each part of the network, which every number of every parameter belongs to.
    """
    potential = drawn(small("mlanet_l2")).train()
    graph = to_graph(triclinic(), potential.cutoff)

    def loss() -> torch.Tensor:
        prediction = potential(graph)
        return prediction.energy.sum() + prediction.forces.square().sum() + 30 * prediction.stress.square().sum()

    loss().backward()
    potential.eval()  # the same loss, without what only its gradient needs
    parts: dict[str, list[torch.Tensor]] = {}
    for name, parameter in potential.named_parameters():
        parts.setdefault(".".join(name.split(".")[:4]), []).append(parameter)
    for name, parameters in parts.items():
        directions = [torch.randn_like(parameter) for parameter in parameters]
        norm, step, values = sum(float(one.square().sum()) for one in directions) ** 0.5, 1e-4, []
        for shift in (-2, -1, 1, 2):
            with torch.no_grad():
                for parameter, direction in zip(parameters, directions, strict=True):
                    parameter.add_(shift * step / norm * direction)
            values.append(float(loss()))
            with torch.no_grad():
                for parameter, direction in zip(parameters, directions, strict=True):
                    parameter.sub_(shift * step / norm * direction)
        slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
        known = sum(float((p.grad * d).sum()) for p, d in zip(parameters, directions, strict=True)) / norm
        # Rounding of a loss of order 10 leaves about 1e-15 · 10 / 1e-4 = 1e-10 in the quotient.
        assert known == pytest.approx(slope, rel=1e-6, abs=1e-7), name


def test_no_gradient_crosses_structures() -> None:
    """The energy of one structure of a batch does not depend on the atoms of another, exactly."""
    from mlanet.graph import batch_graphs

    potential = drawn(small("mlanet_l2")).train()
    graph = batch_graphs([to_graph(one, potential.cutoff) for one in (ethanol(), triclinic())])
    positions = graph.positions.clone().requires_grad_()
    output = potential.model(dataclasses.replace(graph, positions=positions))
    first = output.atomic_energies[graph.structure == 0].sum()
    gradient = torch.autograd.grad(first, positions)[0]
    assert gradient[graph.structure == 0].abs().max() > 1e-3
    assert torch.equal(gradient[graph.structure == 1], torch.zeros_like(gradient[graph.structure == 1]))


@pytest.mark.parametrize("attention", ["tp_dot", "gatv2"])
def test_attention_is_bounded_and_dynamic(attention: str) -> None:
    """Σ_j α < 1; and another element at the query can reorder its neighbours, which GATv1 cannot do."""
    torch.manual_seed(1)
    potential = Potential.build(msgspec.structs.replace(small("mlanet_l1"), attention=attention), STATISTICS).double()
    rankings = set()
    for symbol in "HCO":
        atoms = Atoms(f"{symbol}HCOH", [[0, 0, 0], [1.1, 0, 0], [0, 1.4, 0], [0, 0, 1.3], [-1.2, -0.4, 0]])
        graph = to_graph(atoms, potential.cutoff).to(dtype=torch.float64)
        model = potential.model
        species = torch.cat([model.species_index[graph.numbers], torch.arange(model.n_species)])
        edges = model._edges(graph, graph.edge_vectors(), species)
        weights = model.layers[0].attention.attention_weights(model._embed(graph, species, edges), edges)
        assert float(edges.around.sum(weights).detach().max()) < 1
        mine = weights[(edges.around.center == 0) & (edges.envelope > 0)]
        rankings |= {(head, tuple(mine[:, head].argsort().tolist())) for head in range(weights.shape[1])}
    assert len(rankings) > weights.shape[1]


def test_float32_is_close_to_float64() -> None:
    """The default precision is good to 0.1 meV/atom and 1 meV/Å on features of order one."""
    single = drawn(small("mlanet_l2")).float()
    double = drawn(small("mlanet_l2"))
    for atoms in (ethanol(), triclinic()):
        graph = to_graph(atoms, double.cutoff)
        a, b = single(graph), double(graph)
        assert float((a.energy - b.energy).abs().max()) / len(atoms) < 1e-4
        assert float((a.forces - b.forces).abs().max()) < 1e-3


@pytest.mark.parametrize("offset", [-6e4, -6e6])
def test_large_offsets_keep_their_digits(offset: float) -> None:
    """References of −6·10⁶ eV per atom cost no digit of the interaction, even with float32 weights."""
    plain = drawn(small("mlanet_l1")).float()
    shifted = Potential(plain.model, dataclasses.replace(STATISTICS, references=(offset,) * 3)).eval()
    zero = Potential(plain.model, dataclasses.replace(STATISTICS, references=(0.0,) * 3)).eval()
    graph = to_graph(ethanol(), plain.cutoff)
    error = shifted(graph).energy - zero(graph).energy - offset * graph.n_atoms
    # One unit in the last place of 5·10⁷ eV in float64 is 7·10⁻⁹ eV.
    assert float(error.abs()) / graph.n_atoms < 1e-8


def test_a_force_that_is_not_a_number_breaks_every_law_of_comparison() -> None:
    """Also where it is not the first of the numbers that are compared."""
    right = Answer(-1.0, np.ones((2, 3)), np.eye(3), np.array([-0.5, -0.5]), np.zeros(3), np.zeros((3, 3)))
    wrong = dataclasses.replace(right, forces=np.array([[1.0, 1.0, np.nan], [1.0, 1.0, 1.0]]))
    assert difference(right, right) == 0
    assert np.isnan(difference(right, wrong)) and np.isnan(difference(wrong, right))
