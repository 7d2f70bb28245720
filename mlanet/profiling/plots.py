"""Pictures of a profile: time and memory of models, against l_max, against atoms, against error; where time goes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlanet.config import preset_names
from mlanet.plain import literal
from mlanet.plots import BLUE, GREY, INK, RED, SERIES, heading, new_figure, panel, pareto_front, style
from mlanet.profiling.measurement import Measurement

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^vPX*<>hp"


def family(model: str) -> str:
    """A model's name without its l_max: the line it belongs to in a picture over l_max.

    >>> family("mlanet_l2_full"), family("mace:channels=64,l_max=2")
    ('mlanet_full', 'mace:channels=64')
    """
    short = re.sub(r"_l\d(?=_|:|$)", "", model)
    return re.sub(r"[:,]l_max=\d+(,?)", lambda match: ":" if match[0][0] == ":" and match[1] else match[1], short)


def bars(rows: Sequence[Measurement], system: str) -> Figure:
    """Time of inference and of a training step of every model on one system, the fastest on top."""
    modes = list(dict.fromkeys(row.mode for row in rows))
    names = list(dict.fromkeys(row.model for row in rows if row.system == system and row.ms is not None))
    figure = new_figure(4.6 * len(modes) + 1.5, 1.2 + 0.32 * len(names))
    for place, mode in enumerate(modes):
        axes = panel(figure, 1, len(modes), place + 1)
        chosen = [row for row in rows if row.system == system and row.mode == mode and row.ms is not None]
        chosen.sort(key=lambda row: -(row.ms or 0))
        values = [row.ms or 0.0 for row in chosen]
        spread = [
            [max(0.0, (row.ms or 0) - (row.ms_p20 or 0)) for row in chosen],
            [max(0.0, (row.ms_p80 or 0) - (row.ms or 0)) for row in chosen],
        ]
        colors = [BLUE if is_own(row) else GREY for row in chosen]
        axes.barh([row.model for row in chosen], values, color=colors, xerr=spread, ecolor=INK, error_kw={"lw": 0.8})
        for index, value in enumerate(values):
            axes.text(value, index, f"  {value:.3g}", va="center", fontsize=8, color=INK)
        axes.set_xlim(0, 1.15 * max([1e-3, *(row.ms_p80 or row.ms or 0 for row in chosen)]))
        axes.set_xlabel("ms")
        heading(axes, literal(f"{mode}, {system}"))
    return figure


def is_own(row: Measurement) -> bool:
    """Whether a row is of one of this package's models."""
    base = re.split("[:@]", row.model)[0]
    return base in preset_names() or base.endswith((".safetensors", ".yaml", ".yml"))


def against_degree(rows: Sequence[Measurement], system: str) -> Figure | None:
    """Time and memory against l_max, a line for each family of models; None where there are no two degrees."""
    chosen = [row for row in rows if row.system == system and row.l_max is not None and row.ms is not None]
    if len({row.l_max for row in chosen}) < 2:
        return None
    modes = list(dict.fromkeys(row.mode for row in chosen))
    figure = new_figure(11.4, 3.5 * len(modes))
    for line, mode in enumerate(modes):
        for column, (label, value) in enumerate((("ms", _ms), ("peak of tensors, MiB", _mib))):
            axes = figure.add_subplot(len(modes), 2, 2 * line + column + 1)
            _lines(axes, [row for row in chosen if row.mode == mode], lambda row: float(row.l_max or 0), value)
            axes.set_yscale("log")
            axes.set_xticks(sorted({row.l_max for row in chosen if row.l_max is not None}))
            axes.set(xlabel="l_max", ylabel=label)
            heading(axes, literal(f"{mode}, {system}"))
            if line == column == 0:
                _legend(figure, axes)
    return figure


def against_atoms(rows: Sequence[Measurement]) -> Figure:
    """Time per atom and memory against atoms, one line for each model and mode; a cross where memory ended."""
    modes = list(dict.fromkeys(row.mode for row in rows))
    figure = new_figure(11.4, 3.5 * len(modes))
    for line, mode in enumerate(modes):
        for column, (label, value) in enumerate((("µs per atom", _us), ("peak of tensors, MiB", _mib))):
            axes = figure.add_subplot(len(modes), 2, 2 * line + column + 1)
            _lines(axes, [row for row in rows if row.mode == mode], lambda row: float(row.atoms), value, whole=True)
            for row in rows:
                if row.mode == mode and row.failure.startswith("out of memory"):
                    axes.axvline(row.atoms, color=RED, linewidth=0.7, linestyle=":")
            axes.set(xlabel="atoms", ylabel=label, xscale="log", yscale="log")
            heading(axes, mode)
            if line == column == 0:
                _legend(figure, axes)
    return figure


def pareto(rows: Sequence[Measurement], errors: Mapping[str, float], label: str) -> Figure | None:
    """Error against time per atom of inference; the front of what no other model beats in both is joined."""
    points = [
        (row.us_per_atom, errors[row.model], row.model)
        for row in rows
        if row.mode == "infer" and row.model in errors and row.us_per_atom is not None
    ]
    if len(points) < 2:
        return None
    figure = new_figure(6.4, 4.2)
    axes = panel(figure)
    front = pareto_front(points)
    axes.plot([point[0] for point in front], [point[1] for point in front], color=RED, linewidth=1.0, zorder=1)
    for index, (time, error, name) in enumerate(points):
        axes.plot(time, error, MARKERS[index % len(MARKERS)], color=SERIES[index % len(SERIES)], markersize=7)
        axes.annotate(name, (time, error), textcoords="offset points", xytext=(6, 4), fontsize=8, color=INK)
    axes.set(xlabel="µs per atom (energy, forces, stress)", ylabel=label, xscale="log")
    axes.margins(x=0.2, y=0.15)
    return figure


def stacked(rows: Sequence[Mapping[str, Any]], parts: Sequence[str], name: str, unit: str) -> Figure:
    """Bars made of parts: the phases of a step, or the layers of a model."""
    figure = new_figure(8.6, 1.5 + 0.42 * len(rows))
    axes = panel(figure)
    labels = [str(row[name]) for row in rows]
    left = [0.0] * len(rows)
    for index, part in enumerate(parts):
        values = [float(row.get(part) or 0.0) for row in rows]
        axes.barh(list(map(literal, labels)), values, left=left, color=SERIES[index % len(SERIES)], label=part)
        left = [a + b for a, b in zip(left, values, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.legend(frameon=False, labelcolor=INK, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def roofline(operations: Sequence[Mapping[str, Any]], gb_per_s: float, gflop_per_s: float) -> Figure:
    """Operations by floating-point work per byte and what they reach, under the machine's two ceilings.

    The area of a mark is its share of the time; the dashed line is the least of bandwidth · intensity and the peak.
    """
    figure = new_figure(7.6, 4.4)
    axes = panel(figure)
    shown = [operation for operation in operations if operation["GFLOP_per_s"] > 0 and operation["flop_per_byte"] > 0]
    for index, one in enumerate(shown):
        place = one["flop_per_byte"], one["GFLOP_per_s"]
        axes.scatter(*place, s=20 + 900 * one["share"], color=SERIES[index % len(SERIES)], alpha=0.55)
        if one["share"] > 0.01:
            axes.annotate(one["operation"], place, textcoords="offset points", xytext=(5, 4), fontsize=8, color=INK)
    low = min([0.02, *(0.5 * operation["flop_per_byte"] for operation in shown)])
    ridge, high = gflop_per_s / gb_per_s, max([100.0, *(2 * operation["flop_per_byte"] for operation in shown)])
    roof = [(x, min(gb_per_s * x, gflop_per_s)) for x in (low, ridge, max(high, 2 * ridge))]
    axes.plot(*zip(*roof, strict=True), color=RED, linestyle="--", linewidth=1.2)
    for text, place, offset in ((f"{gb_per_s:.3g} GB/s", roof[0], 14), (f"{gflop_per_s:.3g} GFLOP/s", roof[1], 4)):
        axes.annotate(text, place, textcoords="offset points", xytext=(6, offset), fontsize=8, color=RED)
    axes.set(xlabel="floating-point operations per byte", ylabel="GFLOP/s", xscale="log", yscale="log")
    return figure


def _legend(figure: Figure, axes: Axes) -> None:
    """Beside the panels, where it hides no line."""
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside right upper", frameon=False, labelcolor=INK, fontsize=8
    )


def _lines(
    axes: Axes,
    rows: Sequence[Measurement],
    x: Callable[[Measurement], float],
    y: Callable[[Measurement], float | None],
    whole: bool = False,
) -> None:
    """One line for every family (or model)."""
    style(axes)
    name = (lambda row: row.model) if whole else (lambda row: family(row.model))
    for index, one in enumerate(dict.fromkeys(name(row) for row in rows)):
        points = sorted((x(row), value) for row in rows if name(row) == one and (value := y(row)) is not None)
        if points:
            color, marker = SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)]
            axes.plot(
                *zip(*points, strict=True), marker=marker, color=color, markersize=4, linewidth=1.4, label=literal(one)
            )


def _ms(row: Measurement) -> float | None:
    return row.ms


def _us(row: Measurement) -> float | None:
    return row.us_per_atom


def _mib(row: Measurement) -> float | None:
    return row.working_MiB
