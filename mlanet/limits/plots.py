"""Predicted against real errors, drawn."""

from __future__ import annotations

import os

import numpy as np

from mlanet.limits.calibration import Calibration, LimitsReport
from mlanet.plots import new_figure, save, style

MILLI = 1000.0
FACTOR = 1.5
"""Band around equality."""


def calibration_picture(path: str | os.PathLike[str], report: LimitsReport) -> None:
    """Real errors in bins of predicted ones, of each element's forces and of energies; a diagonal is perfect."""
    figure = new_figure(9.0, 4.2)
    left, right = figure.subplots(1, 2)
    for axes, curves, label in (
        (left, report.elements, "force component, meV/Å"),
        (right, {"energy per atom": report.quantities.get("energy")}, "energy, meV/atom"),
    ):
        known = {name: curve for name, curve in curves.items() if curve is not None}
        for name, curve in known.items():
            points = np.array(_points(curve)) * MILLI
            axes.plot(points[:, 0], points[:, 1], marker="o", label=name)
        _diagonal(axes, known.values())
        axes.set_xlabel(f"predicted standard error of a {label}" if "force" in label else f"predicted, {label}")
        axes.set_ylabel("real root mean square error")
        style(axes)
        if known:
            axes.legend(frameon=False)
    save(figure, path)


def _points(calibration: Calibration) -> list[tuple[float, float]]:
    """Its bins, or the whole where there are none."""
    return calibration.bins or [(calibration.predicted, calibration.real)]


def _diagonal(axes, curves) -> None:  # type: ignore[no-untyped-def]
    """Equality and a band around it, on logarithmic axes."""
    values = np.array([value for curve in curves for pair in _points(curve) for value in pair]) * MILLI
    values = values[values > 0]
    if not len(values):
        return
    ends = np.array([values.min() / 2, values.max() * 2])
    axes.plot(ends, ends, color="black", linewidth=0.8)
    axes.fill_between(ends, ends / FACTOR, ends * FACTOR, color="black", alpha=0.08, linewidth=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
