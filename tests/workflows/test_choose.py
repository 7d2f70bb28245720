"""Choosing what to label: uncertain, unlike each other, and in proportion to how much of a kind there is."""

from __future__ import annotations

import numpy as np
import pytest

from mlanet.workflows.select import Candidate, choose


def pool(places: np.ndarray, uncertainty: np.ndarray) -> list[Candidate]:
    return [
        Candidate(str(k), float(u), place, "inside")
        for k, (place, u) in enumerate(zip(places, uncertainty, strict=True))
    ]


@pytest.mark.parametrize("budget", [1, 7, 60])
def test_the_most_uncertain_is_first_and_none_comes_twice(budget: int) -> None:
    rng = np.random.default_rng(0)
    candidates = pool(rng.normal(size=(40, 5)), rng.uniform(0.1, 1.0, 40))
    chosen = [candidate.where for candidate in choose(candidates, budget)]
    assert chosen[0] == max(candidates, key=lambda candidate: candidate.uncertainty).where
    assert len(set(chosen)) == len(chosen) == min(budget, 40)
    assert chosen == [candidate.where for candidate in choose(candidates, 60)][:budget]


def test_copies_are_taken_once() -> None:
    places = np.repeat(np.random.default_rng(1).normal(size=(6, 4)), 5, axis=0)
    assert len(choose(pool(places, np.ones(30)), 30)) == 6


def test_a_few_outliers_do_not_take_the_budget() -> None:
    """Ten far, uncertain structures beside two hundred common ones: both are taken from."""
    rng = np.random.default_rng(2)
    places = np.concatenate([rng.normal(size=(200, 4)), 8 + 2 * rng.normal(size=(10, 4))])
    uncertainty = np.concatenate([np.ones(200), np.full(10, 3.0)])
    outliers = sum(int(candidate.where) >= 200 for candidate in choose(pool(places, uncertainty), 20))
    assert 2 <= outliers <= 8


@pytest.mark.parametrize("count", [0, 1])
def test_small_pools_and_budgets(count: int) -> None:
    candidates = pool(np.zeros((3, 2)), np.ones(3))
    assert len(choose(candidates, count)) == count
