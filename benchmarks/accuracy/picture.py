"""Errors against processor time, one panel for each set."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from accuracy.groups import Group

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by everybody (Okabe and Ito)."""
COLUMNS = 3


def draw(groups: Sequence[Group], path: Path) -> None:
    """Means over the seeds at every look at the test part; the last point, where the rate has come down, is marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sets = list({group.benchmark.name: group.benchmark for group in groups}.values())
    columns = min(len(sets), COLUMNS)
    lines = -(-len(sets) // columns)
    figure = Figure(figsize=(3.6 * columns, 3 * lines + 1), layout="constrained")
    FigureCanvasAgg(figure)
    titles = list(dict.fromkeys(group.title for group in groups))
    handles = {}
    panels = figure.subplots(lines, columns, squeeze=False)
    for axes in panels.flat[len(sets) :]:
        axes.remove()
    for axes, one in zip(panels.flat[: len(sets)], sets, strict=True):
        for group in [group for group in groups if group.benchmark is one]:
            curves = [row["curve"] for row in group.rows.values()]
            points = list(zip(*curves, strict=False))[1:]
            times = [statistics.mean(look["processor_s"] for look in looks) for looks in points]
            values = [statistics.mean(look[one.metric] for look in looks) for looks in points]
            at = titles.index(group.title)
            again = at // len(COLORS)  # a color for the second time has other lines and points
            line = ("-", "-.", ":")[again % 3] if group.budget == "steps" else "--"
            style = {"color": COLORS[at % len(COLORS)], "linestyle": line}
            (handles[group.title],) = axes.plot(times, values, **style, linewidth=1.2)
            axes.plot(times[-1:], values[-1:], "os^"[again % 3], color=style["color"], markersize=5)
        axes.set_yscale("log")
        for plain in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            plain("{x:.0f}")
        axes.set_xlabel("processor time, s")
        axes.set_title(one.title)
        axes.grid(True, which="both", alpha=0.3)
    figure.supylabel("force error, meV/Å")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(COLUMNS, len(titles)))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
