"""Any models on the same systems in the same rounds: time and memory, a failure being a row."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from ase import Atoms

from mlanet.data.atoms import to_graph
from mlanet.profiling.clock import WARM_UP, Clocks, interleaved
from mlanet.profiling.fleet import TOO_SLOW, Remote, Settings, WorkerError, as_data
from mlanet.profiling.measurement import Measurement, provenance

T = TypeVar("T")
Watch = Callable[..., Iterable[Any]]
"""Passes things on while showing how many of how many are done."""
_unwatched: Watch = lambda things, *_: things  # noqa: E731


@dataclass(frozen=True)
class Plan:
    """What a comparison measures.

    - models: names · systems: name -> structure · modes: of `steps.MODES`
    - rounds: that count, after warm_up rounds that do not
    """

    models: Sequence[str]
    systems: dict[str, Atoms]
    modes: Sequence[str]
    rounds: int
    settings: Settings
    with_memory: bool = True
    warm_up: int = WARM_UP


def compare(
    plan: Plan, watch: Watch = _unwatched, save: Callable[[list[Measurement]], object] = lambda _: None
) -> list[Measurement]:
    """One row for each model, system and mode. All models stay in their processes while rounds go A B C A B C ….

    Args:
        watch: wraps an iterable for a progress bar: watch(iterable, label, total).
        save: is given the rows when all are timed, and at the end, also of a run that is interrupted.
    """
    rows: list[Measurement] = []
    with _fleet() as fleet:
        try:
            for name in watch(plan.models, "building models", len(plan.models)):
                rows += _start(name, plan, fleet)
            _time(plan, fleet, rows, watch)
            save(rows)
            if plan.with_memory:
                _memory(fleet, rows, watch)
        finally:
            save(rows)
    return rows


@contextlib.contextmanager
def _fleet() -> Iterator[dict[str, Remote]]:
    """Workers by name, which end with the block."""
    fleet: dict[str, Remote] = {}
    try:
        yield fleet
    finally:
        for remote in fleet.values():
            remote.close()


def species_of(structures: Iterable[Atoms]) -> tuple[int, ...]:
    """Atomic numbers that occur, ascending."""
    return tuple(sorted({int(z) for atoms in structures for z in atoms.numbers}))


def neighbours_of(structures: Sequence[Atoms]) -> float:
    """Mean number of neighbours within 5 Å."""
    smallest = min(structures, key=len)
    return max(1.0, to_graph(smallest, 5.0).n_edges / len(smallest))


def started(name: str, structures: Sequence[Atoms], settings: Settings) -> Remote:
    """A worker with its model built for some structures.

    Raises:
        WorkerError: the model could not be built; the process has ended.
    """
    remote = Remote(name, settings)
    try:
        remote.build(species_of(structures), neighbours_of(structures))
    except WorkerError:
        remote.close()
        raise
    return remote


def _start(name: str, plan: Plan, fleet: dict[str, Remote]) -> list[Measurement]:
    """Build a model and load every system; rows to be filled, or rows that say why not."""
    facts = provenance() | {"dtype": plan.settings.execution.dtype}
    try:
        remote = started(name, list(plan.systems.values()), plan.settings)
    except WorkerError as error:
        return [
            Measurement(name, where, mode, len(atoms), failure=f"{error.kind}: {error}", machine=facts)
            for where, atoms in plan.systems.items()
            for mode in plan.modes
        ]
    fleet[name] = remote
    facts = remote.facts["machine"] | facts
    smallest = min(plan.systems.values(), key=len)
    slope = _attempt(remote, "check", structures=[as_data(smallest)])
    rows = []
    for where, atoms in plan.systems.items():
        loaded = _attempt(remote, "load", key=where, structures=[as_data(atoms)])
        for mode in plan.modes:
            row = Measurement(name, where, mode, len(atoms), loaded.get("edges"), remote.facts["cutoff_A"])
            row.parameters, row.l_max = remote.facts["parameters"], remote.facts["l_max"]
            row.machine = facts
            row.slope_error = slope.get("slope_error")
            row.failure = loaded.get("failure", "")
            rows.append(row)
    return rows


def _attempt(remote: Remote, do: str, **command: Any) -> dict[str, Any]:
    """An answer, or the failure as one."""
    try:
        return remote.ask(do, **command)
    except WorkerError as error:
        return {"failure": f"{error.kind}: {error}"}


def _time(plan: Plan, fleet: dict[str, Remote], rows: list[Measurement], watch: Watch) -> None:
    """Interleaved rounds over all rows; a row that fails is left out of the rounds that follow.

    A model whose time is up keeps the rounds that it has; a call that would take longer than what is left is not begun.
    """
    lasted = dict.fromkeys(range(len(rows)), 0.0)
    times: dict[int, list[Clocks]] = {index: [] for index in range(len(rows))}
    steps = interleaved(range(len(rows)), plan.rounds, plan.warm_up)
    try:
        for counts, index in watch(steps, "timing", len(steps)):
            row = rows[index]
            if row.failure:
                continue
            remote = fleet[row.model]
            if remote.left is not None and remote.left < lasted[index]:
                row.failure = remote.too_slow()
                continue
            answer = _attempt(remote, "time", key=row.system, mode=row.mode)
            lasted[index] = answer.get("seconds", 0.0)
            if "failure" in answer:
                row.failure = answer["failure"]
            elif counts:
                times[index].append(Clocks(answer["ms"], answer["processor_ms"]))
    finally:
        for row, values in zip(rows, times.values(), strict=True):
            if values and row.failure.startswith(TOO_SLOW):
                row.failure = ""
            if values and not row.failure:
                row.add_times(values)


def _memory(fleet: dict[str, Remote], rows: list[Measurement], watch: Watch) -> None:
    """Peaks, after everything is warm: model by model, the smaller first; a process ends with its last row."""
    order = sorted(rows, key=lambda one: (one.model, one.atoms, one.mode))
    for index, row in watch(list(enumerate(order)), "memory", len(rows)):
        if index and order[index - 1].model != row.model and order[index - 1].model in fleet:
            fleet[order[index - 1].model].close()
        if row.model in fleet and (not index or order[index - 1].model != row.model):
            fleet[row.model].renew()
        if row.failure:
            continue
        answer = _attempt(fleet[row.model], "memory", key=row.system, mode=row.mode)
        if "failure" in answer:
            row.failure = f"memory: {answer['failure']}"
        else:
            row.add_memory(answer)


def memory(plan: Plan, watch: Watch = _unwatched) -> tuple[list[Measurement], dict[str, dict[str, int]]]:
    """Peaks of every model, system and mode, and for each "model on system" the bytes that its modules keep."""
    rows: list[Measurement] = []
    saved: dict[str, dict[str, int]] = {}
    for name in watch(plan.models, "memory", len(plan.models)):
        with _fleet() as fleet:
            worker = _start(name, plan, fleet)
            for row in worker:  # once without counting: what is filled once is no peak
                if not row.failure:
                    row.failure = _attempt(fleet[name], "time", key=row.system, mode=row.mode).get("failure", "")
            _memory(fleet, worker, _unwatched)
            for where in plan.systems if fleet else ():
                saved[f"{name} on {where}"] = _attempt(fleet[name], "saved", key=where).get("saved", {})
        rows += worker
    return rows, saved


def phases(plan: Plan, watch: Watch = _unwatched) -> list[dict[str, Any]]:
    """Medians of the parts of a step: neighbour list, forward, backward, double backward, optimiser; ms.

    Every model takes its turn in every round, as in `compare`.
    """
    rows = []
    with _fleet() as fleet:
        for name in plan.models:
            rows += _start(name, plan, fleet)
        cells = {(row.model, row.system): row for row in rows}
        times: dict[tuple[str, str], dict[str, list[float]]] = {key: {} for key in cells}
        steps = interleaved(cells, plan.rounds)
        for counts, key in watch(steps, "timing", len(steps)):
            row = cells[key]
            if row.failure:
                continue
            ask = partial(_attempt, fleet[row.model], "phases", key=row.system)
            answer = ask(structures=[as_data(plan.systems[row.system])])
            row.failure = answer.get("failure", "")
            if counts and not row.failure:
                for name, value in answer.items():
                    times[key].setdefault(name, []).append(value)
    return [_phase_row(row, times[key]) for key, row in cells.items()]


def _phase_row(row: Measurement, parts: dict[str, list[float]]) -> dict[str, Any]:
    """One model on one system, a column for every part."""
    from mlanet.profiling.clock import Sample

    table = {"model": row.model, "system": row.system, "atoms": row.atoms, "edges": row.edges}
    middle = {name: round(Sample(values).quantile(0.5), 4) for name, values in parts.items() if name != "seconds"}
    return {**table, **middle, "failure": row.failure, **row.machine}
