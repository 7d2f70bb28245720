"""Pairs closer than any in training are found, named, and reported once."""

from __future__ import annotations

import pytest
from ase import Atoms

from mlanet.dynamics.approach import Guard, closest_approach
from mlanet.statistics import Statistics

WATER = Statistics((1, 8), (0.0, 0.0), (1.0, 1.0), 12.0, closest=((1.34, 0.89), (0.89, 2.35)))


def pair(symbols: str, distance: float) -> Atoms:
    """Two atoms that see each other through the wall of a periodic cell."""
    return Atoms(symbols, [[0.1, 0, 0], [9.1 + 1 - distance, 0, 0]], cell=[9 + 1, 20, 20], pbc=True)


def test_the_worst_pair_is_relative_to_its_elements() -> None:
    """O-H at 1.0 Å is fine, H-H at 1.0 Å is not."""
    fine, bad = closest_approach(pair("OH", 1.0), WATER), closest_approach(pair("H2", 1.0), WATER)
    assert fine is not None and fine.ratio == pytest.approx(1.0 / 0.89)
    assert bad is not None and (bad.first, bad.second, bad.pair) == (0, 1, "H-H")
    assert (bad.distance, bad.known) == (pytest.approx(1.0), 1.34)
    assert str(bad) == "atoms 0 and 1 (H-H) are 1.00 Å apart; the closest such pair in training was 1.34 Å"
    both = closest_approach(pair("OH", 0.85) + Atoms("H2", [[5, 9, 9], [6.0, 9, 9]]), WATER)
    assert both is not None and (both.first, both.second) == (2, 3)


def test_nothing_known_nothing_said() -> None:
    """Old models, pairs that training never saw, and atoms far apart."""
    assert closest_approach(pair("H2", 0.3), Statistics.unit((1,))) is None
    unseen = Statistics((1, 8), (0.0, 0.0), (1.0, 1.0), 12.0, closest=((0.0, 0.89), (0.89, 2.35)))
    assert closest_approach(pair("H2", 0.7), unseen) is None
    assert closest_approach(pair("O2", 4.9), WATER) is None


def test_the_alarm_rings_once() -> None:
    """At the first suspicious frame; the summary keeps the worst."""
    guard = Guard(WATER)
    distances = (1.5, 1.25, 1.1, 1.0, 1.3)
    assert [guard.alarmed_by(pair("H2", d)) for d in distances] == [False, False, True, False, False]
    assert guard.numbers()["closest_A"] == pytest.approx(1.0)
    assert guard.numbers()["closest_pair"] == "H-H"
    assert Guard(WATER).numbers() == {}
