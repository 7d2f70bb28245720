"""Elements as the periodic table has them, and distances in units of bonds."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, chemical_symbols

import mlanet
from mlanet.checkpoint import rebuilt
from mlanet.data.atoms import to_graph
from mlanet.graph import AtomicGraph, batch_graphs
from mlanet.models import MLANetConfig
from mlanet.nn.elements import PeriodicEmbedding, element_features, group_of, period_of, valence
from mlanet.nn.radial import BondBasis, polynomial_envelope
from mlanet.potential import Potential
from mlanet.statistics import Statistics

SMALL = MLANetConfig(
    irreps="8x0e+8x1o+8x2e", layers=2, heads=2, key_dim=4, hidden=8, elements="periodic", bond_functions=4
)


@pytest.mark.parametrize(
    ("symbol", "period", "group", "electrons"),
    [
        ("H", 1, 1, {"s": 1}),
        ("O", 2, 16, {"s": 2, "p": 4}),
        ("Ca", 4, 2, {"s": 2}),
        ("Fe", 4, 8, {"s": 2, "d": 6}),
        ("Zn", 4, 12, {"s": 2, "d": 10}),
        ("Br", 4, 17, {"s": 2, "d": 10, "p": 5}),
        ("Xe", 5, 18, {"s": 2, "d": 10, "p": 6}),
        ("Eu", 6, 3, {"s": 2, "f": 7}),
        ("Au", 6, 11, {"s": 2, "f": 14, "d": 9}),
        ("U", 7, 3, {"s": 2, "f": 4}),
    ],
)
def test_place_in_the_periodic_table(symbol: str, period: int, group: int, electrons: dict[str, int]) -> None:
    """Rows, columns and Madelung's order."""
    number = atomic_numbers[symbol]
    assert (period_of(number), group_of(number)) == (period, group)
    assert {shell: n for shell, n in valence(number).items() if n} == electrons


def test_groups_are_those_of_pymatgen() -> None:
    """All 103 of them."""
    from pymatgen.core import Element

    for number in range(1, 104):
        element = Element.from_Z(number)
        assert (group_of(number), period_of(number)) == (element.group, element.row % 10 or element.row)


@pytest.mark.parametrize(
    ("symbol", "relatives"), [("K", "Rb Na Cs"), ("Cl", "Br F I"), ("Zr", "Hf Ti"), ("Nd", "Pr Pm")]
)
def test_relatives_have_similar_features(symbol: str, relatives: str) -> None:
    """They are among the nearest five."""
    features = element_features(range(1, 104))
    order = torch.cdist(features, features)[atomic_numbers[symbol] - 1].argsort()
    nearest = {chemical_symbols[int(k) + 1] for k in order[1:6]}
    assert set(relatives.split()) <= nearest


def test_features_are_fixed() -> None:
    """They are part of the equations and in no file: other numbers would change every model that uses them."""
    features = element_features(range(1, 119))
    assert features.isfinite().all()
    weights = torch.arange(features.numel(), dtype=torch.float64).reshape(features.shape).sin()
    assert (features * weights).sum().item() == pytest.approx(DIGEST, abs=1e-9)


DIGEST = 0.0101901175196204


def test_what_is_learnt_of_one_element_moves_its_relatives() -> None:
    """A step on sodium alone changes potassium more than it changes chlorine; in a table of rows it changes neither."""
    embedding = PeriodicEmbedding([11, 17, 19], 16).double()
    before = embedding(torch.arange(3)).detach()
    embedding(torch.tensor([0])).sum().backward()
    with torch.no_grad():
        for weight in embedding.parameters():
            assert weight.grad is not None
            weight -= 0.1 * weight.grad
    change = (embedding(torch.arange(3)) - before).norm(dim=1)
    assert change[0] > change[2] > 2 * change[1]


def test_bonds_of_different_elements_look_alike() -> None:
    """At the same fraction of the sum of the radii, the Gaussians of H-H and of Cs-Cs are the same."""
    basis = BondBasis(6, [1, 55]).double()
    radius = basis.log_radius.exp()
    length = 1.1
    kinds = torch.tensor([0, 1, 0]), torch.tensor([0, 1, 1])
    distance = length * (radius[kinds[0]] + radius[kinds[1]])
    values = basis(distance, torch.ones_like(distance), *kinds)
    assert torch.allclose(values, values[:1].expand_as(values), atol=1e-12)
    assert values.max() > 0.5


def test_bond_functions_end_smoothly_at_the_cutoff() -> None:
    """With two derivatives, whatever the radii."""
    basis = BondBasis(4, [55]).double()
    none = torch.zeros(1, dtype=torch.int64)
    distance = torch.tensor([5.0 - 1e-7], dtype=torch.float64, requires_grad=True)
    for values in basis(distance, polynomial_envelope(distance, 5.0), none, none).unbind(1):
        (first,) = torch.autograd.grad(values.sum(), distance, create_graph=True, retain_graph=True)
        (second,) = torch.autograd.grad(first.sum(), distance, retain_graph=True)
        assert abs(values) < 1e-15 and abs(first) < 1e-11 and abs(second) < 1e-3


def graphs() -> AtomicGraph:
    """Crystals of five elements."""
    rattled = [bulk("NaCl", "rocksalt", 5.6, cubic=True), bulk("KCl", "rocksalt", 6.3), bulk("Fe", "bcc", 2.9)]
    for seed, atoms in enumerate(rattled):
        atoms.rattle(0.1, seed=seed)
    return batch_graphs([to_graph(atoms, 5.0) for atoms in (*rattled, Atoms("Cl"))])


def test_forces_are_the_gradient() -> None:
    """By differences, in float64, of both new switches at once."""
    torch.manual_seed(0)
    potential = Potential.build(SMALL, Statistics.unit((11, 17, 19, 26), 12.0)).double().eval()
    graph, step = graphs(), 1e-4
    forces = potential(graph).forces
    for atom, axis in ((0, 0), (9, 2), (10, 1)):
        energies = []
        for sign in (1, -1):
            positions = graph.positions.clone()
            positions[atom, axis] += sign * step
            energies.append(potential(dataclasses.replace(graph, positions=positions)).energy.sum())
        assert forces[atom, axis].item() == pytest.approx(-float(energies[0] - energies[1]) / (2 * step), abs=1e-6)


def test_kernels_agree() -> None:
    """Fused and plain, energies and forces."""
    torch.manual_seed(0)
    potential = Potential.build(SMALL, Statistics.unit((11, 17, 19, 26), 12.0)).double().eval()
    plain, fused = potential(graphs()), potential.with_kernels("fused")(graphs())
    assert torch.allclose(plain.energy, fused.energy, atol=1e-11)
    assert torch.allclose(plain.forces, fused.forces, atol=1e-11)


def test_constants_do_not_depend_on_what_a_model_was_before() -> None:
    """Read in float32 and taken to float64, a model is the one that is built in float64 with the same weights."""
    potential = mlanet.load("universal")
    twice = potential.double()
    anew = rebuilt(potential.model.config, potential.statistics, potential.state_dict())
    assert anew.dtype == torch.float64
    for (name, one), (_, other) in zip(twice.named_buffers(), anew.named_buffers(), strict=True):
        assert torch.equal(one, other), name
    assert any(one.dtype == torch.float64 for one in potential.float().buffers())
