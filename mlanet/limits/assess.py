"""The judgement on one structure: a word, the reasons for it, and standard errors of what the model says."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlanet.arrays import AnswerArrays, Floats, GraphArrays, Integers
from mlanet.domain import Domain
from mlanet.limits.facts import Around, Reason, around, facts, named, tables
from mlanet.limits.measure import TINY, distances, force_columns, rigidity, structure_features
from mlanet.statistics import Statistics

if TYPE_CHECKING:
    from mlanet.graph import AtomicGraph, Prediction

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
    """What standard errors are computed from, of a batch: arrays with an entry per atom or per structure.

    - away, white: `distances` · energies (N,), energy (S,): rigidities · species (N,) · force (N,) eV/Å, sizes
    """

    away: Floats
    white: Floats
    energies: Floats
    energy: Floats
    species: Integers
    force: Floats


def assess(
    domain: Domain | None,
    statistics: Statistics,
    graph: AtomicGraph | GraphArrays,
    prediction: Prediction | AnswerArrays,
) -> Assessment:
    """Judge what a potential said of one structure; see `of_batch`."""
    (assessment,) = of_batch(domain, statistics, [graph.arrays()], [prediction.arrays()])
    return assessment


def of_batch(
    domain: Domain | None,
    statistics: Statistics,
    graphs: Sequence[AtomicGraph] | Sequence[GraphArrays],
    predictions: Sequence[Prediction] | Sequence[AnswerArrays],
) -> list[Assessment]:
    """Judge what a potential said of some structures, each by itself but all at once.

    Args:
        domain: `Potential.domain` · statistics: of the potential
        graphs: of one structure each, with every pair within the cutoff
        predictions: with `features`
    """
    if domain is None or not predictions or any(prediction.features is None for prediction in predictions):
        return [Assessment(UNKNOWN) for _ in graphs]
    said = [prediction.arrays() for prediction in predictions]
    joined = (np.concatenate([getattr(answer, name) for answer in said]) for name in ("features", "forces", "stress"))
    return of_joined(domain, statistics, GraphArrays.joined([graph.arrays() for graph in graphs]), *joined)


def of_joined(
    domain: Domain,
    statistics: Statistics,
    graph: GraphArrays,
    features: NDArray[Any],
    forces: NDArray[Any],
    stress: NDArray[Any],
) -> list[Assessment]:
    """The same of structures that are one batch already, from what was said of them together (`Prediction`)."""
    with np.errstate(all="ignore"):  # of answers that are not finite
        return _judged(domain, statistics, around(graph, statistics), features, forces, stress)


def _judged(
    domain: Domain,
    statistics: Statistics,
    where: Around,
    features: NDArray[Any],
    forces: NDArray[Any],
    stress: NDArray[Any],
) -> list[Assessment]:
    """`of_joined`, of what was measured around the atoms."""
    graph = where.graph
    measures = measured(domain, statistics, where, features, forces)
    score = measures.away / domain.reach[where.species]
    there = [*facts(domain, statistics, where), *_far(where, score)]
    reasons: list[list[Reason]] = [there] if graph.n_structures == 1 else [[] for _ in range(graph.n_structures)]
    suspicious = sorted({atom for reason in there for atom in reason.atoms})
    if suspicious and graph.n_structures > 1:
        # One by one, since reasons belong to structures.
        for index in np.unique(graph.structure[suspicious]).tolist():
            it = around(graph.alone(index), statistics)
            mine = score[graph.starts[index] : graph.starts[index + 1]]
            reasons[index] = [*facts(domain, statistics, it), *_far(it, mine)]
    defined = np.isfinite(stress.sum(axis=(1, 2)))
    return _together(reasons, score, graph, _errors(domain, where, measures, score, defined))


def worse(one: str, other: str) -> bool:
    """Whether the first word is a graver one; `unknown` is none.

    >>> worse("outside", "edge"), worse("edge", "unknown"), worse("inside", "inside")
    (True, True, False)
    """
    order = (UNKNOWN, *WORDS)
    return order.index(one) > order.index(other)


def measured(
    domain: Domain, statistics: Statistics, where: Around, features: NDArray[Any], forces: NDArray[Any]
) -> Measured:
    """Distances and rigidities, from features (N, C) and forces (N, 3) eV/Å."""
    scale = tables(statistics).scale[where.species]
    exact, pushed = features.astype(np.float64), forces.astype(np.float64)
    away, white = distances(domain, exact, where.species)
    whole = structure_features(exact, scale, where.graph)
    return Measured(
        away,
        white,
        rigidity(domain, exact, scale),
        rigidity(domain, whole),
        where.species,
        np.sqrt(np.einsum("na,na->n", pushed, pushed)),
    )


def stress_measure(per_force: Floats, graph: GraphArrays) -> Floats:
    """√⟨s²⟩ (N/V)^{2/3}, (S,) eV/Å³: what the errors of forces would do to the stress; NaN without a volume."""
    volume = np.maximum(graph.volumes, TINY)
    dense = np.where(graph.has_stress(), graph.atoms_per_structure() / volume, np.nan)
    return spread_of_forces(per_force, graph) * dense ** (2 / 3)


def force_std(domain: Domain, measures: Measured, score: Floats) -> Floats:
    """(N,) eV/Å, standard error of each component of the force; beyond the border it grows as the root of distance."""
    columns = force_columns(domain, measures.species, measures.force, measures.away, measures.white)
    return np.exp(np.minimum(columns @ domain.forces, MOST_LOGARITHM)) * np.sqrt(_growth(score))


def _growth(score: Floats) -> Floats:
    """By which errors grow beyond the border, where none were measured."""
    return np.minimum(np.maximum(score, 1.0), MOST_GROWTH)


def scaled(coefficients: Floats, rigid: Floats, spread: Floats) -> Floats:
    """α q^b p^c, of `mlanet.limits.errors.scale_of`."""
    scale, of_rigid, of_spread = coefficients.tolist()
    logarithm = scale + of_rigid * np.log(rigid + TINY) + of_spread * np.log(spread + TINY)
    return np.exp(np.minimum(logarithm, MOST_LOGARITHM))


def spread_of_forces(per_force: Floats | None, graph: GraphArrays) -> Floats:
    """√⟨s²⟩, (S,) eV/Å, over the atoms of each structure; ones where nothing is known of forces."""
    if per_force is None:
        return np.ones(graph.n_structures)
    return np.sqrt(graph.summed(per_force * per_force) / graph.atoms_per_structure())


def _far(where: Around, score: Floats) -> list[Reason]:
    """Atoms in surroundings that the network finds unlike the training set's."""
    far = np.flatnonzero(score > 1)
    if not len(far):
        return []
    far = far[np.argsort(-score[far], kind="stable")]
    most = float(score[far[0]])
    text = f"surroundings unlike the training set: {most:.3g} times as far as its farthest atom"
    return [Reason(2 if most > FAR else 1, f"{text} ({named(where.graph, far)})", far.tolist())]


class _Errors(NamedTuple):
    """Standard errors of a batch, in the shapes of its quantities; None where unknown."""

    energy: Floats | None
    energies: Floats | None
    forces: Floats | None
    stress: Floats | None


def _errors(domain: Domain, where: Around, measures: Measured, score: Floats, defined: NDArray[np.bool_]) -> _Errors:
    """Of whatever was calibrated; stress is NaN where the model has `defined` none."""
    energy = energies = forces = stress = None
    graph = where.graph
    if len(domain.forces):
        forces = force_std(domain, measures, score)
        if len(domain.stress):
            stress = scaled(domain.stress, measures.energy, stress_measure(forces, graph))
            stress = np.where(defined, stress, np.nan)
    if len(domain.energy):
        # Of the atoms together: beyond the border their errors share a sign and do not average out.
        growth = spread_of_forces(_growth(score), graph)
        each = scaled(domain.energy, measures.energy, spread_of_forces(forces, graph))
        energy = each * growth * graph.atoms_per_structure()
        energies = scaled(domain.energy, measures.energies, np.ones_like(score) if forces is None else forces)
        energies = energies * _growth(score)
    return _Errors(energy, energies, forces, stress)


def _together(reasons: list[list[Reason]], score: Floats, graph: GraphArrays, errors: _Errors) -> list[Assessment]:
    """One for each structure."""
    ends = graph.starts.tolist()

    def split(values: Floats | None) -> list[Floats | None]:
        if values is None:
            return [None] * graph.n_structures
        return [values[first:last] for first, last in itertools.pairwise(ends)]

    scores, atomic, forces = split(score), split(errors.energies), split(errors.forces)
    sentences = []
    for index, unsorted in enumerate(reasons):
        ordered = sorted(unsorted, key=lambda one: -one.grade)
        sentences.append(
            Assessment(
                WORDS[ordered[0].grade if ordered else 0],
                tuple(reason.text for reason in ordered),
                tuple(dict.fromkeys(atom for reason in ordered for atom in reason.atoms)),
                None if errors.energy is None else float(errors.energy[index]),
                atomic[index],
                forces[index],
                None if errors.stress is None or np.isnan(errors.stress[index]) else float(errors.stress[index]),
                scores[index],
            )
        )
    return sentences
