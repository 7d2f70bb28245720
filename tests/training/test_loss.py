"""The loss sees labelled entries only, adds up over processes, and has the gradient that it claims to have."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from mlanet.config import parse
from mlanet.data.dataset import load_samples
from mlanet.data.samples import Sample
from mlanet.graph import AtomicGraph, Labels, Prediction, batch_graphs, batch_labels
from mlanet.models import ModelConfig
from mlanet.potential import Potential
from mlanet.statistics import Statistics
from mlanet.training.config import LossConfig, TrainConfig
from mlanet.training.loss import Residuals, loss

KINDS = ("l1", "huber", "mse")


@pytest.fixture
def samples(seven: str) -> list[Sample]:
    return load_samples([seven], 3.5)[:3]


@pytest.fixture
def potential(settings: Callable[..., TrainConfig]) -> Potential:
    config = parse(settings().model, ModelConfig, "test")
    return Potential.build(config, Statistics((13, 29), (-1.0, -2.0), (0.5, 0.7), 12.0)).double().train()


def whole(samples: list[Sample]) -> tuple[AtomicGraph, Labels]:
    return batch_graphs([one.graph for one in samples]), batch_labels([one.labels for one in samples])


def value(potential: Potential, graph: AtomicGraph, labels: Labels, config: LossConfig) -> torch.Tensor:
    residuals = Residuals(potential(graph), labels, graph)
    return loss(residuals, residuals.counts(), config)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_label_is_as_if_it_had_never_been_there(
    potential: Potential, samples: list[Sample], kind: str
) -> None:
    """Loss with NaN labels = loss on the labelled entries, computed by hand; and every gradient is finite."""
    graph, labels = whole(samples)
    energy, forces, stress = labels.energy.clone(), labels.forces.clone(), labels.stress.clone()
    energy[1] = forces[::3] = stress[0] = torch.nan
    forces[4, 1] = torch.nan
    holes = Labels(energy, forces, stress)
    config = LossConfig(kind=kind, energy=2.0, forces=3.0, stress=5.0)
    result = value(potential, graph, holes, config)
    result.backward()
    assert all(bool(torch.isfinite(one.grad).all()) for one in potential.parameters() if one.grad is not None)

    def mean(difference: torch.Tensor) -> float:
        x = difference[~difference.isnan()].detach().abs()
        if kind == "mse":
            return float((x * x).mean())
        if kind == "huber":
            return float(torch.where(x < 0.01, x * x / 0.02, x - 0.005).mean())
        return float(x.mean())

    guess = potential(graph)
    atoms = graph.atoms_per_structure()
    parts = (guess.energy - energy) / atoms, guess.forces - forces, guess.stress - stress
    expected = 2.0 * mean(parts[0]) + 3.0 * mean(parts[1]) + 5.0 * mean(parts[2])
    assert float(result.detach()) == pytest.approx(expected, rel=1e-12)


def test_nothing_labelled_is_no_loss(potential: Potential, samples: list[Sample]) -> None:
    """A batch without any label has loss 0 and zero gradients, not NaN."""
    graph, labels = whole(samples)
    empty = Labels(*(torch.full_like(one, torch.nan) for one in (labels.energy, labels.forces, labels.stress)))
    result = value(potential, graph, empty, LossConfig())
    result.backward()
    assert float(result.detach()) == 0.0
    assert all(one.grad is None or not bool(one.grad.any()) for one in potential.parameters())


def test_stress_counts_only_where_it_has_a_meaning(potential: Potential, samples: list[Sample]) -> None:
    """A stress label on a molecule, where no stress is defined, changes nothing and is not counted."""
    graph, labels = whole(samples[:1])
    molecule = dataclasses.replace(graph, pbc=torch.zeros_like(graph.pbc))
    guess = potential(molecule)
    assert bool(guess.stress.isnan().all())
    assert Residuals(guess, labels, molecule).counts().tolist() == [1, 3 * graph.n_atoms, 0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_shares_of_several_processes_add_up(potential: Potential, samples: list[Sample], kind: str) -> None:
    """With the counts of all, uneven shares of a batch give the loss and gradient of the whole, to 1e-12."""
    config = LossConfig(kind=kind)
    graph, labels = whole(samples)
    result = value(potential, graph, labels, config)
    together = torch.autograd.grad(result, list(potential.parameters()), allow_unused=True)
    counts = Residuals(potential(graph), labels, graph).counts()
    parts = [whole(samples[:1]), whole(samples[1:])]
    shares = [loss(Residuals(potential(g), one, g), counts, config) for g, one in parts]
    apart = torch.autograd.grad(sum(shares[1:], shares[0]), list(potential.parameters()), allow_unused=True)
    assert float(sum(shares).detach()) == pytest.approx(float(result.detach()), rel=1e-12)
    for a, b in zip(together, apart, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("forces", ["gradient", "direct"])
def test_the_gradient_of_the_loss_is_that_of_finite_differences(
    potential: Potential, samples: list[Sample], forces: str, settings: Callable[..., TrainConfig]
) -> None:
    """∂L/∂θ of the energy + forces + stress loss against central differences in float64, along directions in which
    every weight takes part, and for single weights of every tensor."""
    if forces == "direct":
        config = parse(settings().model | {"forces": "direct"}, ModelConfig, "test")
        potential = Potential.build(config, potential.statistics).double().train()
    graph, labels = whole(samples)
    config = LossConfig(kind="mse", stress=100.0)
    parameters = list(potential.parameters())
    gradients = torch.autograd.grad(value(potential, graph, labels, config), parameters, allow_unused=True)
    exact = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]
    generator = torch.Generator().manual_seed(3)
    directions = [[torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters] for _ in range(3)]
    for index, parameter in enumerate(parameters):
        single = [torch.zeros_like(p) for p in parameters]
        place = int(torch.randint(parameter.numel(), (), generator=generator))
        single[index].view(-1)[place] = 1.0
        directions.append(single)
    scale = max(float(g.abs().max()) for g in exact)
    for direction in directions:
        slope = sum(float((g * d).sum()) for g, d in zip(exact, direction, strict=True))
        step, ends = 1e-5, []
        for sign in (1, -1):
            with torch.no_grad():
                torch._foreach_add_(parameters, direction, alpha=sign * step)
            ends.append(float(value(potential, graph, labels, config).detach()))
            with torch.no_grad():
                torch._foreach_add_(parameters, direction, alpha=-sign * step)
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=2e-6, abs=2e-7 * scale)


def test_differences_are_taken_in_double_precision(potential: Potential, samples: list[Sample]) -> None:
    """An energy of −10⁵ eV that is wrong by 10⁻⁶ eV is a residual of 10⁻⁶ eV, not of float32's 0.008."""
    graph, labels = whole(samples[:1])
    energy = torch.tensor([-1e5], dtype=torch.float64)
    guess = potential(graph)
    near = Prediction(energy + 1e-6, guess.forces, guess.stress, guess.atomic_energies)
    residual = Residuals(near, Labels(energy, labels.forces, labels.stress).to(dtype=torch.float32), graph)
    assert float(residual["energy"] * graph.n_atoms) == pytest.approx(1e-6, rel=1e-4)
