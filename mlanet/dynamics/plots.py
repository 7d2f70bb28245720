"""Pictures of simulations: distributions against a reference, displacements, energy and temperature over time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlanet.dynamics.analysis import WHOLE, Analysis
from mlanet.dynamics.distributions import Distribution
from mlanet.plots import BLUE, GREY, INK, RED, heading, legend, new_figure, panel, save, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMOOTHED = 0.04
"""Å; pictures average bins to about this width, numbers do not."""


def distributions(path: Path, analysis: Analysis) -> None:
    """g(r) of all atoms and of each pair of elements, and h(r); the reference as a grey area behind.

    Raises:
        OutputError: a format that is not supported, or a place that cannot be written.
    """
    panels = [
        (f"g(r), {name} atoms" if name == WHOLE else f"g(r), {name}", g, analysis.g_reference.get(name))
        for name, g in analysis.g.items()
    ]
    if analysis.h is not None:
        panels.append(("h(r), 1/Å", analysis.h, analysis.h_reference))
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(3.6 * columns, 2.7 * lines)
    for index, (title, mine, reference) in enumerate(panels):
        axes = panel(figure, lines, columns, index + 1)
        if reference is not None:
            axes.fill_between(*_smooth(reference), color=GREY, alpha=0.45, linewidth=0, label="reference")
        axes.plot(*_smooth(mine), color=BLUE, linewidth=1.4, label="simulation")
        heading(axes, title)
        axes.set_xlabel("r, Å")
        axes.set_xlim(0, mine.r[-1])
        axes.set_ylim(bottom=0)
        if index == 0:
            legend(axes)
    save(figure, path)


def displacements(path: Path, analysis: Analysis) -> None:
    """Mean squared displacement with the fitted line and D in the title."""
    result = analysis.diffusion
    if result is None:
        raise ValueError("no diffusion was asked for")
    figure = new_figure(5.0, 3.6)
    axes = panel(figure)
    axes.plot(result.lag, result.msd, color=BLUE, linewidth=1.5, label="simulation")
    ends = np.array(result.window)
    inside = (result.lag >= ends[0]) & (result.lag <= ends[1])
    line = np.polyfit(result.lag[inside], result.msd[inside], 1)
    axes.plot(ends, np.polyval(line, ends), color=RED, linewidth=1.5, linestyle="--", label="fit")
    axes.set(xlabel="time lag, ps", ylabel="mean squared displacement, Å²")
    title = f"{result.element}: D = {1e9 * result.coefficient:.3g} ± {1e9 * result.error:.2g} · 10⁻⁹ m²/s"
    heading(axes, title)
    legend(axes)
    save(figure, path)


def motions(path: Path, analysis: Analysis) -> None:
    """Angles between bonds and the velocity density of states, whichever there are; the reference as a grey area."""
    panels = []
    if (mine := analysis.angles) is not None:
        theirs = analysis.angles_reference
        behind = None if theirs is None else (theirs.angle, theirs.density)
        panels.append(("angles between bonds, 1/°", "angle, °", (mine.angle, mine.density), behind))
    if (wave := analysis.spectrum) is not None:
        other = analysis.spectrum_reference
        behind = None if other is None else (other.frequency, other.density)
        panels.append(("velocity density of states, 1/THz", "frequency, THz", (wave.frequency, wave.density), behind))
    figure = new_figure(3.9 * len(panels), 2.9)
    for index, (title, label, (x, y), behind) in enumerate(panels):
        axes = panel(figure, 1, len(panels), index + 1)
        if behind is not None:
            axes.fill_between(*behind, color=GREY, alpha=0.45, linewidth=0)
        axes.plot(x, y, color=BLUE, linewidth=1.2)
        heading(axes, title)
        axes.set_xlabel(label)
        axes.set_ylim(bottom=0)
    save(figure, path)


def course(path: Path, log: dict[str, NDArray[np.float64]], n_atoms: int, target: float | None) -> None:
    """Temperature, and the energies per atom relative to their start, over time."""
    figure = new_figure(7.6, 3.2)
    time = log["time_ps"]
    axes = figure.add_subplot(1, 2, 1)
    _line(axes, time, log["temperature_K"], "temperature, K", BLUE, "")
    if target is not None:
        axes.axhline(target, color=GREY, linestyle="--", linewidth=1)
    axes = figure.add_subplot(1, 2, 2)
    for name, color in (("potential", BLUE), ("total", RED), ("conserved", INK)):
        energy = 1e3 * (log[f"{name}_eV"] - log[f"{name}_eV"][0]) / n_atoms
        if name != "conserved" or not np.allclose(log["conserved_eV"], log["total_eV"], rtol=0, atol=1e-9):
            _line(axes, time, energy, "change of energy, meV/atom", color, name)
    axes.legend(loc="upper right", ncols=3, framealpha=0.85, edgecolor="white", labelcolor=INK, fontsize=8)
    save(figure, path)


def _line(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], title: str, color: str, label: str) -> None:
    style(axes)
    axes.plot(x, y, color=color, linewidth=0.9, label=label)
    heading(axes, title)
    axes.set_xlabel("time, ps")


def _smooth(distribution: Distribution) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Neighbouring bins averaged."""
    size = max(1, round(SMOOTHED / distribution.width))
    whole = len(distribution.r) // size * size
    return distribution.r[:whole].reshape(-1, size).mean(1), distribution.mean[:whole].reshape(-1, size).mean(1)
