"""What MLANet should reach beside other packages, as numbers, and whether the rows of a run say that it does.

A goal is a ratio of two sides, each a family of models at one degree: over / under. A side is the fastest model of its
family on the same system in the same mode (of MLANet's kernels, whichever is quickest there); its memory is that of the
same model, not of a leaner one. A goal is reached when the worst of all systems reaches it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lineup import ACCELERATORS, COMPILED, Contender

from mlanet.profiling.measurement import Measurement

FLAT = 1.25
"""Largest over smallest time per atom that still counts as flat."""
FROM_ATOMS = 10_000
MILLION = 1_000_000


@dataclass(frozen=True)
class Side:
    """A family of models at one degree."""

    family: str
    degree: int

    def __str__(self) -> str:
        return f"{self.family} l={self.degree}"


@dataclass(frozen=True)
class Goal:
    """over / under of a quantity (ms or working_MiB) in a mode, at least or at most `needed`."""

    over: Side
    under: Side
    quantity: str
    mode: str
    needed: float
    at_least: bool

    def __str__(self) -> str:
        what = "time" if self.quantity == "ms" else "peak memory"
        return f"{what}, {self.mode}: {self.over} / {self.under}"


@dataclass(frozen=True)
class Verdict:
    """One line of the table of goals.

    - typical: geometric mean over the systems · worst: and `on` which system · reached: yes, no or not measured
    - missing: systems without a figure, with the reason
    """

    goal: str
    needed: str
    typical: float | None = None
    worst: float | None = None
    on: str = ""
    reached: str = "not measured"
    missing: str = ""

    def row(self) -> dict[str, Any]:
        """For a table."""
        return asdict(self)


def goals(on_gpu: bool, compiled: bool = False) -> list[Goal]:
    """Those between models; what a GPU shall do by itself is judged by `of_growth` and `of_kernels`.

    Args:
        compiled: peers count in their compiled modes too; `aoti` has no training step.
    """
    wanted = []
    for mode in ("infer", "train"):
        rivals = [(3, 10.0, "mace"), (3, 10.0, "nequip"), (2, 4.0, "mace"), (2, 4.0, "nequip"), (1, 1.0, "painn")]
        if on_gpu:
            rivals = [(l, 3.0, f"{name} {kernel}") for l in (2, 3) for name, kernel in ACCELERATORS.items()]  # noqa: E741
        elif compiled:
            rivals += [
                (l, factor, f"{name} {one}")
                for l, factor, name in rivals  # noqa: E741
                for one in COMPILED.get(name, ())
                if one != "aoti" or mode == "infer"
            ]
        for degree, factor, rival in rivals:
            wanted.append(Goal(Side(rival, degree), Side("mlanet", degree), "ms", mode, factor, True))
        if not on_gpu:
            wanted.append(Goal(Side("mlanet", 3), Side("mlanet", 1), "ms", mode, 2.5, False))
            wanted.append(Goal(Side("mlanet", 3), Side("mace", 3), "working_MiB", mode, 0.125, False))
    return wanted


def judge(goal: Goal, rows: Sequence[Measurement], lineup: Sequence[Contender], absent: Mapping[str, str]) -> Verdict:
    """One goal over all systems of a run.

    Args:
        absent: families that could not be started, and why.
    """
    ratios: dict[str, float] = {}
    if missing := [why for side in (goal.over, goal.under) if (why := _no_part(side, lineup, absent))]:
        return _verdict(str(goal), goal.needed, goal.at_least, ratios, " and ".join(missing))
    for system in dict.fromkeys(row.system for row in rows):
        here = [row for row in rows if (row.system, row.mode) == (system, goal.mode)]
        sides = [_value(side, goal.quantity, here, lineup) for side in (goal.over, goal.under)]
        over, under = sides
        if isinstance(over, float) and isinstance(under, float):
            ratios[system] = over / under
        else:
            missing.append(f"{system}: {' and '.join(one for one in sides if isinstance(one, str))}")
    return _verdict(str(goal), goal.needed, goal.at_least, ratios, "; ".join(missing))


def of_growth(name: str, rows: Sequence[Measurement]) -> list[Verdict]:
    """A million atoms on one card, and time per atom that does not depend on their number, from one model's growth."""
    done = [row for row in rows if row.ms is not None]
    ended = next((row.failure for row in rows if row.failure), "the largest size asked for")
    largest = max((row.atoms for row in done), default=0)
    million = _verdict(f"atoms of {name} on one card, in millions", 1.0, True, {"": largest / MILLION}, "")
    large = [row.us_per_atom for row in done if row.atoms >= FROM_ATOMS and row.us_per_atom]
    spread = {f"{FROM_ATOMS} to {largest} atoms": max(large) / min(large)} if len(large) > 1 else {}
    flat = _verdict(f"µs per atom of {name}, largest / smallest", FLAT, False, spread, f"growth ended: {ended}")
    return [million, flat]


def of_kernels(floors: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """Attention layers within twice their floor (`floors.py`), degree by degree."""
    by_model: dict[str, dict[str, float]] = {}
    for row in floors:
        where = f"{row['system']}, {row['layer']}"
        by_model.setdefault(str(row["model"]), {})[where] = float(row["of_floor"])
    return [_verdict(f"attention of {name}: time / floor", 2.0, False, values, "") for name, values in by_model.items()]


def _no_part(side: Side, lineup: Sequence[Contender], absent: Mapping[str, str]) -> str:
    """Why nobody of a side is in the run, or nothing."""
    if any((one.family, one.degree) == (side.family, side.degree) for one in lineup):
        return ""
    return absent.get(side.family, f"{side} takes no part")


def _value(side: Side, quantity: str, rows: Sequence[Measurement], lineup: Sequence[Contender]) -> float | str:
    """A quantity of the fastest model of a side, or why there is none."""
    names = [one.name for one in lineup if (one.family, one.degree) == (side.family, side.degree)]
    rows = [row for row in rows if row.model in names]
    timed = [row for row in rows if row.ms is not None]
    if not timed:
        return f"{side}: {rows[0].failure if rows and rows[0].failure else 'not reached'}"
    fastest = min(timed, key=lambda row: row.ms or math.inf)
    value = getattr(fastest, quantity)
    return float(value) if value is not None else f"{side}: {fastest.failure or 'not reached'}"


def _verdict(text: str, needed: float, at_least: bool, ratios: Mapping[str, float], missing: str) -> Verdict:
    limit = f"{'≥' if at_least else '≤'} {needed:g}"
    if not ratios:
        return Verdict(text, limit, missing=missing)
    where = (min if at_least else max)(ratios, key=lambda one: ratios[one])
    worst = ratios[where]
    mean = math.exp(sum(map(math.log, ratios.values())) / len(ratios)) if min(ratios.values()) > 0 else 0.0
    reached = worst >= needed if at_least else worst <= needed
    return Verdict(text, limit, round(mean, 3), round(worst, 3), where, "yes" if reached else "no", missing)
