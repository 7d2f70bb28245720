"""The judgement on one structure: a word, the reasons for it, and standard errors of what the model says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlanet.domain import Domain
from mlanet.graph import AtomicGraph, Prediction
from mlanet.limits.facts import Around, Reason, around, facts, named
from mlanet.limits.measure import TINY, distances, force_columns, rigidity, structure_features
from mlanet.statistics import Statistics

INSIDE, EDGE, OUTSIDE, UNKNOWN = "inside", "edge", "outside", "unknown"
WORDS = (INSIDE, EDGE, OUTSIDE)
"""By grade."""
FAR = 1.5
"""Of the reach of the training set: outside from here on."""
MOST_GROWTH = 1e3
"""Of a standard error, far outside."""


@dataclass(frozen=True)
class Assessment:
    """Where a structure stands, and standard errors; None where the model file has no data to say it from.

    - extrapolation: `inside`, `edge` or `outside` of the training set, or `unknown` · reasons: in words, the gravest
      first; empty inside · atoms: whom they are about
    - energy_std eV, of the total · energies_std (N,) eV, of the atoms · forces_std (N,) eV/Å, of each component
    - stress_std eV/Å³, of each component; None without stress
    - distance (N,): of each atom's surroundings from the training set, 1 at its border
    """

    extrapolation: str
    reasons: tuple[str, ...] = ()
    atoms: tuple[int, ...] = ()
    energy_std: float | None = None
    energies_std: NDArray[np.float64] | None = None
    forces_std: NDArray[np.float64] | None = None
    stress_std: float | None = None
    distance: NDArray[np.float64] | None = None

    @property
    def reason(self) -> str:
        """All of them in a line."""
        return "; ".join(self.reasons)


class Measured(NamedTuple):
    """What standard errors are computed from, of one structure; tensors of one entry or of one per atom."""

    away: Tensor
    white: Tensor
    energy: Tensor
    energies: Tensor
    species: Tensor
    force: Tensor


def assess(domain: Domain | None, statistics: Statistics, graph: AtomicGraph, prediction: Prediction) -> Assessment:
    """Judge what a potential said of one structure.

    Args:
        domain: `Potential.domain` · statistics: of the potential
        graph: of one structure, with every pair within the cutoff (more do no harm)
        prediction: with `features`
    """
    if domain is None or prediction.features is None:
        return Assessment(UNKNOWN)
    with torch.no_grad():
        where = around(graph, statistics)
        found = measured(domain, statistics, where.graph, where.species, prediction.map(Tensor.cpu))
        score = found.away / domain.reach[where.species]
        reasons = sorted([*facts(domain, statistics, where), *_far(where, score)], key=lambda one: -one.grade)
        return _errors(domain, where, found, score, reasons, prediction)


def of_batch(
    domain: Domain | None, statistics: Statistics, graphs: Iterable[AtomicGraph], predictions: Iterable[Prediction]
) -> list[Assessment]:
    """Of several structures, each by itself."""
    return [assess(domain, statistics, *one) for one in zip(graphs, predictions, strict=True)]


def worse(one: str, other: str) -> bool:
    """Whether the first word is a graver one; `unknown` is none.

    >>> worse("outside", "edge"), worse("edge", "unknown"), worse("inside", "inside")
    (True, True, False)
    """
    order = (UNKNOWN, *WORDS)
    return order.index(one) > order.index(other)


def measured(
    domain: Domain, statistics: Statistics, graph: AtomicGraph, species: Tensor, prediction: Prediction
) -> Measured:
    """Distances and rigidities of a structure on the CPU."""
    assert prediction.features is not None
    scale = torch.tensor(statistics.scale, dtype=torch.float64)[species]
    away, white = distances(domain, prediction.features, species)
    whole = structure_features(prediction.features, scale, graph)
    one = torch.ones(1, dtype=torch.float64)
    return Measured(
        away,
        white,
        rigidity(domain, whole, one.expand(len(whole))),
        rigidity(domain, prediction.features, scale),
        species,
        prediction.forces.double().square().sum(dim=1).sqrt(),
    )


def stress_measure(force_std: Tensor, graph: AtomicGraph) -> Tensor | None:
    """√⟨s²⟩ (N/V)^{2/3}, eV/Å³: what the errors of forces would do to the stress; None without a volume."""
    volume = graph.volume()
    if not bool(graph.pbc.any()) or not float(volume) > 0:
        return None
    return force_std.square().mean().sqrt() * (graph.n_atoms / volume[0]) ** (2 / 3)


def _far(where: Around, score: Tensor) -> list[Reason]:
    """Atoms in surroundings that the network finds unlike the training set's."""
    far = (score > 1).nonzero().flatten()
    if not len(far):
        return []
    far = far[score[far].argsort(descending=True)]
    most = float(score[far[0]])
    text = f"surroundings unlike the training set: {most:.3g} times as far as its farthest atom"
    return [Reason(2 if most > FAR else 1, f"{text} ({named(where.graph, far)})", far.tolist())]


def _errors(
    domain: Domain, where: Around, found: Measured, score: Tensor, reasons: list[Reason], prediction: Prediction
) -> Assessment:
    """Standard errors, and all of it together."""
    grade = reasons[0].grade if reasons else 0
    atoms = tuple(dict.fromkeys(one for reason in reasons for one in reason.atoms))
    words = tuple(reason.text for reason in reasons)
    known = Assessment(WORDS[grade], words, atoms, distance=score.numpy())
    if not len(domain.forces) and not len(domain.energy):
        return known
    n = where.graph.n_atoms
    energy = energies = forces = stress = None
    if len(domain.energy):
        per_atom = scaled(domain.energy, found.energy)
        energies = scaled(domain.energy, found.energies).numpy()
        energy = float(per_atom[0]) * n
    if len(domain.forces):
        per_force = force_std(domain, found, score)
        forces = per_force.numpy()
        measure = stress_measure(per_force, where.graph)
        defined = bool(torch.isfinite(prediction.stress).all())
        if measure is not None and len(domain.stress) and defined:
            stress = float(scaled(domain.stress, measure))
    return Assessment(WORDS[grade], words, atoms, energy, energies, forces, stress, score.numpy())


def force_std(domain: Domain, found: Measured, score: Tensor) -> Tensor:
    """(N,) eV/Å, standard error of each component of the force; it grows with the distance beyond the border."""
    columns = force_columns(domain, found.species, found.force, found.away, found.white)
    growth = score.clamp(min=1.0, max=MOST_GROWTH)
    return torch.exp((columns @ domain.forces).clamp(max=50.0)) * growth


def scaled(coefficients: Tensor, measure: Tensor) -> Tensor:
    """α q^b, of `mlanet.limits.errors.scale_of`."""
    return torch.exp(coefficients[0] + coefficients[1] * torch.log(measure + TINY))
