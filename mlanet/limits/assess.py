"""The judgement on one structure: a word, the reasons for it, and standard errors of what the model says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlanet.domain import Domain
from mlanet.graph import AtomicGraph, Prediction, batch_graphs, split_graph
from mlanet.limits.errors import structure_columns
from mlanet.limits.facts import Around, Reason, around, facts, named, tables
from mlanet.limits.measure import TINY, distances, force_columns, rigidity, structure_features
from mlanet.potential import has_stress
from mlanet.statistics import Statistics

INSIDE, EDGE, OUTSIDE, UNKNOWN = "inside", "edge", "outside", "unknown"
WORDS = (INSIDE, EDGE, OUTSIDE)
"""By grade."""
FAR = 1.5
"""Of the reach of the training set: outside from here on."""
MOST_GROWTH = 1e3
"""Of a standard error, far outside."""
MOST_LOGARITHM = 50.0
"""So that no number overflows."""


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
    """What standard errors are computed from, of a batch on the CPU: tensors with an entry per atom or per structure.

    - away, white: `distances` · energies (N,), energy (S,): rigidities · species (N,) · force (N,) eV/Å, sizes
    """

    away: Tensor
    white: Tensor
    energies: Tensor
    energy: Tensor
    species: Tensor
    force: Tensor


def assess(domain: Domain | None, statistics: Statistics, graph: AtomicGraph, prediction: Prediction) -> Assessment:
    """Judge what a potential said of one structure; see `of_batch`."""
    (found,) = of_batch(domain, statistics, [graph], [prediction])
    return found


def of_batch(
    domain: Domain | None, statistics: Statistics, graphs: Sequence[AtomicGraph], predictions: Sequence[Prediction]
) -> list[Assessment]:
    """Judge what a potential said of some structures, each by itself but all at once.

    Args:
        domain: `Potential.domain` · statistics: of the potential
        graphs: of one structure each, with every pair within the cutoff
        predictions: with `features`
    """
    features = [one.features for one in predictions]
    if domain is None or not features or any(one is None for one in features):
        return [Assessment(UNKNOWN) for _ in graphs]
    graph = graphs[0] if len(graphs) == 1 else batch_graphs([one.to("cpu") for one in graphs])
    joined = [torch.cat([one.cpu() for one in features if one is not None])]
    joined += [torch.cat([getattr(one, name).cpu() for one in predictions]) for name in ("forces", "stress")]
    return of_joined(domain, statistics, graph, *joined)


def of_joined(
    domain: Domain, statistics: Statistics, graph: AtomicGraph, features: Tensor, forces: Tensor, stress: Tensor
) -> list[Assessment]:
    """The same of structures that are one batch already, from what was said of them together (`Prediction`)."""
    with torch.no_grad():
        where = around(graph, statistics)
        graph = where.graph
        found = measured(domain, statistics, where, features.cpu(), forces.cpu())
        score = found.away / domain.reach[where.species]
        reasons: list[list[Reason]] = [[] for _ in range(graph.n_structures)]
        suspicious = {atom for one in (*facts(domain, statistics, where), *_far(where, score)) for atom in one.atoms}
        if suspicious:
            # One by one, since reasons belong to structures.
            alone, parts = split_graph(graph), score.split(graph.atoms_per_structure().tolist())
            for index in graph.structure[sorted(suspicious)].unique().tolist():
                it = around(alone[index], statistics)
                reasons[index] = [*facts(domain, statistics, it), *_far(it, parts[index])]
        defined = torch.isfinite(stress).flatten(1).all(dim=1).cpu()
        return _together(reasons, score, graph, _errors(domain, where, found, score, defined))


def worse(one: str, other: str) -> bool:
    """Whether the first word is a graver one; `unknown` is none.

    >>> worse("outside", "edge"), worse("edge", "unknown"), worse("inside", "inside")
    (True, True, False)
    """
    order = (UNKNOWN, *WORDS)
    return order.index(one) > order.index(other)


def measured(domain: Domain, statistics: Statistics, where: Around, features: Tensor, forces: Tensor) -> Measured:
    """Distances and rigidities, from features (N, C) and forces (N, 3) eV/Å."""
    scale = tables(statistics).scale[where.species]
    away, white = distances(domain, features, where.species)
    whole = structure_features(features, scale, where.graph)
    return Measured(
        away,
        white,
        rigidity(domain, features, scale),
        rigidity(domain, whole, torch.ones(len(whole), dtype=torch.float64)),
        where.species,
        forces.double().square().sum(dim=1).sqrt(),
    )


def stress_measure(per_force: Tensor, graph: AtomicGraph) -> Tensor:
    """√⟨s²⟩ (N/V)^{2/3}, (S,) eV/Å³: what the errors of forces would do to the stress; NaN without a volume."""
    volume = graph.volume().clamp(min=TINY)
    dense = torch.where(has_stress(graph), graph.atoms_per_structure() / volume, torch.nan)
    return spread_of_forces(per_force, graph) * dense ** (2 / 3)


def force_std(domain: Domain, found: Measured, score: Tensor) -> Tensor:
    """(N,) eV/Å, standard error of each component of the force; beyond the border it grows as the root of distance."""
    columns = force_columns(domain, found.species, found.force, found.away, found.white)
    return torch.exp((columns @ domain.forces).clamp(max=MOST_LOGARITHM)) * _growth(score).sqrt()


def _growth(score: Tensor) -> Tensor:
    """By which errors grow beyond the border, where none were measured."""
    return score.clamp(min=1.0, max=MOST_GROWTH)


def scaled(coefficients: Tensor, rigid: Tensor, spread: Tensor) -> Tensor:
    """α q^b p^c, of `mlanet.limits.errors.scale_of`."""
    return torch.exp((structure_columns(rigid, spread) @ coefficients).clamp(max=MOST_LOGARITHM))


def spread_of_forces(per_force: Tensor | None, graph: AtomicGraph) -> Tensor:
    """√⟨s²⟩, (S,) eV/Å, over the atoms of each structure; ones where nothing is known of forces."""
    if per_force is None:
        return torch.ones(graph.n_structures, dtype=torch.float64)
    total = torch.zeros(graph.n_structures, dtype=torch.float64).index_add(0, graph.structure, per_force.square())
    return (total / graph.atoms_per_structure()).sqrt()


def _far(where: Around, score: Tensor) -> list[Reason]:
    """Atoms in surroundings that the network finds unlike the training set's."""
    far = (score > 1).nonzero().flatten()
    if not len(far):
        return []
    far = far[score[far].argsort(descending=True)]
    most = float(score[far[0]])
    text = f"surroundings unlike the training set: {most:.3g} times as far as its farthest atom"
    return [Reason(2 if most > FAR else 1, f"{text} ({named(where.graph, far)})", far.tolist())]


class _Errors(NamedTuple):
    """Standard errors of a batch, in the shapes of its quantities; None where unknown."""

    energy: Tensor | None
    energies: Tensor | None
    forces: Tensor | None
    stress: Tensor | None


def _errors(domain: Domain, where: Around, found: Measured, score: Tensor, defined: Tensor) -> _Errors:
    """Of whatever was calibrated; stress is NaN where the model has `defined` none."""
    energy = energies = forces = stress = None
    graph = where.graph
    if len(domain.forces):
        forces = force_std(domain, found, score)
        if len(domain.stress):
            stress = scaled(domain.stress, found.energy, stress_measure(forces, graph))
            stress = torch.where(defined, stress, torch.nan)
    if len(domain.energy):
        # Of the atoms together: beyond the border their errors share a sign and do not average out.
        growth = spread_of_forces(_growth(score), graph)
        each = scaled(domain.energy, found.energy, spread_of_forces(forces, graph))
        energy = each * growth * graph.atoms_per_structure()
        energies = scaled(domain.energy, found.energies, torch.ones_like(score) if forces is None else forces)
        energies = energies * _growth(score)
    return _Errors(energy, energies, forces, stress)


def _together(reasons: list[list[Reason]], score: Tensor, graph: AtomicGraph, errors: _Errors) -> list[Assessment]:
    """One for each structure."""
    counts = graph.atoms_per_structure().tolist()

    def split(values: Tensor | None) -> list[NDArray[np.float64] | None]:
        return [None] * len(counts) if values is None else [one.numpy() for one in values.split(counts)]

    scores, atomic, forces = split(score), split(errors.energies), split(errors.forces)
    found = []
    for index, unsorted in enumerate(reasons):
        ordered = sorted(unsorted, key=lambda one: -one.grade)
        found.append(
            Assessment(
                WORDS[ordered[0].grade if ordered else 0],
                tuple(one.text for one in ordered),
                tuple(dict.fromkeys(atom for one in ordered for atom in one.atoms)),
                None if errors.energy is None else float(errors.energy[index]),
                atomic[index],
                forces[index],
                None if errors.stress is None or bool(errors.stress[index].isnan()) else float(errors.stress[index]),
                scores[index],
            )
        )
    return found
