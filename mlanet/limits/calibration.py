"""Predicted against real errors: whether standard errors are as large as errors, and whether they find the worst."""

from __future__ import annotations

import itertools
from collections import Counter

import msgspec
import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray
from scipy.stats import rankdata

from mlanet.graph import AtomicGraph, Labels, Prediction
from mlanet.limits.assess import UNKNOWN, Assessment

BINS = 5
"""Of predicted errors between their 5th and 95th percentile."""
MIDDLE = (0.05, 0.95)
WORST = 0.9
"""Quantile of real errors from which on they are the worst."""
FORBIDDEN = 0.01
"""Of the root mean square: smaller errors are those of forces that vanish by symmetry."""
FEWEST = 20
"""Errors, below which no bin is drawn."""


class Calibration(msgspec.Struct, frozen=True):
    """Real and predicted errors of one quantity, root mean squares in eV/atom, eV/Å (per component) or eV/Å³."""

    count: int
    real: float
    predicted: float
    bins: list[tuple[float, float]]
    """Predicted and real in bins of the predicted, between the 5th and 95th percentile; empty for few."""
    finds_worst: float | None
    """AUROC: the chance that one of the worst tenth has a larger predicted error than one of the others."""

    @property
    def largest_factor(self) -> float | None:
        """By which a bin is off at most, either way, but for bins where symmetry forbids errors."""
        least = FORBIDDEN * self.real
        return max((max(a / b, b / a) for a, b in self.bins if a > 0 and b > least), default=None)


class LimitsReport(msgspec.Struct, frozen=True):
    """What `mlanet evaluate` says of a model that knows its limits."""

    extrapolation: dict[str, int]
    """Structures by word."""
    quantities: dict[str, Calibration]
    elements: dict[str, Calibration]
    """Forces, by element."""
    force_size_finds_worst: float | None
    """AUROC of the trivial guess that large forces have large errors."""


class Entry(msgspec.Struct, frozen=True):
    """What one structure says of standard errors: the predicted and the real one of each quantity, where known."""

    word: str
    """inside, edge, outside or unknown."""
    energy: tuple[float, float] | None = None
    stress: tuple[float, float] | None = None
    forces: list[list[float]] | None = None
    """Of each atom: predicted, real, size of the force, atomic number."""


def entry_of(graph: AtomicGraph, labels: Labels, prediction: Prediction, assessment: Assessment) -> Entry:
    """Of one structure."""
    energy = stress = forces = None
    if assessment.energy_std is not None:
        wrong = float(prediction.energy[0] - labels.energy[0]) / graph.n_atoms
        energy = (assessment.energy_std / graph.n_atoms, abs(wrong))
    if assessment.stress_std is not None:
        wrong = float((prediction.stress - labels.stress).double().square().mean().sqrt())
        stress = (assessment.stress_std, wrong)
    if assessment.forces_std is not None:
        wrong_of_atoms = (prediction.forces - labels.forces).double().square().mean(dim=1).sqrt().numpy()
        size = prediction.forces.double().norm(dim=1).numpy()
        numbers = graph.numbers.numpy().astype(np.float64)
        forces = np.stack([assessment.forces_std, wrong_of_atoms, size, numbers], axis=1).tolist()
    return Entry(assessment.extrapolation, energy, stress, forces)


class Calibrating:
    """Collects predicted and real errors, structure by structure."""

    def __init__(self) -> None:
        self.words: Counter[str] = Counter()
        self._energy: list[tuple[float, float]] = []
        self._stress: list[tuple[float, float]] = []
        self._forces: list[NDArray[np.float64]] = []

    def take(self, entry: Entry) -> None:
        """One structure."""
        self.words[entry.word] += 1
        if entry.energy is not None:
            self._energy.append(entry.energy)
        if entry.stress is not None:
            self._stress.append(entry.stress)
        if entry.forces is not None:
            self._forces.append(np.array(entry.forces).reshape(-1, 4))

    def report(self) -> LimitsReport | None:
        """All together; None for a model that says nothing of its limits or errors."""
        if set(self.words) <= {UNKNOWN} and not (self._energy or self._forces):
            return None
        table = np.concatenate(self._forces) if self._forces else np.zeros((0, 4))
        table = table[np.isfinite(table).all(axis=1)]
        pairs = {
            "energy": np.array(self._energy).reshape(-1, 2),
            "forces": table[:, :2],
            "stress": np.array(self._stress).reshape(-1, 2),
        }
        calibrations = {name: calibration(errors[np.isfinite(errors).all(axis=1)]) for name, errors in pairs.items()}
        elements = {
            chemical_symbols[int(z)]: calibration(table[table[:, 3] == z][:, :2]) for z in np.unique(table[:, 3])
        }
        return LimitsReport(
            dict(self.words),
            {name: errors for name, errors in calibrations.items() if errors is not None},
            {name: errors for name, errors in elements.items() if errors is not None},
            auroc(table[:, 2], table[:, 1]),
        )


def calibration(pairs: NDArray[np.float64]) -> Calibration | None:
    """(M, 2) predicted and real errors -> how they compare; None for none."""
    if not len(pairs):
        return None
    predicted, real = pairs.T
    real_rms, predicted_rms = (float(np.sqrt(np.mean(errors**2))) for errors in (real, predicted))
    return Calibration(len(pairs), real_rms, predicted_rms, _bins(predicted, real), auroc(predicted, real))


def auroc(score: NDArray[np.float64], error: NDArray[np.float64]) -> float | None:
    """Area under the receiver operating characteristic for finding the worst tenth of errors; None for few.

    >>> float(auroc(np.arange(20.0), np.arange(20.0)))
    1.0
    """
    if len(error) < FEWEST:
        return None
    worst = error >= np.quantile(error, WORST)
    hits, others = int(worst.sum()), int((~worst).sum())
    if not others:
        return None
    return float((rankdata(score)[worst].sum() - hits * (hits + 1) / 2) / (hits * others))


def _bins(predicted: NDArray[np.float64], real: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Root mean squares of both in bins of equal numbers."""
    if len(predicted) < FEWEST:
        return []
    edges = np.quantile(predicted, np.linspace(*MIDDLE, BINS + 1))
    bins = []
    for low, high in itertools.pairwise(edges):
        inside = (predicted >= low) & (predicted <= high)
        if inside.any():
            bins.append(tuple(float(np.sqrt(np.mean(errors[inside] ** 2))) for errors in (predicted, real)))
    return bins  # type: ignore[return-value]
