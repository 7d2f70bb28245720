"""Rows of a sweep: one per point, as CSV and JSON, and their means over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from mlanet.files import table_text
from mlanet.quantities import FORCES, QUANTITIES
from mlanet.sweep.plan import Point, model_name

DONE, FAILED = "done", "failed"

MEASURED = ("seconds", "seconds_per_epoch", "microseconds_per_atom", "peak_memory_MiB")
"""Columns that differ between two runs of the same point, as a clock does."""


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """One point and what it came to; None where there is nothing, as errors of what is not labelled."""

    preset: str
    l_max: int
    size: int
    """Training structures."""
    seed: int
    status: str
    """done, or failed with the reason in `remark`."""
    energy_mae_meV_per_atom: float | None = None
    energy_rmse_meV_per_atom: float | None = None
    forces_mae_meV_per_A: float | None = None
    forces_rmse_meV_per_A: float | None = None
    stress_mae_GPa: float | None = None
    stress_rmse_GPa: float | None = None
    dipole_mae_me_A: float | None = None
    dipole_rmse_me_A: float | None = None
    polarizability_mae_A3: float | None = None
    polarizability_rmse_A3: float | None = None
    atomic_energies_mae_meV: float | None = None
    atomic_energies_rmse_meV: float | None = None
    test_structures: int | None = None
    parameters: int | None = None
    steps: int | None = None
    epochs: float | None = None
    seconds: float | None = None
    """Of the training, validation included."""
    seconds_per_epoch: float | None = None
    microseconds_per_atom: float | None = None
    """Energy, forces and stress of structures of the test part in one batch: median time / atoms."""
    peak_memory_MiB: float | None = None
    """While training: of the process above what it held before, or allocated on the GPU."""
    remark: str = ""


class Result(msgspec.Struct, frozen=True):
    """`result.json` of a point: its row and what it was computed on."""

    row: Row
    machine: dict[str, str | int] = {}
    """Empty of results from before the key had this name."""


class Group(NamedTuple):
    """The seeds of one model at one size."""

    preset: str
    l_max: int
    size: int
    rows: tuple[Row, ...]

    @property
    def model(self) -> str:
        """For people."""
        return model_name(self.preset, self.l_max)

    def mean(self, column: str) -> float | None:
        """Mean over the seeds that have a value."""
        values = self.values(column)
        return statistics.fmean(values) if values else None

    def spread(self, column: str) -> float | None:
        """Standard deviation over seeds (n − 1); None for fewer than two."""
        values = self.values(column)
        return statistics.stdev(values) if len(values) > 1 else None

    def values(self, column: str) -> list[float]:
        """One finite number per seed that has one."""
        values = (getattr(row, column) for row in self.rows)
        return [float(value) for value in values if value is not None and math.isfinite(value)]


def grouped(rows: Iterable[Row]) -> list[Group]:
    """Finished rows by model and size, in the order in which they first come."""
    groups: dict[tuple[str, int, int], list[Row]] = {}
    for row in rows:
        if row.status == DONE:
            groups.setdefault((row.preset, row.l_max, row.size), []).append(row)
    return [Group(*key, tuple(group)) for key, group in groups.items()]


def models_of(groups: Iterable[Group]) -> list[tuple[str, int]]:
    """Presets with their l_max, in order."""
    return list(dict.fromkeys((group.preset, group.l_max) for group in groups))


def of_model(groups: Iterable[Group], model: tuple[str, int]) -> list[Group]:
    """Those of one preset and l_max."""
    return [group for group in groups if (group.preset, group.l_max) == model]


class Decay(NamedTuple):
    """ε(n) = factor · n^(−exponent), a straight line in a log–log picture."""

    factor: float
    exponent: float

    def at(self, n: float) -> float:
        """The error that the fit gives for n structures."""
        return self.factor * n**-self.exponent


def decay(groups: Sequence[Group], column: str) -> Decay | None:
    """Least squares in the logarithms of size and mean error; None for fewer than two sizes."""
    pairs = [(math.log(group.size), math.log(mean)) for group in groups if (mean := group.mean(column) or 0) > 0]
    if len({x for x, _ in pairs}) < 2:
        return None
    slope, intercept = statistics.linear_regression(*zip(*pairs, strict=True))
    return Decay(math.exp(intercept), -slope)


def failed(point: Point, remark: str) -> Row:
    """The row of a point that came to nothing."""
    return Row(**point.key, status=FAILED, remark=" ".join(remark.split()))


def to_csv(rows: Sequence[Row]) -> bytes:
    """All columns; floats with all their digits."""
    return table_text([msgspec.structs.asdict(row) for row in rows], Row.__struct_fields__).encode()


ERROR_COLUMNS = {
    f"{quantity.name}_mae_{quantity.column}": (f"{quantity.singular} MAE", quantity.compared)
    for quantity in (FORCES, *(other for other in QUANTITIES if other is not FORCES))
}
"""What models are judged by, the first that is labelled: name and unit."""


def judged_by(groups: Iterable[Group]) -> str:
    """The first of `ERROR_COLUMNS` that any row has."""
    known = list(groups)
    has: Callable[[str], bool] = lambda column: any(group.values(column) for group in known)  # noqa: E731
    return next((column for column in ERROR_COLUMNS if has(column)), next(iter(ERROR_COLUMNS)))
