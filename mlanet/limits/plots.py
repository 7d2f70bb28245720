"""Predicted against real errors, drawn."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlanet.limits.calibration import FORBIDDEN, Calibration, LimitsReport
from mlanet.plots import new_figure, save, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MILLI = 1000.0
FACTOR = 1.5
"""Band around equality."""


MANY = 8
"""Elements; with more, each is a point with its symbol, beside one curve of all."""


def calibration_picture(path: str | os.PathLike[str], report: LimitsReport) -> None:
    """Real errors in bins of predicted ones, of each element's forces and of energies; a diagonal is perfect.

    Errors that symmetry forbids are left out, since logarithmic axes would show nothing else.
    """
    figure = new_figure(9.0, 4.2)
    left, right = figure.subplots(1, 2)
    forces, energy = report.quantities.get("forces"), report.quantities.get("energy")
    several = len(report.elements) > MANY
    for axes, curves, label in (
        (left, {"all elements": forces} if several else report.elements, "force component, meV/Å"),
        (right, {"energy per atom": energy}, "energy, meV/atom"),
    ):
        least = FORBIDDEN * max((curve.real for curve in curves.values() if curve is not None), default=0.0)
        given = {name: np.array(_points(curve)) for name, curve in curves.items() if curve is not None}
        known = {name: MILLI * points[points[:, 1] > least] for name, points in given.items()}
        for name, points in known.items():
            axes.plot(*points.T, marker="o", label=name)
        if several and axes is left:
            known |= _elements(axes, report, least)
        _diagonal(axes, list(known.values()))
        x = f"predicted standard error of a {label}" if "force" in label else f"predicted, {label}"
        axes.set(xlabel=x, ylabel="real root mean square error")
        style(axes)
        if known:
            axes.legend(frameon=False)
    save(figure, path)


def _elements(axes: Axes, report: LimitsReport, least: float) -> dict[str, NDArray[np.float64]]:
    """Each element as its symbol, where its errors are."""
    places = {
        name: np.array([[curve.predicted, curve.real]]) for name, curve in report.elements.items() if curve.real > least
    }
    for name, ((predicted, real),) in places.items():
        axes.annotate(name, (predicted * MILLI, real * MILLI), ha="center", va="center", fontsize=7, color="#666666")
    return {name: points * MILLI for name, points in places.items()}


def _points(calibration: Calibration) -> list[tuple[float, float]]:
    """Its bins, or the whole where there are none."""
    return calibration.bins or [(calibration.predicted, calibration.real)]


def _diagonal(axes: Axes, curves: list[NDArray[np.float64]]) -> None:
    """Equality and a band around it, on logarithmic axes."""
    values = np.concatenate([curve.ravel() for curve in curves]) if curves else np.zeros(0)
    values = values[values > 0]
    if not len(values):
        return
    ends = np.array([values.min() / 2, values.max() * 2])
    axes.plot(ends, ends, color="black", linewidth=0.8)
    axes.fill_between(ends, ends / FACTOR, ends * FACTOR, color="black", alpha=0.08, linewidth=0)
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
