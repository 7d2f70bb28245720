"""Trainings that differ in their seeds only, and what is common to them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from accuracy.plan import Benchmark, Row, of_equal_time, row_of, trainings


class Group(NamedTuple):
    """The seeds of one variant and budget, in the order of the benchmark's."""

    benchmark: Benchmark
    variant: tuple[tuple[str, str], ...]
    budget: str
    rows: dict[int, Row]

    @property
    def title(self) -> str:
        """By what it differs from the first variant of its benchmark."""
        first = dict(trainings(self.benchmark)[0].variant)
        words = ", ".join(f"{key}: {value}" for key, value in self.variant if first.get(key) != value) or "reference"
        return words if self.budget == "steps" else f"{words}, equal time"

    def mean(self, key: str) -> tuple[float, float]:
        """Mean and standard error over the seeds; NaN where nothing, or a single seed, is known."""
        return mean_error([float(row[key]) for row in self.rows.values() if key in row])

    def against(self, other: Group, key: str) -> tuple[float, float]:
        """Mean and standard error of ln(this / other), seed by seed."""
        both = [seed for seed in self.rows if seed in other.rows and key in self.rows[seed]]
        return mean_error([math.log(self.rows[seed][key] / other.rows[seed][key]) for seed in both])


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error of the mean.

    >>> mean_error([1.0, 3.0])
    (2.0, 1.0)
    """
    if not values:
        return math.nan, math.nan
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.mean(values), error


def groups_of(one: Benchmark, rows: Sequence[Row]) -> list[Group]:
    """Variants that have a row, the first one being what the others are compared with."""
    groups: dict[tuple[tuple[tuple[str, str], ...], str], dict[int, Row]] = {}
    for training in [*trainings(one), *of_equal_time(one, rows)]:
        row = row_of(training, rows)
        if row is not None and row["status"] == "done":
            groups.setdefault((training.variant, training.budget), {})[training.seed] = row
    return [Group(one, variant, budget, by_seed) for (variant, budget), by_seed in groups.items()]
