"""How long a sweep will take, from a few steps of each model; nothing is written."""

from __future__ import annotations

import statistics
import time
from typing import NamedTuple

import torch

from mlanet.data.dataset import sample_of
from mlanet.data.loader import Loader
from mlanet.data.samples import Sample
from mlanet.execution import Execution
from mlanet.sweep.config import SweepConfig
from mlanet.sweep.folder import Started
from mlanet.sweep.parts import divide
from mlanet.sweep.plan import Point, model_config
from mlanet.training.loss import Residuals, loss
from mlanet.training.processes import Processes

WARM_UP, STEPS = 1, 4
ENOUGH = 40
"""Structures that are read for it."""
OVERHEAD = 5.0
"""s for a process to start, read, judge and write."""


class Estimate(NamedTuple):
    """Expected time of each point, s, and of all of them one after another."""

    points: dict[Point, float]

    @property
    def total(self) -> float:
        """s."""
        return sum(self.points.values())


def estimate(config: SweepConfig, started: Started) -> Estimate:
    """Expected times: the budget's minutes, or its steps times that of a step (five are made for each model)."""
    budget, points = started.used.budget, started.plan.points
    if budget.minutes is not None:
        return Estimate({point: 60 * budget.minutes + OVERHEAD for point in points})
    frames = divide(config.data).train
    times: dict[tuple[str, int], tuple[float, float]] = {}
    for point in points:
        if (point.preset, point.l_max) not in times:
            network = model_config(started.used, point.preset, point.l_max)
            labels = started.used.data.labels
            samples = [sample_of(frame, network.cutoff, labels) for frame in frames[:ENOUGH]]
            times[point.preset, point.l_max] = _step(started.used, point, samples)
    expected = {}
    for point in points:
        seconds, structures = times[point.preset, point.l_max]
        steps = budget.steps if budget.steps is not None else (budget.epochs or 0) * point.size / structures
        expected[point] = steps * seconds + OVERHEAD
    return Estimate(expected)


def _step(config: SweepConfig, point: Point, samples: list[Sample]) -> tuple[float, float]:
    """Median time of a training step without the optimiser, s, and the structures in it."""
    from mlanet.data.fit import fit_statistics
    from mlanet.potential import Potential

    device = Processes(config.run.device).device
    torch.manual_seed(point.seed)
    statistic, _ = fit_statistics(samples, config.references)
    network = model_config(config, point.preset, point.l_max)
    execution = Execution(config.run.dtype, str(device))
    potential = execution.placed(Potential.build(network, statistic).train())
    loader = Loader(samples, max_edges=config.budget.max_edges, max_structures=config.budget.max_structures)
    times: list[float] = []
    epoch, counts = 0, []
    while len(times) < WARM_UP + STEPS:
        for graph, labels in loader.batches(epoch):
            start = time.perf_counter()
            there = graph.to(device, potential.dtype)
            residuals = Residuals(potential(there), labels.to(device, potential.dtype), there)
            loss(residuals, residuals.counts(), config.loss).backward()
            potential.zero_grad()
            times.append(time.perf_counter() - start)
            counts.append(graph.n_structures)
            if len(times) == WARM_UP + STEPS:
                break
        epoch += 1
    return statistics.median(times[WARM_UP:]), statistics.fmean(counts)
