"""Time and memory of ever larger systems, up to what fits, and how they grow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from mlanet.memory import free_bytes
from mlanet.profiling.clock import Clocks
from mlanet.profiling.compare import started
from mlanet.profiling.fleet import Remote, Settings, WorkerError, as_data
from mlanet.profiling.measurement import Measurement, provenance
from mlanet.profiling.systems import system

SHARE_OF_MACHINE = 0.7
"""Of the memory that is free, so much may a growing system take; beyond, it counts as out of memory."""


@dataclass(frozen=True)
class Growth:
    """How a model's cost grows: t = c Nᵖ over the larger half of the sizes.

    - exponent: p of time against atoms · memory_exponent: of the peak · largest: atoms of the largest system that ran
    """

    model: str
    mode: str
    exponent: float | None
    memory_exponent: float | None
    largest: int
    ended: str


def scale(
    models: Sequence[str],
    kind: str,
    modes: Sequence[str],
    settings: Settings,
    sizes: Iterable[int],
    seconds: float,
    watch: Callable[[str], object] = lambda text: None,
) -> tuple[list[Measurement], list[Growth]]:
    """Grow a crystal through `sizes` until memory ends, or one call takes longer than `seconds`.

    Args:
        kind: a crystal of `systems`.
        sizes: atoms, ascending.
        watch: is told what runs.
    """
    import torch

    if settings.limit_gib is None:
        free = free_bytes(torch.device(settings.execution.device))
        settings = replace(settings, limit_gib=SHARE_OF_MACHINE * free / 2**30)
    rows: list[Measurement] = []
    growths = []
    for name in models:
        for mode in modes:
            result = _grow(name, kind, mode, settings, list(sizes), seconds, watch)
            rows += result
            growths.append(growth(result))
    return rows, growths


def sizes_up_to(most: int) -> list[int]:
    """96, 192, … atoms.

    >>> sizes_up_to(400)
    [96, 192, 384]
    """
    return [96 * 2**power for power in range(40) if 96 * 2**power <= most]


def _grow(
    name: str,
    kind: str,
    mode: str,
    settings: Settings,
    sizes: list[int],
    seconds: float,
    watch: Callable[[str], object],
) -> list[Measurement]:
    """One model in one mode, in a process of its own."""
    rows: list[Measurement] = []
    first = system(f"{kind}:{sizes[0]}")
    facts = provenance() | {"dtype": settings.execution.dtype}
    try:
        remote = started(name, [first], settings)
    except WorkerError as error:
        return [Measurement(name, f"{kind}:{sizes[0]}", mode, failure=f"{error.kind}: {error}", machine=facts)]
    facts = remote.facts["machine"] | facts | {"limit_GiB": round(settings.limit_gib or 0.0, 2)}
    try:
        for size in sizes:
            watch(f"{name}, {mode}, {size} atoms")
            row = _one(remote, f"{kind}:{size}", mode)
            row.machine = facts
            rows.append(row)
            if row.failure or (row.ms or 0) > 1e3 * seconds:
                break
    finally:
        remote.close()
    return rows


def _one(remote: Remote, where: str, mode: str) -> Measurement:
    """One size: times of a few calls, fewer where they are long, and the peak."""
    atoms = system(where)
    row = Measurement(remote.name, where, mode, len(atoms), cutoff_A=remote.facts["cutoff_A"])
    row.parameters, row.l_max = remote.facts["parameters"], remote.facts["l_max"]
    ask = partial(remote.ask, key=where)
    try:
        row.edges = ask("load", structures=[as_data(atoms)])["edges"]
        first = ask("time", mode=mode)["ms"]
        answers = [ask("time", mode=mode) for _ in range(max(2, min(7, int(2000 / max(first, 1.0)))))]
        row.add_times([Clocks(answer["ms"], answer["processor_ms"]) for answer in answers])
        row.add_memory(ask("memory", mode=mode))
        ask("forget")
    except WorkerError as error:
        row.failure = f"{error.kind}: {error}"
    return row


def growth(rows: Sequence[Measurement]) -> Growth:
    """Exponents by least squares of logarithms."""
    done = [row for row in rows if row.ms is not None]
    last = rows[-1]
    ended = last.failure.partition(":")[0] if last.failure else "time" if done else ""
    large = done[len(done) // 2 :] if len(done) >= 4 else done
    sizes = [row.atoms for row in large]
    times = _exponent(sizes, [row.ms for row in large])
    memory = _exponent(sizes, [row.working_MiB for row in large])
    return Growth(rows[0].model, rows[0].mode, times, memory, max((row.atoms for row in done), default=0), ended)


def _exponent(sizes: Sequence[int], values: Sequence[float | None]) -> float | None:
    pairs = [(math.log(size), math.log(value)) for size, value in zip(sizes, values, strict=True) if value]
    if len({x for x, _ in pairs}) < 2:
        return None
    x, y = np.array(pairs).T
    return round(float(np.polyfit(x, y, 1)[0]), 3)


def growth_rows(growths: Sequence[Growth]) -> list[dict[str, Any]]:
    """For a table."""
    return [row.__dict__ for row in growths]
