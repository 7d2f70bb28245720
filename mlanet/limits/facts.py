"""Plain facts of a structure that lie beyond the training set: pairs never seen, too close, too dense, too bare."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlanet.arrays import Floats, GraphArrays, Integers
from mlanet.crowding import HALF_POWER, crowding
from mlanet.domain import Domain
from mlanet.limits.measure import coordination
from mlanet.statistics import Statistics

CLOSE = (0.95, 0.9)
"""Of the closest distance in training: at the edge, and outside; thermal motion of the same kind reaches 0.95."""
CROWDED = (0.97, 0.93)
"""Of the scale of lengths at which an atom is as crowded as the most crowded one in training."""
BARE = (0.9, 0.7)
"""Of the least coordination in training."""
FULL = (1.1, 1.4)
"""Of the largest coordination in training."""
NAMED = 3
"""Atoms that a reason names."""


class Reason(NamedTuple):
    """Why a structure is not inside: 1 at the edge, 2 outside; in words; and which atoms."""

    grade: int
    text: str
    atoms: list[int]


class Tables(NamedTuple):
    """The statistics as arrays.

    - row (256,): of each atomic number, −1 if unknown · scale (Z,) · closest, wall (Z²,) Å; empty where unknown
    - most_crowded: the largest ρ of an atom
    """

    row: Integers
    scale: Floats
    closest: Floats
    wall: Floats
    most_crowded: float


class Around(NamedTuple):
    """What all facts are drawn from.

    - graph · species (N,) rows of the statistics · kind (E,) entry of a pair in `Tables.closest` · distance (E,) Å
    """

    graph: GraphArrays
    species: Integers
    kind: Integers
    distance: Floats


def facts(domain: Domain, statistics: Statistics, around: Around) -> Iterator[Reason]:
    """Every fact that puts a structure beyond the training set."""
    if statistics.closest:
        yield from _pairs(statistics, around)
    if statistics.crowding:
        yield from _crowded(statistics, around)
    yield from _coordinated(domain, around)


def named(graph: GraphArrays, atoms: Integers) -> str:
    """`atoms 3 (Si), 5 (Si) and 12 more`."""
    first = [f"{int(atom)} ({chemical_symbols[int(graph.numbers[atom])]})" for atom in atoms[:NAMED]]
    more = f" and {len(atoms) - NAMED} more" if len(atoms) > NAMED else ""
    return f"atom{'s' * (len(atoms) > 1)} {', '.join(first)}{more}"


def _pairs(statistics: Statistics, around: Around) -> Iterator[Reason]:
    """Two elements never seen as neighbours; pairs nearer than the closest one seen."""
    graph, kind, n = around.graph, around.kind, len(statistics.species)
    closest = tables(statistics).closest[kind]
    if not len(kind):
        return
    with np.errstate(divide="ignore"):
        ratio = around.distance / closest  # infinite where there was none
    if ratio.min() >= CLOSE[0] and closest.min() > 0:
        return
    unseen = closest == 0
    for pair_kind in np.unique(kind[unseen]).tolist():
        a, b = divmod(pair_kind, n)
        if a <= b:
            atoms = np.unique(graph.center[unseen & ((kind == pair_kind) | (kind == b * n + a))])
            pair = "-".join(chemical_symbols[statistics.species[each]] for each in (a, b))
            text = f"{pair}: the training set has no such neighbours within {graph.cutoff:g} Å ({named(graph, atoms)})"
            yield Reason(2, text, atoms.tolist())
    near = ratio < CLOSE[0]
    if near.any():
        worst, atoms = int(ratio.argmin()), np.unique(graph.center[near])
        pair = "-".join(chemical_symbols[int(graph.numbers[ends[worst]])] for ends in (graph.center, graph.neighbor))
        grade = 2 if float(ratio[worst]) < CLOSE[1] else 1
        known = float(closest[worst])
        text = f"{pair} {float(around.distance[worst]):.2f} Å apart; the closest in training was {known:.2f} Å"
        yield Reason(grade, f"{text} ({named(graph, atoms)})", atoms.tolist())


def _crowded(statistics: Statistics, around: Around) -> Iterator[Reason]:
    """Atoms that all their neighbours together press more than any atom in training."""
    graph, wall = around.graph, tables(statistics).wall[around.kind]
    rho = crowding(graph.vectors, wall, graph.center, graph.n_atoms, graph.cutoff)
    most = tables(statistics).most_crowded
    if most <= 0 or rho.max() <= most * CROWDED[0] ** (-2 * HALF_POWER):
        return
    stretch = np.maximum(rho / most, 1e-12) ** (-1 / (2 * HALF_POWER))
    yield from _beyond(graph, stretch < CROWDED[0], stretch < CROWDED[1], "more crowded than any in training")


def _coordinated(domain: Domain, around: Around) -> Iterator[Reason]:
    """Atoms with fewer or more neighbours than any of their element in training."""
    graph = around.graph
    counts = coordination(graph, around.distance)
    least, most = domain.coordination[around.species].T
    if not ((counts < BARE[0] * least - 1e-9) | (counts > FULL[0] * most + 1e-9)).any():
        return
    known = most > 0
    for low, factors, word in ((True, BARE, "fewer"), (False, FULL, "more")):
        limit = least if low else most
        edge, outside = (
            known & ((counts < factor * limit - 1e-9) if low else (counts > factor * limit + 1e-9))
            for factor in factors
        )
        if not edge.any():
            continue
        far = np.abs(counts - limit) / np.maximum(limit, 1e-9)
        worst = int(np.where(edge, far, -1.0).argmax())
        symbol = chemical_symbols[int(graph.numbers[worst])]
        text = (
            f"{word} neighbours than any {symbol} in training: {float(counts[worst]):.2f}, "
            f"{'at least' if low else 'at most'} {float(limit[worst]):.2f} there, counted by distance"
        )
        yield from _beyond(graph, edge, outside, text)


def _beyond(graph: GraphArrays, edge: NDArray[np.bool_], outside: NDArray[np.bool_], text: str) -> Iterator[Reason]:
    """One reason for all atoms of a mask, as grave as the gravest."""
    if edge.any():
        atoms = np.flatnonzero(edge)
        yield Reason(2 if outside.any() else 1, f"{text} ({named(graph, atoms)})", atoms.tolist())


def around(graph: GraphArrays, statistics: Statistics) -> Around:
    """Distances and species of some structures."""
    species = tables(statistics).row[graph.numbers]
    kind = species[graph.center] * len(statistics.species) + species[graph.neighbor]
    return Around(graph, species, kind, np.sqrt(np.einsum("ea,ea->e", graph.vectors, graph.vectors)))


@functools.lru_cache(maxsize=16)
def tables(statistics: Statistics) -> Tables:
    """Made once for each model."""
    index = np.full(256, -1)
    index[list(statistics.species)] = np.arange(len(statistics.species))
    closest, wall = (np.array(pairs, dtype=np.float64).ravel() for pairs in (statistics.closest, statistics.wall))
    most = max(statistics.crowding, default=0.0)
    return Tables(index, np.array(statistics.scale, dtype=np.float64), closest, wall, most)
