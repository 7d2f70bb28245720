"""Pairs of atoms closer than any in the training set: there a model's energy is a guess, however steady it looks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from mlanet.data.neighbors import neighbor_list
from mlanet.statistics import Statistics

SUSPICIOUS = 0.9
"""Of the closest distance in training; thermal motion beyond the training set's reaches some 0.95."""


class Approach(NamedTuple):
    """Two atoms, how far apart they are, and the closest that such a pair came in training (Å)."""

    first: int
    second: int
    pair: str
    distance: float
    known: float

    @property
    def ratio(self) -> float:
        """Below 1: closer than the training set ever was."""
        return self.distance / self.known

    def __str__(self) -> str:
        return (
            f"atoms {self.first} and {self.second} ({self.pair}) are {self.distance:.2f} Å apart; "
            f"the closest such pair in training was {self.known:.2f} Å"
        )


def closest_approach(atoms: Atoms, statistics: Statistics) -> Approach | None:
    """The pair that is closest in relation to the training set, or None where nothing is known or near."""
    if not statistics.closest:
        return None
    known = np.zeros((256, 256))
    known[np.ix_(statistics.species, statistics.species)] = statistics.closest
    pairs = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, float(known.max()) + 1e-6)
    vectors = atoms.positions[pairs.neighbor] + pairs.shift @ atoms.cell.array - atoms.positions[pairs.center]
    distance = np.linalg.norm(vectors, axis=1)
    limit = known[atoms.numbers[pairs.center], atoms.numbers[pairs.neighbor]]
    ratio = np.divide(distance, limit, out=np.full_like(distance, np.inf), where=limit > 0)
    if not len(ratio) or not np.isfinite(ratio.min()):
        return None
    worst = int(ratio.argmin())
    first, second = sorted((int(pairs.center[worst]), int(pairs.neighbor[worst])))
    symbols = sorted(chemical_symbols[atoms.numbers[atom]] for atom in (first, second))
    return Approach(first, second, "-".join(symbols), float(distance[worst]), float(limit[worst]))


class Guard:
    """Keeps the closest approach of a simulation, and raises the alarm once.

    Args:
        statistics: of the model's training set.
    """

    def __init__(self, statistics: Statistics) -> None:
        self.statistics = statistics
        self.nearest: Approach | None = None

    def alarmed_by(self, atoms: Atoms) -> bool:
        """Whether this frame is the first with a suspiciously close pair."""
        near = closest_approach(atoms, self.statistics)
        if near is None or (self.nearest is not None and near.ratio >= self.nearest.ratio):
            return False
        before, self.nearest = self.nearest, near
        return near.ratio < SUSPICIOUS and (before is None or before.ratio >= SUSPICIOUS)

    def numbers(self) -> dict[str, object]:
        """For a summary; empty where nothing is known."""
        near = self.nearest
        if near is None:
            return {}
        return {"closest_pair": near.pair, "closest_A": near.distance, "closest_in_training_A": near.known}
