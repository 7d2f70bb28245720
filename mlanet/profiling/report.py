"""The report of a profile: one HTML file with facts, tables and pictures, beside CSV and JSON."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlanet.page import Page
from mlanet.profiling import plots
from mlanet.profiling.clock import PHASES
from mlanet.profiling.measurement import COLUMNS, Measurement, busy
from mlanet.profiling.scale import Growth

HOW = (
    "Every model runs in a process of its own, on the same structures and neighbour lists of its own cutoff. "
    "Rounds are interleaved (A B C A B C …) after three that do not count; times are medians with the 20th and 80th "
    "percentile. ms is wall time, processor_ms what all threads of the process had of processors. "
    "infer: energy, forces and stress. train: these, a loss on all three, its gradient and a step of AdamW. "
    "tensor_MiB counts tensors alive at once above the model and its inputs, the same on every device; "
    "resident_MiB is what the process grew by. slope_error compares a force with the slope of the energy."
)
SHOWN = (
    *(
        "model",
        "system",
        "mode",
        "atoms",
        "edges",
        "parameters",
        "ms",
        "ms_p20",
        "ms_p80",
        "processor_ms",
        "us_per_atom",
    ),
    *("tensor_MiB", "resident_MiB", "allocated_MiB", "reserved_MiB", "bytes_per_edge", "slope_error", "failure"),
)


def compare_report(path: Path, rows: Sequence[Measurement], errors: Mapping[str, float], error_label: str) -> None:
    """Times and memory of models on the same systems."""
    page = Page("Models compared", HOW)
    _machine(page, [row.machine for row in rows])
    if warning := busy(rows):
        page.text(f"Beware: {warning}.")
    page.heading("Ratios")
    _ratios(page, rows)
    for system in dict.fromkeys(row.system for row in rows):
        page.heading(f"On {system}")
        if any(row.ms is not None for row in rows if row.system == system):
            draw = functools.partial(plots.bars, rows, system)
            page.picture(draw, f"Time on {system}: medians with p20 and p80.")
        by_degree = functools.partial(plots.against_degree, rows, system)
        page.picture(by_degree, f"Time and memory on {system} against l_max.")
        _table(page, [row for row in rows if row.system == system])
    front = functools.partial(plots.pareto, rows, errors, error_label)
    said = "The red line joins the models that no other beats in both error and time."
    page.picture(front, said, heading="Error against time")
    page.data("compare", [row.flat() for row in rows])
    page.write(path)


def scale_report(path: Path, rows: Sequence[Measurement], growths: Sequence[Growth]) -> None:
    """Growth with atoms."""
    page = Page("Growth with atoms", HOW)
    _machine(page, [row.machine for row in rows])
    if warning := busy(rows):
        page.text(f"Beware: {warning}.")
    page.heading("Exponents")
    page.text("t = c Nᵖ over the larger half of the sizes; 1 is linear. `ended`: what stopped the growth.")
    columns = ("model", "mode", "exponent", "memory_exponent", "largest", "ended")
    page.table(columns, [[getattr(growth, name) for name in columns] for growth in growths])
    page.heading("Curves")
    draw = functools.partial(plots.against_atoms, rows)
    page.picture(draw, "Time per atom and peak memory; dotted red: out of memory there.")
    _table(page, rows)
    page.data("scale", [row.flat() for row in rows])
    page.write(path)


def speed_report(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Phases of a step."""
    page = Page("Where a step spends its time", HOW)
    _machine(page, rows)
    parts = [name for name in PART_ORDER if any(name in row for row in rows)]
    for system in dict.fromkeys(str(row["system"]) for row in rows):
        chosen = [row for row in rows if row["system"] == system and not row["failure"]]
        page.heading(system)
        for kind in ("infer", "train"):
            own = [name for name in parts if name.startswith(kind)]
            draw = functools.partial(plots.stacked, chosen, own, "model", f"ms, {kind}")
            page.picture(draw, f"Phases of {kind} on {system}.")
        columns = ("model", "atoms", "edges", *parts, "failure")
        page.table(columns, [[row.get(name) for name in columns] for row in rows if row["system"] == system])
    page.data("speed", list(rows))
    page.write(path)


ROOFLINE = (
    "Roofline: what each operation reaches under the ceilings of this machine; area is time. What stands above the "
    "slope was served by a cache."
)

PART_ORDER = (
    "neighbour list",
    *(f"infer: {name}" for name in PHASES),
    *(f"train: {name}" for name in PHASES),
    "train: optimiser",
)


def memory_report(path: Path, rows: Sequence[Measurement], saved: Mapping[str, Mapping[str, int]]) -> None:
    """Peaks, and what each module keeps."""
    page = Page("Where memory goes", HOW)
    _machine(page, [row.machine for row in rows])
    page.heading("Peaks")
    _table(page, rows)
    page.heading("Kept for the backward pass of a training step")
    for model, modules in saved.items():
        kept = [{"module": name, "MiB": size / 2**20} for name, size in list(modules.items())[:20]]
        if kept:
            draw = functools.partial(plots.stacked, kept, ["MiB"], "module", "MiB")
            page.picture(draw, f"{model}: saved tensors by module.")
        page.table(("module", "MiB"), [[entry["module"], entry["MiB"]] for entry in kept], model)
    page.data("memory", [row.flat() for row in rows])
    page.write(path)


def trace_report(path: Path, model: str, where: str, mode: str, traced: Mapping[str, Any]) -> None:
    """Layers, operations and kernels."""
    ceilings = traced["ceilings"]
    page = Page(
        f"{model}: {mode} on {where}",
        f"Undisturbed {traced['ms']:.4g} ms; booking every operation took {traced['booked_ms']:.4g} ms. This machine "
        f"copies {ceilings['gb_per_s']:.4g} GB/s and multiplies matrices at {ceilings['gflop_per_s']:.4g} GFLOP/s; "
        "of_ceiling is the share of whichever is nearer. Bytes are those of the tensors in and out of an operation.",
    )
    _machine(page, [traced["machine"]])
    for name, key in (("Layers", "layers"), ("Operations", "operations"), ("Kernels", "kernels")):
        rows = traced[key]
        page.heading(name)
        if key == "layers":
            parts = [f"{phase}_ms" for phase in PHASES]
            draw = functools.partial(plots.stacked, rows[:15], parts, "layer", "ms")
            page.picture(draw, "The innermost layer at work, in each pass.")
        if key == "operations":
            draw = functools.partial(plots.roofline, rows, ceilings["gb_per_s"], ceilings["gflop_per_s"])
            page.picture(draw, ROOFLINE)
        if rows:
            page.table(list(rows[0]), [list(row.values()) for row in rows])
    page.data("trace", dict(traced))
    page.write(path)


def _machine(page: Page, rows: Sequence[Mapping[str, Any]]) -> None:
    """What the figures depend on, once; several values where models differ."""
    names = ("device", "driver", "cuda", "torch", "dtype", "tf32", "threads", "mlanet", "commit", "date")
    facts = []
    for name in names:
        values = list(dict.fromkeys(str(row[name]) for row in rows if name in row))
        if values:
            facts.append((name, ", ".join(values)))
    page.facts(facts)


def _table(page: Page, rows: Sequence[Measurement]) -> None:
    """All figures of some rows; columns without any are left out."""
    columns = [name for name in SHOWN if any(getattr(row, name) not in (None, "") for row in rows)]
    assert set(columns) <= set(COLUMNS)
    page.table(columns, [[getattr(row, name) for name in columns] for row in rows])


def ratios(rows: Sequence[Measurement]) -> list[list[object]]:
    """(system, mode, model, its times and memory over those of the first model that ran)."""
    table: list[list[object]] = []
    for system, mode in dict.fromkeys((row.system, row.mode) for row in rows):
        chosen = [row for row in rows if (row.system, row.mode) == (system, mode) and row.ms is not None]
        for row in chosen:
            first = chosen[0]
            memory = row.working_MiB / first.working_MiB if row.working_MiB and first.working_MiB else None
            processor = row.processor_ms / first.processor_ms if row.processor_ms and first.processor_ms else None
            table.append([system, mode, row.model, (row.ms or 0.0) / (first.ms or 1.0), processor, memory])
    return table


def _ratios(page: Page, rows: Sequence[Measurement]) -> None:
    first = rows[0].model
    page.table(
        ("system", "mode", "model", "time", "processor time", "memory"),
        ratios(rows),
        f"As multiples of {first}, the first named.",
    )
