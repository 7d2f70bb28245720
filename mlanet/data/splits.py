"""Seeded splits: random, or by group so that one trajectory never stands on both sides."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from mlanet.errors import DataError


def random_split(n: int, sizes: Sequence[float | int], seed: int) -> list[list[int]]:
    """Disjoint random subsets of range(n), each ascending; the same seed gives the same split for ever.

    Args:
        n: how many samples there are.
        sizes: one entry per part: a float is a fraction of n (rounded to nearest, at least one), an int a count.
            Whatever the parts leave over belongs to none; fractions that sum to one leave nothing over.
        seed: of numpy's PCG64.
    Raises:
        DataError: parts that are empty, or together larger than n.

    >>> [len(part) for part in random_split(10, [0.8, 0.2], seed=1)]
    [8, 2]
    """
    counts = _counts(n, sizes)
    order = np.random.default_rng(seed).permutation(n)
    bounds = np.cumsum([0, *counts])
    return [sorted(order[start:stop].tolist()) for start, stop in itertools.pairwise(bounds)]


def group_split(groups: Sequence[str], fractions: Sequence[float], seed: int) -> list[list[int]]:
    """Disjoint parts made of whole groups, each as near to its fraction of the samples as whole groups allow.

    Groups are taken in random order, the largest first among the shuffled, and go to the part that lacks most.

    Args:
        groups: the group of each sample.
        fractions: of the samples, summing to at most one; what they leave over belongs to none.
        seed: of numpy's PCG64.
    Raises:
        DataError: fewer groups than parts, or impossible fractions.

    >>> group_split(["a", "a", "b", "b"], [0.5, 0.5], seed=0) in ([[0, 1], [2, 3]], [[2, 3], [0, 1]])
    True
    """
    targets = _fractions(fractions)
    names = sorted(set(groups))
    if len(names) < len(fractions):
        raise DataError(
            f"cannot split {len(names)} group(s) into {len(fractions)} parts without a leak; "
            "use a random split, or give the frames groups (info key 'group' or 'traj')"
        )
    members: dict[str, list[int]] = {name: [] for name in names}
    for index, group in enumerate(groups):
        members[group].append(index)
    order = np.random.default_rng(seed).permutation(len(names))
    shuffled = sorted((names[k] for k in order), key=lambda name: -len(members[name]))
    wanted = np.array([*targets, max(0.0, 1.0 - sum(targets))]) * len(groups)
    parts: list[list[int]] = [[] for _ in wanted]
    for position, name in enumerate(shuffled):
        empty = [k for k in range(len(targets)) if not parts[k]]
        must_fill = len(shuffled) - position <= len(empty)
        choice = empty[0] if must_fill else int(np.argmax(wanted - [len(part) for part in parts]))
        parts[choice] += members[name]
    return [sorted(part) for part in parts[: len(targets)]]


def _fractions(fractions: Sequence[float]) -> list[float]:
    """Fractions as floats, checked."""
    values = [float(fraction) for fraction in fractions]
    if not values or min(values) <= 0 or sum(values) > 1 + 1e-9:
        raise DataError(f"fractions of a split must be positive and sum to at most 1, got {list(fractions)}")
    return values


def _counts(n: int, sizes: Sequence[float | int]) -> list[int]:
    """How many samples each part gets."""
    fractions = [size for size in sizes if not _is_count(size)]
    if fractions:
        _fractions(fractions)
    counts = [int(size) if _is_count(size) else max(1, round(float(size) * n)) for size in sizes]
    whole = bool(fractions) and len(fractions) == len(sizes) and abs(sum(fractions) - 1) < 1e-9
    if whole:  # rounding must neither lose nor invent a sample
        counts[int(np.argmax(counts))] += n - sum(counts)
    if not counts or min(counts) <= 0 or sum(counts) > n:
        raise DataError(f"cannot split {n} samples into parts of {list(sizes)}")
    return counts


def _is_count(size: float | int) -> bool:
    """Whether a size is a number of samples rather than a fraction."""
    return isinstance(size, int | np.integer) and not isinstance(size, bool)
