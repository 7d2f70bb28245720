"""Splits are disjoint, reproducible, of the asked size, and never cut a group."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlanet.data.splits import group_split, random_split
from mlanet.errors import DataError


@given(st.integers(3, 200), st.integers(0, 1000))
def test_random_split_partitions(n: int, seed: int) -> None:
    """Fractions that sum to one use every sample exactly once; the same seed gives the same parts."""
    parts = random_split(n, [0.8, 0.1, 0.1], seed)
    assert sorted(index for part in parts for index in part) == list(range(n))
    assert all(parts) and parts == random_split(n, [0.8, 0.1, 0.1], seed)


def test_random_split_counts() -> None:
    """Counts and fractions may be mixed; what is left over belongs to nobody; seeds differ."""
    parts = random_split(100, [50, 0.1], seed=3)
    assert [len(part) for part in parts] == [50, 10] and not set(parts[0]) & set(parts[1])
    assert parts != random_split(100, [50, 0.1], seed=4)
    assert random_split(5, [5], seed=0) == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("sizes", [[], [0], [11], [6, 5], [0.0], [-0.1], [0.7, 0.7], [10, 0.1]])
def test_impossible_sizes(sizes: list[float]) -> None:
    """Parts that are empty or too large are errors."""
    with pytest.raises(DataError):
        random_split(10, sizes, seed=0)


@pytest.mark.parametrize(("n", "sizes", "said"), [(1, [0.9, 0.1], "1 structure "), (3, [2, 2], "3 structures ")])
def test_too_few_to_split_is_said_in_words(n: int, sizes: list[float], said: str) -> None:
    """How many there are, the parts, and what can be done."""
    parts = " and ".join(map(str, sizes))
    with pytest.raises(DataError, match=f"^{said}cannot be split into parts of {parts}, .*add structures"):
        random_split(n, sizes, seed=0)


@given(st.lists(st.sampled_from("abcdefgh"), min_size=10, max_size=80), st.integers(0, 100))
def test_group_split_does_not_leak(groups: list[str], seed: int) -> None:
    """Each group stands on one side only, every part has a group, and nothing is lost."""
    if len(set(groups)) < 2:
        with pytest.raises(DataError, match="without a leak"):
            group_split(groups, [0.8, 0.2], seed)
        return
    train, valid = group_split(groups, [0.8, 0.2], seed)
    assert train and valid and sorted(train + valid) == list(range(len(groups)))
    assert not {groups[k] for k in train} & {groups[k] for k in valid}
    assert [train, valid] == group_split(groups, [0.8, 0.2], seed)


def test_group_split_sizes() -> None:
    """With many equal groups the fractions are met, and seeds give different splits."""
    groups = [f"g{k // 5}" for k in range(500)]
    train, valid, test = group_split(groups, [0.7, 0.2, 0.05], seed=0)
    assert (len(train), len(valid), len(test)) == (350, 100, 25)
    assert train != group_split(groups, [0.7, 0.2, 0.05], seed=1)[0]


@given(st.lists(st.integers(1, 40), min_size=3, max_size=7), st.integers(0, 50))
def test_group_split_is_as_near_as_groups_allow(counts: list[int], seed: int) -> None:
    """No other way of placing the groups comes nearer to the sizes asked for."""
    groups = [f"g{k}" for k, count in enumerate(counts) for _ in range(count)]
    shares = [0.7, 0.2, 0.1]
    wanted = np.array(shares) * len(groups)
    sizes = [len(part) for part in group_split(groups, shares, seed)]
    ways = itertools.product(range(3), repeat=len(counts))
    best = min(
        np.abs(np.bincount(way, weights=counts, minlength=3) - wanted).sum() for way in ways if len(set(way)) == 3
    )
    assert np.abs(np.array(sizes) - wanted).sum() == pytest.approx(best)


def test_group_split_of_many_uneven_groups() -> None:
    """Two hundred groups of any size leave no part further from its share than the smallest group."""
    counts = np.random.default_rng(3).integers(1, 60, 200)
    groups = [f"g{k}" for k, count in enumerate(counts) for _ in range(count)]
    for part, share in zip(group_split(groups, [0.8, 0.1, 0.1], seed=5), [0.8, 0.1, 0.1], strict=True):
        assert abs(len(part) - share * len(groups)) <= 1


def test_group_split_takes_counts() -> None:
    """Counts mean frames, as in a random split."""
    groups = [f"g{k // 10}" for k in range(200)]
    assert [len(part) for part in group_split(groups, [150, 30], seed=0)] == [150, 30]
