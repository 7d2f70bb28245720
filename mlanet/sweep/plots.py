"""Pictures of a sweep: learning curves, error against cost, error against l_max."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlanet.plain import literal
from mlanet.plots import GREY, INK, SERIES, legend, new_figure, panel, pareto_front
from mlanet.sweep.table import ERROR_COLUMNS, Group, decay, models_of, of_model

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

MARKERS = ("o", "s", "D", "^", "v", "P", "X")
COSTS = {
    "peak_memory_MiB": "peak memory, MiB",
    "seconds_per_epoch": "time per epoch, s",
    "microseconds_per_atom": "time per atom, µs",
}


def learning_curves(groups: Sequence[Group], column: str) -> Figure | None:
    """Test error against training structures, log–log, one line per model.

    Points are means over seeds, bars their standard deviation, small dots the seeds; a legend gives the exponent b of
    ε ∝ n^−b. None without two sizes.
    """
    if len({group.size for group in groups}) < 2:
        return None
    figure = new_figure(6.6, 4.4)
    axes = panel(figure)
    for number, model in enumerate(models_of(groups)):
        curve = sorted(_with_error(of_model(groups, model), column), key=lambda group: group.size)
        if not curve:
            continue
        color, marker = _look(number)
        sizes = np.array([group.size for group in curve])
        means = np.array([group.mean(column) for group in curve], dtype=float)
        fitted = decay(curve, column)
        label = curve[0].model + (f": n^{_minus(-fitted.exponent)}" if fitted else "")
        spread = np.array([group.spread(column) or 0.0 for group in curve])
        bars = np.minimum(spread, 0.9 * means)  # a bar down to zero has no place on a logarithmic axis
        look: dict[str, Any] = {"color": color, "marker": marker, "markersize": 5, "linewidth": 1.4}
        axes.errorbar(sizes, means, yerr=(bars, spread), capsize=3, label=literal(label), **look)
        for group in curve:
            _seeds(axes, group.size, group, column, color)
    _logarithmic(axes, (True, True))
    _ticks_at(axes.xaxis, sorted({group.size for group in groups}))
    axes.set(xlabel="training structures", ylabel=_label(column))
    _legend_below(figure)
    return figure


def costs(groups: Sequence[Group], column: str) -> Figure | None:
    """Error against memory, time per epoch and time per atom, at the largest size, with the Pareto front.

    A model is on the front if none is both cheaper and better. None where nothing was measured.
    """
    size = max(group.size for group in groups)
    models = models_of(groups)
    here = [group for group in _with_error(groups, column) if group.size == size]
    shown = {key: label for key, label in COSTS.items() if any(group.mean(key) for group in here)}
    if not here or not shown:
        return None
    figure = new_figure(3.6 * len(shown), 3.9)
    for place, (key, label) in enumerate(shown.items()):
        axes = panel(figure, 1, len(shown), place + 1)
        points = []
        for group in here:
            x, y = group.mean(key), group.mean(column)
            if not x or not y:  # no place on logarithmic axes
                continue
            color, marker = _look(models.index((group.preset, group.l_max)))
            axes.plot(x, y, marker, color=color, markersize=7, label=literal(group.model), zorder=3)
            for row in group.rows if len(group.rows) > 1 else ():
                axes.plot(getattr(row, key), getattr(row, column), ".", color=color, alpha=0.5, markersize=4)
            points.append((x, y))
        front = np.array(pareto_front(points))
        dashed: dict[str, Any] = {"color": GREY, "linewidth": 1.0, "linestyle": (0, (4, 2))}
        axes.step(*front.T, where="post", zorder=1, label="Pareto front", **dashed)
        _logarithmic(axes, (True, True))
        axes.margins(0.18)
        axes.set_xlabel(label)
        if place == 0:
            axes.set_ylabel(_label(column))
            axes.set_title(f"{size} training structures", loc="left", fontweight="bold", color=INK)
    _legend_below(figure)
    return figure


def degrees(groups: Sequence[Group], column: str) -> Figure | None:
    """Error against l_max, one line per size and one panel per preset; None where no preset has two degrees."""
    presets = [
        preset
        for preset in dict.fromkeys(group.preset for group in groups)
        if len({group.l_max for group in groups if group.preset == preset}) > 1
    ]
    if not presets:
        return None
    figure = new_figure(4.6 * len(presets), 3.8)
    sizes = sorted({group.size for group in groups})
    for place, preset in enumerate(presets):
        axes = panel(figure, 1, len(presets), place + 1)
        mine = _with_error([group for group in groups if group.preset == preset], column)
        for number, size in enumerate(sizes):
            line = sorted((group for group in mine if group.size == size), key=lambda group: group.l_max)
            if not line:
                continue
            color, marker = _look(number)
            means = [group.mean(column) for group in line]
            spread = [group.spread(column) or 0.0 for group in line]
            axes.errorbar(
                [group.l_max for group in line],
                means,  # type: ignore[arg-type]  # only groups with an error are here
                yerr=spread,
                color=color,
                marker=marker,
                capsize=3,
                linewidth=1.4,
                label=f"{size} structures",
            )
        _logarithmic(axes, (False, True))
        axes.set_xticks(sorted({group.l_max for group in mine}))
        axes.margins(x=0.15)
        axes.set_xlabel("l_max")
        if place == 0:
            axes.set_ylabel(_label(column))
        axes.set_title(literal(mine[0].model.partition(",")[0]), loc="left", fontweight="bold", color=INK)
        legend(axes)
    return figure


def _with_error(groups: Sequence[Group], column: str) -> list[Group]:
    return [group for group in groups if (group.mean(column) or 0) > 0]


def _seeds(axes: Axes, x: float, group: Group, column: str, color: str) -> None:
    values = group.values(column)
    if len(values) > 1:
        axes.plot([x] * len(values), values, ".", color=color, alpha=0.45, markersize=4)


def _legend_below(figure: Figure) -> None:
    """One legend for all panels, where it hides nothing."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    look: dict[str, Any] = {"frameon": False, "fontsize": 8, "labelcolor": INK}
    figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)), **look)


def _look(number: int) -> tuple[str, str]:
    """Colour and marker, so that lines differ without colours too."""
    return SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]


def _label(column: str) -> str:
    name, unit = ERROR_COLUMNS[column]
    return f"test {name}, {unit}"


def _minus(number: float) -> str:
    return f"{number:.2f}".replace("-", "−")


def _logarithmic(axes: Axes, which: tuple[bool, bool]) -> None:
    """Logarithmic axes with numbers as people write them, also where an axis spans less than a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    for wanted, axis, change in ((which[0], axes.xaxis, axes.set_xscale), (which[1], axes.yaxis, axes.set_yscale)):
        if not wanted:
            continue
        change("log")
        low, high = axis.get_view_interval()
        dense = (1, 1.5, 2, 3, 4, 5, 6, 8) if high / low < 6 else (1, 2, 5)
        axis.set_major_locator(LogLocator(subs=dense if high / low < 50 else (1,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())


def _ticks_at(axis: Axis, values: Sequence[int]) -> None:
    """Ticks at the sizes that were run."""
    from matplotlib.ticker import FixedLocator, NullLocator

    axis.set_major_locator(FixedLocator(list(values)))
    axis.set_minor_locator(NullLocator())
