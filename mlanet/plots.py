"""Pictures for people: parity of predictions and labels, learning curves, structures with their forces.

Every function writes one file (.png, .svg or .pdf), whole or not at all, and touches no global state of matplotlib.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlanet.errors import OutputError
from mlanet.files import write_result
from mlanet.quantities import QUANTITIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Point = TypeVar("Point", bound=tuple[Any, ...])

BLUE, RED, GREY, INK = "#2166ac", "#c0392b", "#8a8f98", "#20242b"
SERIES = (BLUE, "#e08214", "#1b7837", "#762a83", RED, "#35978f", GREY)
FORMATS = ("png", "svg", "pdf")
DOTS_PER_INCH = 160
MANY_POINTS = 2000
"""Above this a parity plot shows densities, since dots would hide each other."""


class Drawing(NamedTuple):
    """A picture still to be drawn: its file, and how. Whoever has the answer says it first, then draws.

    `draw` raises OutputError where matplotlib cannot be loaded or the place cannot be written.
    """

    path: Path
    draw: Callable[[], None]


_ERROR_PANELS: dict[str, str] = {
    "loss": "loss",
    **{one.name: f"{one.singular} error, {one.unit}{'/atom' if one.of_each_atom else ''}" for one in QUANTITIES},
}


def parity(path: str | os.PathLike[str], reference: ArrayLike, predicted: ArrayLike, label: str) -> None:
    """Predictions against labels with the line of perfect agreement; MAE and RMSE stand in the legend.

    Args:
        path: written whole or not at all.
        reference, predicted: the same number of finite values, in the unit that `label` names.
        label: quantity and unit, as "forces, eV/Å".
    Raises:
        OutputError: a format that is not supported, or a place that cannot be written.
    """
    x, y = (np.asarray(values, dtype=np.float64).ravel() for values in (reference, predicted))
    if x.size != y.size or not x.size:
        raise ValueError(f"{label}: {x.size} labels and {y.size} predictions; expected equally many, at least one")
    figure = new_figure(5.2, 4.8)
    axes = panel(figure)
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    margin = 0.05 * (high - low) or max(1e-3 * abs(high), 1e-6)
    low, high = low - margin, high + margin
    axes.plot([low, high], [low, high], color=INK, linewidth=0.9, linestyle=(0, (5, 3)), zorder=3)
    if x.size > MANY_POINTS:
        shown = axes.hexbin(x, y, gridsize=70, bins="log", cmap="viridis", mincnt=1, extent=(low, high, low, high))
        bar = figure.colorbar(shown, ax=axes, pad=0.02, fraction=0.046)
        bar.set_label("values per cell", color=INK)
        bar.outline.set_visible(False)
    else:
        axes.scatter(x, y, s=16, color=BLUE, alpha=0.55, edgecolors="none")
    quantity, _, unit = label.partition(", ")
    error = y - x
    mae, rmse = np.abs(error).mean(), np.sqrt((error * error).mean())
    text = f"MAE   {short(mae)} {unit}\nRMSE {short(rmse)} {unit}\n{x.size:,} values".replace(",", "\u202f")
    _note(axes, text)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set(xlabel=f"reference {label}", ylabel=f"predicted {label}")
    axes.set_title(quantity, loc="left", fontweight="bold", color=INK)
    _same_ticks(axes)
    save(figure, path)


def learning_curve(path: str | os.PathLike[str], rows: Sequence[Mapping[str, float | None]]) -> None:
    """Loss and errors in the course of a training, on logarithmic axes, one panel per quantity.

    Columns with "loss" or the name of a quantity in their names are drawn (errors in units of `mlanet.quantities`, the
    energy per atom), all others left out; so are values that are missing, not finite or not positive.

    Args:
        path: written whole or not at all.
        rows: of a training log, in order.
    Raises:
        OutputError: a format that is not supported, or a place that cannot be written.
        ValueError: nothing to draw.
    """
    names = list(dict.fromkeys(name for row in rows for name in row if name != "step"))
    panels = {key: [name for name in names if _panel_of(name) == key] for key in _ERROR_PANELS}
    curves = {key: {name: _curve(rows, name) for name in chosen} for key, chosen in panels.items()}
    curves = {key: {name: one for name, one in group.items() if one[0].size} for key, group in curves.items()}
    curves = {key: group for key, group in curves.items() if group}
    if not curves:
        raise ValueError(f"no column of losses or errors with a positive value; columns: {', '.join(names) or 'none'}")
    columns = min(2, len(curves))
    figure = new_figure(4.6 * columns, 3.4 * (lines := -(-len(curves) // columns)))
    for index, (key, group) in enumerate(curves.items()):
        axes = panel(figure, lines, columns, index + 1)
        for number, (name, (steps, values)) in enumerate(group.items()):
            color = SERIES[number % len(SERIES)]
            marker = "o" if len(steps) < 40 else ""
            axes.plot(steps, values, color=color, linewidth=1.5, marker=marker, markersize=3, label=_series(name, key))
        axes.set_yscale("log")
        axes.set_title(_ERROR_PANELS[key], loc="left", fontweight="bold", color=INK)
        axes.set_xlabel("step")
        axes.margins(x=0.02)
        legend(axes)
    save(figure, path)


def _panel_of(name: str) -> str | None:
    """Which panel a column belongs to; the loss first, since its parts may be called energy_loss."""
    return next((key for key in _ERROR_PANELS if key in name or key.removesuffix("s") in name), None)


def _series(name: str, panel: str) -> str:
    """`valid_energy_mae` in the panel of energies -> `valid mae`."""
    words = name.replace(panel, "").replace(".", "_").replace("/", "_").split("_")
    return " ".join(word for word in words if word) or panel


def _curve(rows: Sequence[Mapping[str, float | None]], name: str) -> tuple[NDArray[np.float64], ...]:
    """Steps and values of one column where both are there and the value fits a logarithmic axis."""
    pairs = [(row.get("step"), row.get(name)) for row in rows]
    kept = [(float(a), float(b)) for a, b in pairs if isinstance(a, int | float) and isinstance(b, int | float)]
    array = np.array([pair for pair in kept if np.isfinite(pair).all() and pair[1] > 0]).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of its own, in inches.

    Raises:
        OutputError: matplotlib cannot be loaded.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except Exception as error:  # built for another numpy it raises AttributeError, with a broken matplotlibrc others
        raise OutputError(f"matplotlib, which draws pictures, cannot be loaded: {error}") from None

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def style(axes: Axes) -> None:
    """Quiet axes: what is drawn stands out."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(which="both", color=GREY, labelcolor=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.grid(True, color="#e6e8eb", linewidth=0.7)
    axes.set_axisbelow(True)


def _note(axes: Axes, text: str) -> None:
    box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": "#d5d8dc", "alpha": 0.95}
    axes.text(0.04, 0.96, text, transform=axes.transAxes, va="top", fontsize=9, color=INK, bbox=box, zorder=6)


def _same_ticks(axes: Axes) -> None:
    """Both directions of a parity plot carry the same ticks."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(6))


def short(number: float) -> str:
    """Three significant digits, without an exponent where people would not write one."""
    plain = number == 0 or 1e-3 <= abs(number) < 1e5
    digits = max(0, 2 - int(np.floor(np.log10(abs(number))))) if plain and number else 0
    return f"{number:.{digits}f}" if plain else f"{number:.2e}"


def panel(figure: Figure, *place: int) -> Axes:
    """One of a figure's panels, all of it where no place is given, styled."""
    axes = figure.add_subplot(*place)
    style(axes)
    return axes


def pareto_front(points: Iterable[Point]) -> list[Point]:
    """The points that no other beats in both their first numbers (cost, error), the first ascending.

    >>> pareto_front([(1, 9, "a"), (2, 9, "b"), (3, 4, "c")])
    [(1, 9, 'a'), (3, 4, 'c')]
    """
    front: list[Point] = []
    for point in sorted(points):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    return front


def heading(axes: Axes, text: str) -> None:
    """Bold, at the left."""
    axes.set_title(text, loc="left", fontweight="bold", color=INK, fontsize=10)


def legend(axes: Axes) -> None:
    """Without a frame."""
    axes.legend(frameon=False, labelcolor=INK, fontsize=8)


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Draw into memory, then write the file in one step."""
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise OutputError(f"{path}: pictures are written as {', '.join('.' + ending for ending in FORMATS)}")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DOTS_PER_INCH)
    write_result(path, buffer.getvalue())
