"""Which structures of a pool to label next: uncertain, unlike each other, and as many as can be paid for.

Greedy: the most uncertain first. Then each structure s belongs to the chosen one t that is nearest to it, at a distance
d_s = u_s |v_s − v_t|, with u_s its uncertainty and v_s where its least certain atoms lie in the network's features; of
the group with the largest Σ d_s², the farthest is taken. So a region counts by how many structures it has as well, and
outliers do not take the whole budget (largest cluster, maximum distance: arXiv 2203.09410).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlanet.data.formats import Refused, structure_files, written_format
from mlanet.data.write import frame_text
from mlanet.domain import Domain
from mlanet.errors import ConfigError, DataError
from mlanet.limits.facts import tables
from mlanet.limits.measure import distances
from mlanet.potential import Potential
from mlanet.workflows.answers import Answer, answers, frames_of
from mlanet.workflows.growing import growing
from mlanet.workflows.output import refuse_overwriting

ALIKE = 0.02
"""Of the median distance between structures of the pool: nearer ones are the same for a network."""
ELEMENT = 3.0
"""How far composition sets structures apart, in units of the spread of features."""
SOME = 200
"""Structures whose distances give the median."""


class Candidate(NamedTuple):
    """One structure of a pool: where from, its uncertainty, and where it lies (D,)."""

    where: str
    uncertainty: float
    place: NDArray[np.float64]
    extrapolation: str


def select_files(
    potential: Potential,
    files: Sequence[Path],
    output: Path,
    budget: int,
    *,
    max_edges: int = 20_000,
    refused: Refused | None = None,
    watch: Callable[[Iterable[Answer]], Iterable[Answer]] = lambda answered: answered,
    members: Sequence[Potential] = (),
    tell: Callable[[str], None] = print,
) -> list[Candidate]:
    """Choose structures of the files and write them, in the order chosen, as extxyz with their labels, if any.

    Args:
        potential: with a `domain`.
        files: pools or trajectories; they are read twice, so that memory holds no structures.
        output: .extxyz · budget: at most so many
        max_edges: bounds a batch · refused: is handed what cannot be used · watch: passes answers on
        members: of a committee beside the model, whose spread is then the uncertainty
        tell: see `mlanet.workflows.growing`
    Raises:
        ConfigError: a model that does not know its limits.
        DataError: nothing in the files.
    """
    if potential.domain is None:
        raise ConfigError("this model does not know its limits; measure them with: mlanet calibrate MODEL TRAINING…")
    written_format(output, ("extxyz",))
    listed = structure_files(files, refused)
    refuse_overwriting([output], listed)
    asked = answers(potential, frames_of(listed, refused), max_edges=max_edges, refused=refused, members=members)
    pool = [_candidate(potential, potential.domain, frame) for frame in watch(asked)]
    if not pool:
        raise DataError(f"{', '.join(map(str, files))}: no structures to choose from")
    chosen = choose(pool, budget)
    rank = {candidate.where: number for number, candidate in enumerate(chosen)}
    texts: dict[int, str] = {}
    for frame in frames_of(listed, refused):
        if frame.where in rank:
            candidate = chosen[rank[frame.where]]
            atoms = frame.atoms.copy()
            atoms.calc = frame.atoms.calc
            atoms.info |= {
                "selected": rank[frame.where],
                "uncertainty": candidate.uncertainty,
                "selected_from": candidate.where,
            }
            atoms.info["extrapolation"] = candidate.extrapolation
            texts[rank[frame.where]] = frame_text(atoms, frame.where)
    with growing(output, tell) as file:
        for number in sorted(texts):
            file.add(texts[number])
    return chosen


def choose(pool: Sequence[Candidate], budget: int) -> list[Candidate]:
    """The structures to label, the first one first; fewer than the budget where the rest is like those chosen."""
    places = np.stack([candidate.place for candidate in pool])
    weight = np.array([candidate.uncertainty for candidate in pool])
    some = places[np.linspace(0, len(places) - 1, min(SOME, len(places))).astype(int)]
    between = np.linalg.norm(some[:, None] - some[None], axis=-1)
    apart = between[between > 0]
    alike = ALIKE * float(np.median(apart)) if len(apart) else 0.0
    taken = [int(weight.argmax())][:budget]
    group = np.zeros(len(pool), dtype=int)
    nearest = np.linalg.norm(places - places[taken[0]], axis=1) if taken else np.zeros(len(pool))
    while len(taken) < min(budget, len(pool)):
        gain = np.where(nearest > alike, weight * nearest, 0.0)
        if not gain.any():
            break
        largest = np.bincount(group, gain**2).argmax()
        best = int(np.where(group == largest, gain, 0.0).argmax())
        distance = np.linalg.norm(places - places[best], axis=1)
        group[distance < nearest] = len(taken)
        nearest = np.minimum(nearest, distance)
        taken.append(best)
    return [pool[index] for index in taken]


def _candidate(potential: Potential, domain: Domain, answer: Answer) -> Candidate:
    """Uncertainty: the root mean square over atoms of the forces' errors, or of distances where these are unknown."""
    question, prediction, assessment = answer
    species = tables(potential.statistics).row[question.graph.arrays().numbers]
    features = prediction.arrays().features
    assert features is not None and assessment.distance is not None
    _, white = distances(domain, features, species)
    errors = assessment.distance if assessment.forces_std is None else assessment.forces_std
    weight = errors**2 / np.sum(errors**2)
    share = np.bincount(species, minlength=len(domain.reach)) / len(species)
    place = np.concatenate([np.tanh(0.25 * white).T @ weight, ELEMENT * share])
    uncertainty = float(np.sqrt(np.mean(errors**2)))
    return Candidate(question.frame.where, uncertainty, place, assessment.extrapolation)
