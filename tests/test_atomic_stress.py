"""Stress of single atoms: adds up, turns with the crystal, is the same in every way to compute it, has a meaning."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.stress import voigt_6_to_full_3x3_stress
from scipy.spatial.transform import Rotation

from mlanet import MLANetCalculator
from mlanet.atomic_stress import atomic_stresses
from mlanet.config import parse
from mlanet.data.atoms import to_graph
from mlanet.data.read import Frame
from mlanet.errors import ConfigError
from mlanet.graph import batch_graphs
from mlanet.models import ModelConfig
from mlanet.native import Engine
from mlanet.potential import Potential
from mlanet.statistics import Statistics
from mlanet.workflows.predict import predict_frames


def silicon(**words: object) -> MLANetCalculator:
    """The packaged model of elements."""
    return MLANetCalculator("elemental", dtype="float64", **words)


def rattled() -> ase.Atoms:
    """A skewed crystal out of rest."""
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=0)
    atoms.set_cell(atoms.cell.array @ [[1.02, 0.03, 0.0], [0.0, 0.98, 0.01], [0.0, 0.0, 1.0]], scale_atoms=True)
    return atoms


def tiny(**changes: object) -> Potential:
    """An untrained model of silicon in float64."""
    torch.manual_seed(0)
    words = {"model": "mlanet", "irreps": "8x0e+8x1o", "layers": 2, "hidden": 8, "radial_hidden": [8], "cutoff": 4.0}
    statistics = Statistics((14,), (-1.0,), (1.0,), 12.0)
    return Potential.build(parse(words | changes, ModelConfig, "test"), statistics).double().eval()


@pytest.mark.parametrize("kernels", ["native", "fused", "plain"])
def test_they_add_up_and_agree(kernels: str) -> None:
    """Σ_i σ_i = σ, whatever computes them, and native and torch divide it among atoms alike."""
    atoms = rattled()
    atoms.calc = silicon(kernels=kernels)
    each = atoms.get_stresses()
    assert each.shape == (8, 6) and each.std(axis=0).max() > 1e-4
    np.testing.assert_allclose(each.sum(axis=0), atoms.get_stress(), atol=1e-10)
    other = rattled()
    other.calc = silicon(kernels="plain")
    np.testing.assert_allclose(each, other.get_stresses(), atol=1e-9)


@pytest.mark.parametrize("kernels", ["native", "plain"])
def test_they_turn_as_tensors(kernels: str) -> None:
    """R σ_i Rᵀ of the turned crystal."""
    atoms, turned = rattled(), rattled()
    turn = Rotation.from_euler("zyx", (40, 25, -70), degrees=True).as_matrix()
    turned.set_cell(turned.cell.array @ turn.T, scale_atoms=True)
    atoms.calc = turned.calc = silicon(kernels=kernels)
    here, there = (voigt_6_to_full_3x3_stress(one.get_stresses()) for one in (atoms, turned))
    np.testing.assert_allclose(there, turn @ here @ turn.T, atol=1e-9)


@pytest.mark.parametrize("model", ["elemental", tiny()], ids=["file", "potential"])
@pytest.mark.parametrize("first", ["energy", "stresses"])
def test_the_native_engine_takes_one_step(model: str | Potential, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Virials of atoms come with the forces: energy, forces, stress and stresses, in any order, are one computation."""
    steps, compute = [], Engine.compute
    monkeypatch.setattr(Engine, "compute", lambda self, *words: steps.append(0) or compute(self, *words))
    atoms = rattled()
    atoms.calc = MLANetCalculator(model, dtype="float64", kernels="native")
    steps.clear()
    for name in (first, "stress", "stresses", "forces", "energy"):
        atoms.calc.get_property(name, atoms)
    assert len(steps) == 1
    np.testing.assert_allclose(atoms.get_stresses().sum(axis=0), atoms.get_stress(), atol=1e-10)
    atoms.rattle(0.01)
    moved = atoms.get_stresses()
    assert len(steps) == 2 and moved.shape == (8, 6)
    atoms.pbc = False
    atoms.get_potential_energy()
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stresses()


def test_a_batch_of_predictions_takes_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two crystals at once, each with its own stresses; without torch and with it."""
    steps, compute = [], Engine.compute
    monkeypatch.setattr(Engine, "compute", lambda self, *words: steps.append(0) or compute(self, *words))
    calculator = silicon(kernels="native")
    for answering in (calculator.answering, calculator.potential):
        steps.clear()
        frames = [Frame(rattled(), "one"), Frame(bulk("Si"), "without a volume"), Frame(rattled() * (2, 1, 1), "two")]
        frames[1].atoms.pbc = False
        found = [one.atoms for one in predict_frames(answering, frames, atomic_stress=True)]
        assert len(steps) == 1 and "stresses" not in found[1].calc.results
        for atoms in found[::2]:
            results = atoms.calc.results
            np.testing.assert_allclose(results["stresses"].sum(axis=0), results["stress"], atol=1e-10)


def test_strain_of_the_pairs_of_one_atom() -> None:
    """A supercell has the crystal's, over its own volume; and in a batch every structure has its own volume."""
    atoms = rattled()
    large = atoms * (2, 1, 1)
    calculator = silicon()
    atoms.calc = large.calc = calculator
    np.testing.assert_allclose(large.get_stresses(), np.tile(atoms.get_stresses(), (2, 1)) / 2, atol=1e-9)
    potential = calculator.potential
    graphs = [to_graph(one.copy(), potential.cutoff) for one in (atoms, large)]
    both = atomic_stresses(potential, batch_graphs(graphs))
    np.testing.assert_allclose(both, np.concatenate([atomic_stresses(potential, one) for one in graphs]), atol=1e-10)


@pytest.mark.parametrize("model", ["mlanet", "leignn"])
def test_other_models_have_them_too(model: str) -> None:
    """By torch, of layers that look at more than the pairs of an atom."""
    potential = tiny() if model == "mlanet" else tiny_leignn()
    graph = to_graph(rattled(), potential.cutoff)
    each = atomic_stresses(potential, graph)
    np.testing.assert_allclose(each.sum(axis=0), potential(graph).stress[0].detach().numpy(), atol=1e-10, rtol=0)


def tiny_leignn() -> Potential:
    """The other network."""
    torch.manual_seed(0)
    settings = parse({"model": "leignn", "channels": 8, "layers": 2, "cutoff": 4.0}, ModelConfig, "test")
    return Potential.build(settings, Statistics((14,), (-1.0,), (1.0,), 12.0)).double().eval()


def test_where_they_have_no_meaning() -> None:
    """Direct forces, a long-range term, and no volume are refused with the reason."""
    for changes, word in (({"forces": "direct"}, "direct forces"), ({"long_range": "dispersion"}, "long-range")):
        potential = tiny(**changes)
        with pytest.raises(ConfigError, match=word):
            atomic_stresses(potential, to_graph(rattled(), potential.cutoff))
        atoms = rattled()
        with pytest.warns(UserWarning) if "forces" in changes else pytest.MonkeyPatch.context():
            atoms.calc = MLANetCalculator(potential)
        with pytest.raises(PropertyNotImplementedError, match=word):
            atoms.get_stresses()
        assert np.isfinite(atoms.get_potential_energy())
    lone = molecule("SiH4")[:1]
    lone.calc = silicon()
    with pytest.raises(PropertyNotImplementedError, match="periodic direction"):
        lone.get_stresses()
