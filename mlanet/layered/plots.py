"""Pictures of layered materials: energy against distance, and the map of stackings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlanet.layered.curve import Point, Well
from mlanet.layered.find import Layers
from mlanet.layered.reference import Reference
from mlanet.layered.sliding import Stacking
from mlanet.plots import BLUE, GREY, INK, RED, heading, legend, new_figure, panel, save


def curve_picture(path: Path, points: Sequence[Point], minimum: Well, reference: Reference | None) -> None:
    """Energy per atom against distance, with the tail enlarged, and the reference as points.

    The reference's zero is its farthest point, which is not infinitely far: there it is set on the curve.
    """
    figure = new_figure(8.4, 3.6)
    distance = np.array([point.distance for point in points])
    energy = 1e3 * np.array([point.energy for point in points])
    depth = max(1e3 * minimum.per_atom, 1.0)
    tail = distance > minimum.distance + 0.25 * (distance[-1] - minimum.distance)
    lowest = float(energy[tail].min(initial=0.0))
    known = np.zeros(0)
    if reference is not None:
        known = 1e3 * reference.energy + float(np.interp(reference.distance[-1], distance, energy))
        depth = max(depth, -float(known.min()))
        beyond = reference.distance > minimum.distance + 0.25 * (distance[-1] - minimum.distance)
        lowest = min(lowest, float(known[beyond].min(initial=0.0)))
    for place, (title, limits) in enumerate((("interlayer energy", (-1.15 * depth, 0.6 * depth)), ("its tail", None))):
        axes = panel(figure, 1, 2, place + 1)
        axes.axhline(0, color=GREY, linewidth=0.8)
        if reference is not None:
            axes.plot(reference.distance, known, "o", color=INK, markersize=3, label="reference")
        axes.plot(distance, energy, color=BLUE, linewidth=1.6, label="model")
        heading(axes, title)
        axes.set_xlabel("interlayer distance, Å")
        if limits:
            axes.set_ylim(*limits)
            axes.set_ylabel("meV/atom")
            if minimum.inside:
                axes.axvline(minimum.distance, color=RED, linewidth=0.8, linestyle=":")
            legend(axes)
        else:
            start = minimum.distance + 0.25 * (distance[-1] - minimum.distance)
            axes.set_xlim(start, distance[-1])
            room = max(-lowest, 0.1)
            axes.set_ylim(-1.2 * room, 0.3 * room)
    save(figure, path)


def sliding_picture(path: Path, layers: Layers, stackings: Sequence[Stacking]) -> None:
    """Energy over all stackings, in the plane, relative to the lowest."""
    points = round(len(stackings) ** 0.5)
    energy = 1e3 * np.array([stacking.energy for stacking in stackings]).reshape(points, points)
    energy -= energy.min()
    closed = np.pad(energy, (0, 1), mode="wrap")
    shift = np.arange(points + 1) / points
    along = layers.atoms.cell[0] / np.linalg.norm(layers.atoms.cell[0])
    frame = np.array([along, np.cross(layers.normal, along)])
    first, second = (frame @ layers.atoms.cell[axis] for axis in (0, 1))
    place = shift[:, None, None] * first + shift[None, :, None] * second
    figure = new_figure(5.2, 4.2)
    axes = panel(figure)
    shown = axes.contourf(place[..., 0], place[..., 1], closed, levels=24, cmap="viridis")
    axes.set_aspect("equal")
    heading(axes, "sliding energy, meV/atom")
    axes.set(xlabel="shift, Å", ylabel="shift, Å")
    figure.colorbar(shown, ax=axes)
    save(figure, path)
