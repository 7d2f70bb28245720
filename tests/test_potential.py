"""Energies to forces and stress: references, units, history, and structures without a single pair."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from e3nn import o3
from systems import SPECIES, apart, ethanol, lone, slab, triclinic

from mlanet.config import parse, preset_names
from mlanet.data.atoms import to_graph
from mlanet.errors import GeometryError, UnsupportedElementError
from mlanet.graph import AtomicGraph, batch_graphs
from mlanet.memory import peak_bytes
from mlanet.models import ModelConfig, read_model_config
from mlanet.potential import Potential, deformed, stress_from_virial
from mlanet.statistics import Statistics

SMALL: dict[str, Any] = {
    "model": "mlanet",
    "irreps": "4x0e+4x1o",
    "layers": 2,
    "heads": 2,
    "key_dim": 2,
    "hidden": 4,
    "cutoff": 4.0,
}
STATISTICS = Statistics(SPECIES, (-13.6001, -1030.2003, -2041.5007), (0.3, 2.1, 3.7), 8.0, 0.7)

PARAMETERS = {
    "leignn": 426061,
    "leignn_256": 1671309,
    "leignn_512": 6619405,
    "leignn_64": 110637,
    "leignn_coulomb": 434381,
    "leignn_direct": 463550,
    "leignn_dispersion": 434382,
    "leignn_paper": 17266689,
    "leignn_paper_nmu": 10181121,
    "leignn_paper_vanilla": 10181121,
    "mlanet_elements": 192229,
    "mlanet_l1": 204005,
    "mlanet_l1_paper": 216775,
    "mlanet_l2": 283117,
    "mlanet_l2_coulomb": 285229,
    "mlanet_l2_dispersion": 285230,
    "mlanet_l2_fast": 60257,
    "mlanet_l2_full": 318877,
    "mlanet_l2_paper": 308575,
    "mlanet_l3": 362485,
    "mlanet_l3_paper": 400311,
}
"""For three elements; a change here breaks every file saved before, so it must be meant."""


def build(**changes: Any) -> Potential:
    return Potential.build(parse(SMALL | changes, ModelConfig, "test"), STATISTICS)


def graph(atoms: Atoms, **options: Any) -> AtomicGraph:
    return to_graph(atoms, 4.0, **options)


def test_every_preset_is_counted() -> None:
    """No preset without a pinned size."""
    assert set(PARAMETERS) == {name for name in preset_names() if name.startswith(("mlanet", "leignn"))}


@pytest.mark.parametrize("name", PARAMETERS)
def test_what_a_preset_is_made_of(name: str) -> None:
    """Its number of parameters; nothing but parameters in its state; product constants exact after any cast."""
    potential = Potential.build(read_model_config(name), Statistics.unit(SPECIES)).double().float().double()
    assert sum(p.numel() for p in potential.parameters()) == PARAMETERS[name]
    assert set(potential.state_dict()) == {n for n, _ in potential.named_parameters()}
    for buffer_name, buffer in potential.named_buffers():
        if "_w3j_" in buffer_name:
            degrees = [int(word) for word in buffer_name.rpartition("_w3j_")[2].split("_")]
            assert torch.equal(buffer, o3.wigner_3j(*degrees, dtype=torch.float64))


@pytest.mark.parametrize("casts", [("float",), ("double", "float"), ("float", "double", "float", "double")])
def test_references_and_scales_are_never_rounded(casts: tuple[str, ...]) -> None:
    """Whatever type the weights go through."""
    potential = build()
    for cast in casts:
        getattr(potential, cast)()
    assert potential.references.dtype == potential.scale.dtype == torch.float64
    assert tuple(potential.references.tolist()) == STATISTICS.references
    assert tuple(potential.scale.tolist()) == STATISTICS.scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("training", [False, True])
def test_lone_atoms_have_their_reference_energy(dtype: torch.dtype, training: bool) -> None:
    """Exactly E₀, no force, no stress; also two atoms out of reach of each other, and batches of such."""
    potential = build().to(dtype=dtype).train(training)
    batch = batch_graphs([graph(lone()), graph(apart())])
    assert batch.n_edges == 0
    prediction = potential(batch)
    assert prediction.energy.tolist() == [-2041.5007, -1030.2003 + -2041.5007]
    assert torch.equal(prediction.forces, torch.zeros(3, 3, dtype=dtype))
    assert prediction.stress.isnan().all()


@pytest.mark.parametrize("forces", ["gradient", "direct"])
def test_training_on_a_batch_without_edges(forces: str) -> None:
    """The loss can be differentiated, and no gradient is NaN."""
    potential = build(forces=forces).train()
    prediction = potential(batch_graphs([graph(lone()), graph(apart())]))
    (prediction.energy.square().sum() + prediction.forces.square().sum()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in potential.parameters())


@pytest.mark.parametrize("forces", ["gradient", "direct"])
def test_periodic_atom_alone_in_a_wide_box(forces: str) -> None:
    """No pair, but a volume: stress is defined, and zero where it is a gradient."""
    atoms = Atoms("C", [[1.0, 1.0, 1.0]], cell=[12.0, 12.0, 12.0], pbc=True)
    stress = build(forces=forces).double().eval()(graph(atoms)).stress
    assert stress.isfinite().all()
    assert forces == "direct" or torch.equal(stress, torch.zeros(1, 3, 3).double())


@pytest.mark.parametrize("forces", ["gradient", "direct"])
def test_history_only_in_training(forces: str) -> None:
    """Training: energies, forces and stress lead back to the weights. Evaluation: nothing does, same numbers."""
    potential, one = build(forces=forces).double(), graph(triclinic())
    trained, used = potential.train()(one), potential.eval()(one)
    for field in dataclasses.fields(trained):
        mine, other = getattr(trained, field.name), getattr(used, field.name)
        if field.name in ("charges", "dipole", "polarizability", "features"):  # which only some models have
            assert mine is None and other is None
            continue
        if field.name == "atomic_virials":  # which come along where the native engine answers
            assert mine is None
            continue
        assert mine.requires_grad and not other.requires_grad
        assert torch.allclose(mine.detach(), other, atol=1e-13)


def test_evaluation_keeps_nothing_for_gradients_of_weights() -> None:
    """It needs as little memory as with weights that were never to be trained, and leaves them as they were."""
    potential, crystal = build().eval(), graph(triclinic())
    fixed = potential.model.embedding.weight.requires_grad_(False)
    potential(crystal)
    needed = peak_bytes(lambda: potential(crystal))
    assert [one for one in potential.parameters() if not one.requires_grad] == [fixed]
    history = peak_bytes(lambda: potential.train()(crystal))
    assert needed == peak_bytes(lambda: potential.eval().requires_grad_(False)(crystal)) < history


def test_evaluation_within_no_grad() -> None:
    """A caller's `no_grad` does not take the forces away."""
    potential, one = build().double().eval(), graph(ethanol())
    with torch.no_grad():
        inside = potential(one)
    assert torch.equal(inside.forces, potential(one).forces) and inside.forces.abs().max() > 1e-6


def test_energy_is_float64_and_the_sum_of_atoms() -> None:
    """Weights in float32, totals in float64."""
    prediction = build().eval()(batch_graphs([graph(ethanol()), graph(triclinic())]))
    assert prediction.energy.dtype == prediction.atomic_energies.dtype == torch.float64
    assert prediction.forces.dtype == torch.float32
    parts = prediction.atomic_energies.split([9, 4])
    assert prediction.energy.tolist() == pytest.approx([float(p.sum()) for p in parts], abs=1e-9)


def test_scales_multiply_site_energies() -> None:
    """E = Σ E₀ + scale · e, per element."""
    potential, one = build(repulsion="none").double().eval(), graph(ethanol())
    site = potential.model(one).atomic_energies
    rows = [SPECIES.index(z) for z in one.numbers.tolist()]
    expected = [STATISTICS.references[k] + STATISTICS.scale[k] * e for k, e in zip(rows, site.tolist(), strict=True)]
    assert potential(one).atomic_energies.tolist() == pytest.approx(expected, abs=1e-10)


def test_direct_heads_are_scaled() -> None:
    """Forces by the mean scale, stress by the stress scale; no net force, no net torque on a molecule."""
    potential, one = build(forces="direct").double().eval(), graph(triclinic())
    output, prediction = potential.model(one), potential(one)
    assert not potential.conservative and output.forces is not None and output.stress is not None
    assert torch.allclose(prediction.forces, output.forces * float(np.mean(STATISTICS.scale)), atol=1e-13)
    assert torch.allclose(prediction.stress, output.stress * 0.7, atol=1e-13)
    free = potential(graph(ethanol()))
    arms = graph(ethanol()).positions
    assert free.forces.sum(0).abs().max() < 1e-12 and free.forces.abs().max() > 1e-6
    assert torch.linalg.cross(arms, free.forces).sum(0).abs().max() < 1e-10


def test_stress_only_where_something_is_periodic() -> None:
    """NaN for a molecule, also for one given in a box; numbers for crystal and slab."""
    boxed = ethanol()
    boxed.set_cell([20.0, 20.0, 20.0])
    for forces in ("gradient", "direct"):
        parts = [ethanol(), boxed, triclinic(), slab()]
        stress = build(forces=forces).eval()(batch_graphs([graph(one) for one in parts])).stress
        assert stress.isnan().flatten(1).all(1).tolist() == [True, True, False, False]
        assert stress[2:].isfinite().all() and torch.allclose(stress[2:], stress[2:].transpose(1, 2), atol=1e-7)


def test_strain_acts_on_positions_and_cell() -> None:
    """Fractional coordinates stay; only the symmetric part counts; virial over volume is the stress."""
    one = graph(triclinic())
    strain = torch.zeros(1, 3, 3, dtype=torch.float64)
    strain[0, 0, 1] = 0.02
    bent, mirrored = deformed(one, strain), deformed(one, strain.transpose(1, 2))
    assert torch.equal(bent.positions, mirrored.positions) and not torch.equal(bent.positions, one.positions)
    before, after = (g.positions @ torch.linalg.inv(g.cell[0]) for g in (one, bent))
    assert torch.allclose(before, after, atol=1e-13)
    virial = torch.eye(3, dtype=torch.float64)[None] * 2.0
    expected = virial / triclinic().get_volume()
    assert torch.allclose(stress_from_virial(virial, one), expected, atol=1e-14)


def test_what_is_refused() -> None:
    """Unknown elements by symbol, atom and what is known; incomplete graphs by their cutoffs. Larger ones are fine."""
    potential = build().double().eval()
    atoms = ethanol()
    atoms.numbers[[4, 7]] = 79, 16
    with pytest.raises(UnsupportedElementError, match=r"S \(first at atom 7\), Au \(first at atom 4\); .* H C O$"):
        potential(graph(atoms))
    with pytest.raises(GeometryError, match=r"cutoff 3\.9 Å is below the model's 4\.0 Å"):
        potential(to_graph(ethanol(), 3.9))
    small, large = potential(graph(triclinic())), potential(to_graph(triclinic(), 6.0))
    assert torch.allclose(small.energy, large.energy, atol=1e-10)
    assert torch.allclose(small.forces, large.forces, atol=1e-10)


def test_the_graph_is_left_alone() -> None:
    """Not a number changed, no gradient asked of it."""
    one = batch_graphs([graph(triclinic()), graph(ethanol())])
    copy = dataclasses.replace(one, positions=one.positions.clone(), cell=one.cell.clone())
    build().train()(one)
    assert torch.equal(one.positions, copy.positions) and torch.equal(one.cell, copy.cell)
    assert not one.positions.requires_grad and not one.cell.requires_grad


@pytest.mark.parametrize("charge", ["total", "atomic"])
def test_charge_reaches_energies(charge: str) -> None:
    """Differently charged, differently bound; a model of `atomic` charges tells a graph without them."""
    potential = build(charge=charge).double().eval()
    plain = graph(ethanol())
    if charge == "atomic":
        with pytest.raises(GeometryError, match="per-atom charges"):
            potential(plain)
        zero = torch.zeros(9, dtype=torch.float64)
        one_up = zero.clone()
        one_up[2] = 1.0
        graphs = [dataclasses.replace(plain, atomic_charges=q) for q in (zero, one_up)]
    else:
        graphs = [graph(ethanol(), charge=q) for q in (0.0, 1.0)]
    energies = [potential(one).energy for one in graphs]
    assert (energies[0] - energies[1]).abs() > 1e-4
    joined = potential(batch_graphs(graphs)).energy
    assert torch.allclose(joined, torch.cat(energies), atol=1e-10)


@pytest.mark.parametrize(
    ("species", "references", "scale", "neighbors", "message"),
    [
        ((8, 1), (0.0, 0.0), (1.0, 1.0), 3.0, "ascending"),
        ((1, 1), (0.0, 0.0), (1.0, 1.0), 3.0, "unique"),
        ((), (), (), 3.0, "ascending"),
        ((1, 8), (0.0,), (1.0, 1.0), 3.0, "one entry each"),
        ((1,), (0.0,), (1.0,), 0.0, "positive, got 0"),
    ],
)
def test_impossible_statistics(
    species: tuple[int, ...], references: tuple[float, ...], scale: tuple[float, ...], neighbors: float, message: str
) -> None:
    """Said at once, not after a day of training."""
    with pytest.raises(ValueError, match=message):
        Statistics(species, references, scale, neighbors)
