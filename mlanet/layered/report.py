"""Everything about a stack in one folder: curve, reference, sliding map, as numbers, tables and pictures."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from mlanet.files import write_columns
from mlanet.layered.curve import Point, Well, energies, interlayer_curve, well
from mlanet.layered.find import Layers
from mlanet.layered.plots import curve_picture, sliding_picture
from mlanet.layered.reference import Reference
from mlanet.layered.sliding import sliding_map
from mlanet.plots import Drawing
from mlanet.units import EV_PER_SQUARE_ANGSTROM_IN_JOULE_PER_SQUARE_METER

T = TypeVar("T")
Watch = Callable[[Iterable[Any], str, int], Iterator[Any]]
"""Passes things on while showing how many of how many are done."""


@dataclass(frozen=True)
class Exfoliation:
    """What was found: numbers by name (units in the names), the points, the files written, and pictures to be drawn."""

    numbers: dict[str, float | int | bool]
    points: tuple[Point, ...]
    files: tuple[Path, ...]
    pictures: tuple[Drawing, ...]


def exfoliate(
    layers: Layers,
    calculator: Calculator,
    distances: NDArray[np.float64],
    folder: Path,
    *,
    reference: Reference | None = None,
    relax: bool = False,
    slide: int = 0,
    watch: Watch = lambda things, label, total: iter(things),
) -> Exfoliation:
    """Pull layers apart, compare, slide; write `curve.csv`, `sliding.csv`; `curve.png`, `sliding.png` are to be drawn.

    Args:
        layers: the stack.
        calculator: of ASE.
        distances: Å.
        folder: for the results; made if missing.
        reference: beside the curve.
        relax: atoms at every distance, and the distance of every stacking.
        slide: points per lattice vector of the map of stackings, 0 for none.
        watch: for a progress bar.
    """
    points = tuple(watch(interlayer_curve(layers, calculator, distances, relax=relax), "distances", len(distances)))
    minimum = well(layers, points)
    numbers: dict[str, float | int | bool] = {
        "layers": layers.n_layers,
        "finite": layers.finite,
        "area_A2": layers.area,
        "distance_A": minimum.distance,
        "binding_meV_per_atom": 1e3 * minimum.per_atom,
        "binding_meV_per_A2": 1e3 * minimum.per_area,
        "binding_J_per_m2": EV_PER_SQUARE_ANGSTROM_IN_JOULE_PER_SQUARE_METER * minimum.per_area,
        "minimum_inside": minimum.inside,
    }
    columns: dict[str, Sequence[float] | NDArray[np.float64]] = {
        "distance_A": [point.distance for point in points],
        "energy_meV_per_atom": [1e3 * point.energy for point in points],
    }
    files = [write_columns(folder / "curve.csv", columns)]
    if reference is not None:
        modelled = _at_reference(reference, calculator, points)
        numbers |= _errors(reference, modelled, minimum)
        pairs = {"distance_A": reference.distance, "reference_meV_per_atom": 1e3 * reference.energy}
        files.append(write_columns(folder / "reference.csv", pairs | {"model_meV_per_atom": 1e3 * modelled}))
    place = folder / "curve.png"
    pictures = [Drawing(place, functools.partial(curve_picture, place, points, minimum, reference))]
    if slide:
        held = minimum.distance if minimum.inside else layers.distance
        stackings = tuple(
            watch(sliding_map(layers, calculator, slide, distance=held, relax=relax), "stackings", slide**2)
        )
        energy = np.array([stacking.energy for stacking in stackings])
        numbers["corrugation_meV_per_atom"] = 1e3 * float(energy.max() - energy.min())
        table = {"shift_1": [s.first for s in stackings], "shift_2": [s.second for s in stackings]}
        table |= {"distance_A": [s.distance for s in stackings], "energy_meV_per_atom": 1e3 * (energy - energy.min())}
        files.append(write_columns(folder / "sliding.csv", table))
        place = folder / "sliding.png"
        pictures.append(Drawing(place, functools.partial(sliding_picture, place, layers, stackings)))
    return Exfoliation(numbers, points, tuple(files), tuple(pictures))


def _at_reference(reference: Reference, calculator: Calculator, points: Sequence[Point]) -> NDArray[np.float64]:
    """The model where the reference is, relative to its farthest point too; outside the curve NaN."""
    if reference.frames:
        predicted = energies(reference.frames, calculator)
        return predicted - predicted[-1]
    ordered = sorted(points)
    spline = CubicSpline([point.distance for point in ordered], [point.energy for point in ordered], extrapolate=False)
    predicted = spline(reference.distance)
    return predicted - predicted[-1]


def _errors(reference: Reference, modelled: NDArray[np.float64], minimum: Well) -> dict[str, float]:
    """Root mean square differences, meV per atom: around the minimum and outwards, and of the tail alone."""
    outwards = reference.distance >= 0.9 * minimum.distance
    tail = reference.distance >= minimum.distance + 2.0
    lowest = int(reference.energy.argmin())
    result = {
        "reference_distance_A": float(reference.distance[lowest]),
        "reference_binding_meV_per_atom": -1e3 * float(reference.energy[lowest]),
    }
    for name, chosen in (("rmse_meV_per_atom", outwards), ("tail_rmse_meV_per_atom", tail)):
        difference = (modelled - reference.energy)[chosen & np.isfinite(modelled)]
        if len(difference):
            result[name] = 1e3 * float(np.sqrt(np.mean(difference**2)))
    return result
