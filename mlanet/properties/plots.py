"""Pictures of equations of state, phonons, barriers and diffusion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlanet.plots import BLUE, GREY, INK, RED, SERIES, legend, new_figure, panel, save, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mlanet.properties.band import Barrier
    from mlanet.properties.eos import EquationOfState
    from mlanet.properties.phonon import Phonons
    from mlanet.properties.transport import Arrhenius, Mobility, Sample

GREEK = {"GAMMA": "Γ", "SIGMA": "Σ", "DELTA": "Δ", "LAMBDA": "Λ"}


def eos_picture(path: Path, curve: EquationOfState, title: str) -> None:
    """Energy per atom against volume per atom: points and fit."""
    figure = new_figure(4.8, 3.6)
    axes = panel(figure)
    volumes = np.linspace(curve.volumes.min(), curve.volumes.max(), 200)
    least = curve.energy / curve.n_atoms
    axes.plot(volumes / curve.n_atoms, 1e3 * (curve.at(volumes) / curve.n_atoms - least), color=BLUE, label="fit")
    axes.plot(
        curve.volumes / curve.n_atoms, 1e3 * (curve.energies / curve.n_atoms - least), "o", color=INK, markersize=4
    )
    axes.axvline(curve.volume / curve.n_atoms, color=RED, linewidth=0.8, linestyle=":")
    axes.set_title(f"{title}: B₀ = {curve.bulk_modulus:.4g} GPa", loc="left", fontsize=10, color=INK)
    axes.set(xlabel="volume, Å³/atom", ylabel="energy above the minimum, meV/atom")
    save(figure, path)


def phonon_picture(path: Path, phonons: Phonons, title: str) -> None:
    """Bands along the usual path, and the density of states beside them; imaginary frequencies below zero, in red."""
    density = phonons.phonopy.total_dos
    figure = new_figure(7.2, 3.8)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[4, 1])
    draw_bands(left, phonons, title)
    right.plot(density.dos, density.frequency_points, color=BLUE, linewidth=1.0)
    right.set_xlim(left=0)
    right.set_xticks([])
    right.set_xlabel("density of states")
    style(right)
    right.axhline(0, color=GREY, linewidth=0.8)
    left.set_ylabel("frequency, THz")
    save(figure, path)


def draw_bands(axes: Axes, phonons: Phonons, title: str) -> None:
    """Bands along the usual path."""
    from mlanet.properties.phonon import IMAGINARY

    bands = phonons.phonopy.band_structure
    for distances, frequencies in zip(bands.distances, bands.frequencies, strict=True):
        axes.plot(distances, frequencies, color=BLUE, linewidth=1.0)
        axes.plot(distances, np.where(frequencies < IMAGINARY, frequencies, np.nan), color=RED, linewidth=1.4)
    places, names = _ticks(phonons)
    axes.set_xticks(places, names)
    axes.set_xlim(0, bands.distances[-1][-1])
    style(axes)
    axes.axhline(0, color=GREY, linewidth=0.8)
    for place in places:
        axes.axvline(place, color=GREY, linewidth=0.5)
    axes.set_title(title, loc="left", fontsize=10, color=INK)


def barrier_picture(path: Path, barrier: Barrier, title: str) -> None:
    """Energy along the path: images, the curve between them, and how high the highest is from either side."""
    figure = new_figure(4.8, 3.6)
    axes = panel(figure)
    axes.plot(barrier.curve_path, barrier.curve, color=BLUE)
    axes.plot(barrier.path, barrier.energies, "o", color=INK, markersize=4)
    axes.plot(barrier.path[barrier.saddle], barrier.forward, "o", color=RED, markersize=5)
    axes.axhline(0, color=GREY, linewidth=0.8)
    word = "" if barrier.converged else " (not converged)"
    text = f"{title}: {barrier.forward:.3f} eV forward, {barrier.back:.3f} eV back{word}"
    axes.set_title(text, loc="left", fontsize=10, color=INK)
    axes.set(xlabel="length of the path, Å", ylabel="energy above the start, eV")
    save(figure, path)


def diffusion_picture(
    path: Path, samples: Sequence[Sample], points: Sequence[Mobility], fits: Sequence[Arrhenius]
) -> None:
    """Displacements over time, and D against 1000/T with the fits; what is in doubt is hollow."""
    figure = new_figure(8.6, 3.6)
    left, right = figure.subplots(1, 2)
    colors = {name: SERIES[k % len(SERIES)] for k, name in enumerate(dict.fromkeys(point.element for point in points))}
    for sample in samples:
        moved = sample.found.msd > 0
        left.plot(sample.found.lag[moved], sample.found.msd[moved], color=colors[sample.found.element], linewidth=1.0)
    left.set(xscale="log", yscale="log", xlabel="time, ps", ylabel="mean squared displacement, Å²")
    for point in points:
        if point.coefficient > 0:
            color, low = colors[point.element], min(point.error, 0.99 * point.coefficient)
            face = "white" if point.doubt else color
            place = 1000 / point.temperature
            right.errorbar(
                place, point.coefficient, yerr=[[low], [point.error]], fmt="o", color=color, mfc=face, markersize=5
            )
    for fit in fits:
        own = np.array([point.temperature for point in points if point.element == fit.element])
        inverse = np.linspace(1000 / own.max(), 1000 / own.min(), 50)
        text = f"{fit.element}: {fit.energy:.3f} ± {fit.energy_error:.2g} eV"
        right.plot(inverse, [fit.at(1000 / x)[0] for x in inverse], color=colors[fit.element], label=text)
    for element in colors.keys() - {fit.element for fit in fits}:
        right.plot([], [], "o", color=colors[element], mfc="white", label=element)
    right.set(yscale="log", xlabel="1000 K / T", ylabel="D, m²/s")
    for axes in (left, right):
        style(axes)
    if colors:
        legend(right)
    save(figure, path)


def _ticks(phonons: Phonons) -> tuple[list[float], list[str]]:
    """Where the path turns, and the names of the points there; both names where it jumps."""
    bands = phonons.phonopy.band_structure
    names = iter([_name(label) for label in bands.labels])
    places, shown = [0.0], [next(names)]
    for distances, joined in zip(bands.distances, bands.path_connections, strict=True):
        places.append(float(distances[-1]))
        shown.append(next(names, ""))
        if not joined and (begin := next(names, "")):
            shown[-1] += f"|{begin}"
    return places, shown


def _name(label: str) -> str:
    plain = label.replace("$", "").replace("\\mathrm{", "").replace("}", "").replace("\\", "")
    return GREEK.get(plain.upper(), plain)
