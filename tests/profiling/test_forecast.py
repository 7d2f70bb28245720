"""Forecasts of memory, and batches that keep to them."""

from __future__ import annotations

import functools
import random

import numpy as np
import pytest
import torch
from ase import Atoms

from mlanet.data.atoms import to_graph
from mlanet.data.loader import Loader
from mlanet.data.samples import Sample
from mlanet.errors import DataError
from mlanet.forecast import Forecast, MemoryLimit, memory_limit, peak
from mlanet.graph import AtomicGraph, Labels, Size, batch_graphs
from mlanet.inference import predict
from mlanet.memory import peak_bytes
from mlanet.potential import Potential
from mlanet.profiling.ours import configuration
from mlanet.statistics import Statistics

SMALL = "mlanet_l2:irreps=8x0e+8x1o+8x2e,layers=2"
MODELS = [
    SMALL,
    "mlanet_l1:irreps=8x0e+8x1o,layers=1,message=full,combine=product",
    "leignn:channels=16,layers=2",
    "leignn_dispersion",
]


def built(name: str) -> Potential:
    torch.manual_seed(0)
    return Potential.build(configuration(name), Statistics.unit((14,), 30.0)).float()


@functools.cache
def forecast_of(name: str, training: bool) -> Forecast:
    """Its laws are measured once for all tests."""
    return Forecast(built(name), training)


def crystal(cutoff: float, repeats: int, spacing: float) -> AtomicGraph:
    atoms = Atoms("Si", cell=[spacing] * 3, pbc=True).repeat(repeats)
    atoms.positions += np.random.default_rng(0).normal(scale=0.08, size=(len(atoms), 3))
    return to_graph(atoms, cutoff)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_forecasts_hold_on_larger_crystals(name: str, training: bool) -> None:
    """Within a tenth of what is counted, on a crystal larger than any that was measured."""
    potential = built(name)
    graph = crystal(potential.cutoff, 6, 2.6)
    forecast = forecast_of(name, training).computing(graph.size())
    assert forecast == pytest.approx(peak(potential, graph.to(dtype=torch.float32), training), rel=0.1)


def test_forecasts_hold_where_neighbours_differ() -> None:
    """A dense crystal and a dilute one in one batch are arranged as a list, which has its own law."""
    potential = built(SMALL)
    graph = batch_graphs([crystal(potential.cutoff, 6, 2.6), crystal(potential.cutoff, 5, 4.9)])
    forecast = forecast_of(SMALL, True).computing(graph.size())
    assert forecast == pytest.approx(peak(potential, graph.to(dtype=torch.float32), True), rel=0.1)


def test_laws_are_measured_once() -> None:
    """The second question costs nothing, and mode and gradients of the potential are left alone."""
    potential = built(SMALL).eval()
    forecast = Forecast(potential, training=True)
    first = forecast.bytes(Size(500, 14_000, 30))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlanet.forecast.peak", lambda *_: pytest.fail("measured again"))
        assert forecast.bytes(Size(1000, 28_000, 30)) > first
    assert not potential.training
    assert all(one.grad is None for one in potential.parameters())


def test_largest_fits_and_a_little_more_does_not() -> None:
    """The largest crystal under a limit is the largest."""
    forecast = forecast_of(SMALL, False)
    limit = 2.0**30
    atoms = forecast.largest(limit, 40.0)
    assert forecast.fits(Size(atoms, 40 * atoms, 46), limit)
    assert not forecast.fits(Size(round(1.01 * atoms), round(40.4 * atoms), 46), limit)


@pytest.mark.parametrize("seed", range(2))
def test_no_batch_exceeds_a_limit(seed: int) -> None:
    """Batches of a loader and of `predict` stay below an artificial limit, and are not needlessly small."""
    rng = random.Random(seed)
    potential = built(("mlanet_l1:irreps=8x0e+8x1o,layers=1", "leignn:channels=16,layers=1")[seed])
    graphs = [crystal(potential.cutoff, rng.randint(1, 3), rng.choice((2.6, 3.4, 4.4))) for _ in range(8)]
    graphs = [graph.to(dtype=torch.float32) for graph in graphs]
    for training in (True, False):
        forecast = Forecast(potential, training)
        limit = 1.5 * max(1.1 * forecast.bytes(graph.size()) for graph in graphs)
        unlabelled = Labels(torch.zeros(1), torch.zeros(1, 3), torch.zeros(1, 3, 3))
        samples = [Sample(graph, unlabelled, "made here", "") for graph in graphs]
        plan = Loader(samples, max_edges=10**9, seed=seed, fits=MemoryLimit(forecast, limit)).plan(0)
        peaks = [forecast.held + peak(potential, batch_graphs([graphs[i] for i in one]), training) for one in plan]
        assert max(peaks) <= limit
        assert len(plan) < len(graphs)
    list(predict(potential, graphs, max_edges=10**9, fits=MemoryLimit(forecast, limit)))  # laws are measured here
    limited = peak_bytes(lambda: list(predict(potential, graphs, max_edges=10**9, fits=MemoryLimit(forecast, limit))))
    assert limited <= limit


def test_a_structure_that_cannot_fit_is_named() -> None:
    """Before anything is computed, with what it needs and what helps."""
    potential = built(SMALL)
    limit = memory_limit(potential, 0.01)
    assert limit is not None
    with pytest.raises(DataError, match=r"big\.cif, frame 0: 512 atoms .* GiB, more than the 0\.01 GiB .*max_memory"):
        limit.require(crystal(potential.cutoff, 8, 2.6), "big.cif, frame 0")


def test_a_cpu_has_no_limit_of_its_own() -> None:
    """Only what the user says."""
    assert memory_limit(built(SMALL), None) is None
