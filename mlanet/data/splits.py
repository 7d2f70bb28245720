"""Seeded splits: random, or by group so that one trajectory never stands on both sides."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlanet.errors import DataError

ALL_WAYS = 20_000
"""Up to so many ways of placing groups are all tried."""


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


def group_split(groups: Sequence[str], sizes: Sequence[float | int], seed: int) -> list[list[int]]:
    """Disjoint parts made of whole groups, together as near to the sizes asked for as whole groups allow.

    The parts minimise Σ_k |n_k − wanted_k|: by trying everything where groups are few, else by placing the largest
    first and then moving and exchanging groups until nothing helps. The seed chooses among equals.

    Args:
        groups: the group of each sample.
        sizes: as for `random_split`; what they leave over belongs to none.
        seed: of numpy's PCG64.
    Raises:
        DataError: fewer groups than parts, or impossible sizes.

    >>> group_split(["a", "a", "b", "b"], [0.5, 0.5], seed=0) in ([[0, 1], [2, 3]], [[2, 3], [0, 1]])
    True
    """
    members: dict[str, list[int]] = {name: [] for name in sorted(set(groups))}
    for index, group in enumerate(groups):
        members[group].append(index)
    if len(members) < len(sizes):
        raise DataError(
            f"cannot split {len(members)} group(s) into {len(sizes)} parts without a leak; "
            "use a random split, or give the frames groups (info key 'group' or 'traj')"
        )
    wanted = _targets(len(groups), sizes)
    names = list(members)
    order = np.random.default_rng(seed).permutation(len(names))
    shuffled = sorted((names[k] for k in order), key=lambda name: -len(members[name]))
    counts = np.array([len(members[name]) for name in shuffled])
    places = _everything(counts, wanted, len(sizes), seed) if len(wanted) ** len(counts) <= ALL_WAYS else None
    if places is None:
        places = _improved(_greedy(counts, wanted, len(sizes)), counts, wanted, len(sizes))
    parts: list[list[int]] = [[] for _ in wanted]
    for name, place in zip(shuffled, places, strict=True):
        parts[place] += members[name]
    return [sorted(part) for part in parts[: len(sizes)]]


def _targets(n: int, sizes: Sequence[float | int]) -> NDArray[np.float64]:
    """Samples wanted in each part, and, if any are to be left over, how many."""
    fractions = [size for size in sizes if not _is_count(size)]
    if fractions or not sizes:
        _fractions(fractions)
    wanted = [float(size) if _is_count(size) else float(size) * n for size in sizes]
    if min(wanted) <= 0 or sum(wanted) > n * (1 + 1e-9):
        raise _impossible(n, sizes)
    left = n - sum(wanted)
    return np.array([*wanted, left] if left > 1e-9 * n else wanted)


def _misfit(sums: NDArray[np.float64], wanted: NDArray[np.float64], held: NDArray[np.int64], n_parts: int) -> float:
    """Σ |n_k − wanted_k|; infinite while a part that was asked for has no group."""
    return float("inf") if (held[:n_parts] == 0).any() else float(np.abs(sums - wanted).sum())


def _everything(counts: NDArray[np.int64], wanted: NDArray[np.float64], n_parts: int, seed: int) -> list[int]:
    """The best of all ways, one of the equals by the seed."""
    best = float("inf")
    equal: list[list[int]] = []
    for places in itertools.product(range(len(wanted)), repeat=len(counts)):
        chosen = np.array(places)
        sums = np.asarray(np.bincount(chosen, weights=counts, minlength=len(wanted)), dtype=np.float64)
        misfit = _misfit(sums, wanted, np.bincount(chosen, minlength=len(wanted)), n_parts)
        if misfit < best - 1e-9:
            best, equal = misfit, []
        if misfit <= best + 1e-9:
            equal.append(list(places))
    return equal[int(np.random.default_rng([seed, 2]).integers(len(equal)))]


def _greedy(counts: NDArray[np.int64], wanted: NDArray[np.float64], n_parts: int) -> list[int]:
    """Each group, the largest first, where most is lacking, so that no part stays empty."""
    places: list[int] = []
    sums = np.zeros(len(wanted))
    for position, count in enumerate(counts):
        empty = [k for k in range(n_parts) if k not in places]
        must_fill = len(counts) - position <= len(empty)
        place = empty[0] if must_fill else int(np.argmax(wanted - sums))
        places.append(place)
        sums[place] += count
    return places


def _improved(places: list[int], counts: NDArray[np.int64], wanted: NDArray[np.float64], n_parts: int) -> list[int]:
    """Move one group, or exchange two of different size, as long as that brings the parts nearer to what is wanted."""
    chosen = np.array(places)
    sums = np.bincount(chosen, weights=counts, minlength=len(wanted))
    while True:
        best, change = 1e-9, None
        lack = np.abs(sums - wanted)
        held = np.bincount(chosen, minlength=len(wanted))
        for here, there in itertools.permutations(range(len(wanted)), 2):
            give = sorted({int(c) for c in counts[chosen == here]})
            take = sorted({int(c) for c in counts[chosen == there]} | {0})
            for out, back in itertools.product(give, take):
                if back == 0 and here < n_parts and held[here] == 1:
                    continue
                shift = out - back
                after = abs(sums[here] - shift - wanted[here]) + abs(sums[there] + shift - wanted[there])
                gain = lack[here] + lack[there] - after
                if gain > best:
                    best, change = gain, (here, there, out, back)
        if change is None:
            return [int(place) for place in chosen]
        here, there, out, back = change
        moving = int(np.flatnonzero((chosen == here) & (counts == out))[0])
        returning = np.flatnonzero((chosen == there) & (counts == back))[:1]
        chosen[moving] = there
        chosen[returning] = here
        sums = np.bincount(chosen, weights=counts, minlength=len(wanted))


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
        raise _impossible(n, sizes)
    return counts


def _impossible(n: int, sizes: Sequence[float | int]) -> DataError:
    """More is wanted than there is."""
    parts = " and ".join(f"{size:g}" for size in sizes)
    return DataError(
        f"{n} structure{'s' * (n != 1)} cannot be split into parts of {parts}, each with at least one; add structures, "
        "or name files for the parts"
    )


def _is_count(size: float | int) -> bool:
    """Whether a size is a number of samples rather than a fraction."""
    return isinstance(size, int | np.integer) and not isinstance(size, bool)
