"""Fit a `Domain`: the training set in the words of the network, and errors on data held back."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mlanet.arrays import AnswerArrays, Floats, GraphArrays, Integers
from mlanet.data.samples import Sample
from mlanet.domain import Domain
from mlanet.graph import batch_labels
from mlanet.inference import predict
from mlanet.limits.assess import force_std, measured, spread_of_forces, stress_measure
from mlanet.limits.errors import fitted, scale_of
from mlanet.limits.facts import around, tables
from mlanet.limits.measure import coordination, distances, force_columns, structure_features
from mlanet.potential import Potential

MOST_STRUCTURES = 2000
"""Of the training set, drawn by a fixed seed, for means and spreads; the farthest atoms are looked for in all of it."""
IN_TURN = 256
"""Structures of a large training set whose features are in memory at once."""
MARGIN = 1.15
"""By which the reach exceeds the farthest atom, so that a frame more of the same kind stays inside."""
SPREAD_RIDGE = 1e-6
"""Of the mean variance, added to every variance of the features."""
RIGIDITY_RIDGE = 1e-6
"""ς² as a fraction of the mean eigenvalue of the second moment of structures' features."""
OWN_SPREAD = 16
"""Species, up to so many of which each has a covariance of its own."""
FEWEST = 5
"""Structures held back, below which no error is fitted."""
OF_ENERGY = (1.0, 0.3)
"""Powers of rigidity and of the forces' standard error, that of an energy is thought to follow before data speak."""
OF_STRESS = (0.0, 1.0)
"""The same of a stress."""
DIRECTION_RIDGE = 3000.0
"""λ of where an atom lies in feature space, in components of forces; of other columns 1. These are many, and what a few
hundred atoms held back say of them by chance is believed far away too: in families left out of training the worst
errors then had the smallest standard errors."""


class Seen(NamedTuple):
    """A sample with what the potential says of it."""

    sample: Sample
    graph: GraphArrays
    prediction: AnswerArrays


def fit_domain(
    potential: Potential, training: Sequence[Sample], held: Sequence[Sample], max_edges: int = 20_000
) -> Domain | None:
    """Where a potential can be trusted, from its training set and from labelled structures held back.

    Costs a prediction of each. Without structures held back (`FEWEST`) the errors stay unknown.

    Args:
        potential: trained; answers in evaluation mode, and is left as it was.
        training: samples it was trained on · held: samples it was not.
        max_edges: bounds a batch
    Returns:
        None for a model that shows no features of its atoms (`Model.last_linear`), or without training data.
    """
    chosen = _chosen(training)
    seen = _watched(potential, chosen, max_edges)
    kept = _watched(potential, _chosen(held), max_edges)
    if not seen or seen[0].prediction.features is None:
        return None
    domain = _spread(potential, seen)
    everywhere = seen if len(chosen) == len(training) else _in_turn(potential, training, max_edges)
    domain = _reaching(domain, potential, itertools.chain(everywhere, kept))
    return _with_errors(domain, potential, kept) if len(kept) >= FEWEST else domain


def _chosen(samples: Sequence[Sample]) -> list[Sample]:
    """At most `MOST_STRUCTURES`."""
    if len(samples) <= MOST_STRUCTURES:
        return list(samples)
    order = np.random.default_rng(0).permutation(len(samples))[:MOST_STRUCTURES]
    return [samples[index] for index in sorted(order.tolist())]


def _in_turn(potential: Potential, samples: Sequence[Sample], max_edges: int) -> Iterator[Seen]:
    """All of them, a few in memory at a time."""
    for first in range(0, len(samples), IN_TURN):
        yield from _watched(potential, samples[first : first + IN_TURN], max_edges)


def _watched(potential: Potential, samples: Sequence[Sample], max_edges: int) -> list[Seen]:
    """What the potential says, features included."""
    before, potential.watched = potential.watched, True
    try:
        predictions = predict(potential, [sample.graph for sample in samples], max_edges=max_edges)
        return [Seen(one, one.graph.arrays(), said.arrays()) for one, said in zip(samples, predictions, strict=True)]
    finally:
        potential.watched = before


def _rows(potential: Potential, seen: Sequence[Seen]) -> tuple[Floats, Integers]:
    """Features (N, C) and species (N,) of all atoms."""
    index = tables(potential.statistics).row
    features = [structure.prediction.features for structure in seen]
    together = np.concatenate([feature.astype(np.float64) for feature in features if feature is not None])
    return together, np.concatenate([index[structure.graph.numbers] for structure in seen])


def _spread(potential: Potential, seen: Sequence[Seen]) -> Domain:
    """Means, covariances and the rigidity of the weights; the rest is for later."""
    features, species = _rows(potential, seen)
    n_species, width = len(potential.species), features.shape[1]
    counts = np.bincount(species, minlength=n_species)
    mean = np.zeros((n_species, width))
    np.add.at(mean, species, features)
    mean = np.where(counts[:, None] > 0, mean / np.maximum(counts, 1)[:, None], features.mean(axis=0))
    centred = features - mean[species]
    pooled = centred.T @ centred / max(len(features) - 1, 1)
    spreads = [pooled]
    if n_species <= OWN_SPREAD:
        # A rare element borrows from all: its own covariance weighs as many atoms as it has, the common one C.
        own = [centred[species == row] for row in range(n_species)]
        spreads = [(rows.T @ rows + width * pooled) / (len(rows) + width) for rows in own]
    f = np.concatenate([_mean_features(structure, potential) for structure in seen])
    moment = f.T @ f / len(f)
    ridge = RIGIDITY_RIDGE * float(moment.trace()) / width + 1e-300
    none = np.zeros(0)
    return Domain(
        mean=_as_kept(mean),
        whiten=_as_kept(np.stack([_whitening(spread) for spread in spreads])),
        reach=np.ones(n_species),
        coordination=np.zeros((n_species, 2)),
        rigidity=np.linalg.inv(moment + ridge * np.eye(width)),
        energy=none,
        forces=none,
        stress=none,
    )


def _as_kept(values: Floats) -> Floats:
    """In the digits that a model file keeps of them."""
    return values.astype(np.float32).astype(np.float64)


def _whitening(covariance: Floats) -> Floats:
    """V (Λ + ε)^−½ of a covariance V Λ Vᵀ."""
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, 0.0)
    whitening: Floats = vectors / np.sqrt(values + SPREAD_RIDGE * values.mean() + 1e-24)
    return whitening


def _mean_features(seen: Seen, potential: Potential) -> Floats:
    """(1, C) of `structure_features`."""
    assert seen.prediction.features is not None
    known = tables(potential.statistics)
    return structure_features(seen.prediction.features, known.scale[known.row[seen.graph.numbers]], seen.graph)


def _reaching(domain: Domain, potential: Potential, seen: Iterable[Seen]) -> Domain:
    """How far the farthest atoms are, of the training set and of what was held back, which is of the same kind."""
    n_species = len(potential.species)
    reach, most, least = np.zeros(n_species), np.zeros(n_species), np.full(n_species, np.inf)
    for structure in seen:
        assert structure.prediction.features is not None
        where = around(structure.graph, potential.statistics)
        away, _ = distances(domain, structure.prediction.features, where.species)
        count = coordination(where.graph, where.distance)
        np.maximum.at(reach, where.species, away)
        np.minimum.at(least, where.species, count)
        np.maximum.at(most, where.species, count)
    least = np.where(np.isfinite(least), least, 0.0)
    reach = np.where(reach > 0, reach, 1.0)
    return dataclasses.replace(domain, reach=MARGIN * reach, coordination=np.stack([least, most], axis=1))


def _with_errors(domain: Domain, potential: Potential, kept: Sequence[Seen]) -> Domain:
    """Coefficients of the standard errors, of whatever is labelled."""
    graph = GraphArrays.joined([_without_pairs(structure.graph) for structure in kept])
    joined = batch_labels([structure.sample.labels for structure in kept])
    labels = {name: getattr(joined, name).double().numpy() for name in ("energy", "forces", "stress")}
    features, _ = _rows(potential, kept)
    forces = _joined(kept, "forces")
    where = around(graph, potential.statistics)
    measures = measured(domain, potential.statistics, where, features, forces)
    wrong_energy = np.square((_joined(kept, "energy") - labels["energy"]) / graph.atoms_per_structure())
    wrong = np.square(forces - labels["forces"]).mean(axis=1)
    known = np.isfinite(wrong)
    per_force = None
    if int(known.sum()) >= FEWEST:
        columns = force_columns(domain, measures.species, measures.force, measures.away, measures.white)
        coefficients = _force_coefficients(columns[known], wrong[known], len(potential.species))
        domain = dataclasses.replace(domain, forces=coefficients)
        per_force = force_std(domain, measures, np.ones_like(measures.away))
        wrong = np.square(_joined(kept, "stress") - labels["stress"]).mean(axis=(1, 2))
        measure = stress_measure(per_force, graph)
        domain = dataclasses.replace(domain, stress=_calibrated(wrong, measures.energy, measure, OF_STRESS))
    spread = spread_of_forces(per_force, graph)
    return dataclasses.replace(domain, energy=_calibrated(wrong_energy, measures.energy, spread, OF_ENERGY))


def _joined(kept: Sequence[Seen], name: str) -> Floats:
    """What was said of all of them, one after another."""
    return np.concatenate([getattr(structure.prediction, name) for structure in kept]).astype(np.float64)


def _without_pairs(graph: GraphArrays) -> GraphArrays:
    """The atoms alone: all that errors are fitted to, in a fraction of the memory."""
    return dataclasses.replace(graph, center=graph.center[:0], neighbor=graph.neighbor[:0], shift=graph.shift[:0])


def _calibrated(wrong: Floats, rigid: Floats, spread: Floats, prior: tuple[float, float]) -> Floats:
    """(3,) of `scale_of` where enough is labelled, else empty."""
    known = np.isfinite(wrong) & np.isfinite(spread)
    if int(known.sum()) < FEWEST:
        return np.zeros(0)
    return scale_of(wrong[known], rigid[known], spread[known], prior)


def _force_coefficients(columns: Floats, squared: Floats, n_species: int) -> Floats:
    """θ of the forces: three components of each atom; at first all alike, growing with the square root of distance."""
    prior = np.zeros(columns.shape[1])
    prior[n_species + 1] = 0.5
    prior[:n_species] = 0.5 * np.log(squared.mean() + 1e-300)
    ridge = np.ones_like(prior)
    ridge[n_species + 2 :] = DIRECTION_RIDGE
    return fitted(columns, squared, np.full_like(squared, 3.0), prior, ridge)
