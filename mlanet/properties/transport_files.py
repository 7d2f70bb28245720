"""Diffusion from runs of `mlanet md` and other trajectories, or from dynamics that are run for it."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlanet.data.formats import Refused, pass_over
from mlanet.data.read import read_frames
from mlanet.dynamics.analysis import frame_times
from mlanet.dynamics.diffusion import FRAMES, diffusion
from mlanet.dynamics.run import CHECKPOINT, TRAJECTORY, Moment, simulate
from mlanet.dynamics.settings import DynamicsSettings
from mlanet.errors import DataError, MLANetError, named
from mlanet.files import table_text, write_whole, writing
from mlanet.plots import Drawing
from mlanet.properties.plots import diffusion_picture
from mlanet.properties.transport import Arrhenius, Mobility, Sample, arrhenius, mobilities

WARM_UP = 0.1
"""Of a trajectory, left out where nothing else is said."""
TABLE, RESULT, PICTURE = "diffusion.csv", "result.json", "diffusion.png"


class Wanted(NamedTuple):
    """What is asked of trajectories.

    - elements: symbols, all of the trajectory if empty · charges: e, by element · at: K, extrapolated to
    - discard: ps at the beginning, a tenth if None · interval: fs between frames that do not say their time
    - temperature: K, of trajectories without velocities
    """

    elements: tuple[str, ...] = ()
    charges: Mapping[str, float] = {}
    at: tuple[float, ...] = ()
    discard: float | None = None
    interval: float = 0.0
    temperature: float | None = None


class Transport(NamedTuple):
    """What was found: D by element and temperature, a fit for each element that has one, words, files."""

    samples: list[Sample]
    points: list[Mobility]
    fits: list[Arrhenius]
    remarks: list[str]
    document: dict[str, Any]


def run_dynamics(
    atoms: Atoms, settings: DynamicsSettings, folder: Path, potential: str, conservative: bool
) -> Iterator[Moment]:
    """The run of a folder, of a copy of atoms with their calculator: begun, gone on with, or left alone if finished."""
    moved = atoms.copy()
    moved.calc = atoms.calc
    resume = (folder / CHECKPOINT).exists()
    yield from simulate(moved, settings, folder, potential=potential, resume=resume, conservative=conservative)


def require_enough(atoms: Atoms, settings: DynamicsSettings, wanted: Wanted, where: str) -> None:
    """Refuse dynamics whose frames will not do, before they are run.

    Raises:
        DataError: fewer frames than a diffusion coefficient needs, or an element that is not there.
    """
    _require_elements(atoms, wanted, where)
    steps = np.arange(0, settings.steps + settings.every, settings.every).clip(max=settings.steps)
    times = settings.timestep / 1000 * np.unique(steps)
    kept = int((times >= _discarded(times, wanted)).sum())
    if kept < FRAMES:
        raise DataError(
            f"{where}: {times[-1]:g} ps with a frame every {settings.every} steps are {len(times)} frames, of which "
            f"{kept} are left after the first {_discarded(times, wanted):.3g} ps; diffusion needs at least {FRAMES}: "
            "take a longer --time or a smaller --every"
        )


def _require_elements(atoms: Atoms, wanted: Wanted, where: str) -> None:
    if missing := [element for element in wanted.elements if element not in atoms.symbols]:
        raise DataError(f"{where}: no {missing[0]} in {atoms.get_chemical_formula()}")


def _discarded(times: NDArray[np.float64], wanted: Wanted) -> float:
    """ps at the beginning that are left out."""
    return WARM_UP * float(times[-1] - times[0]) if wanted.discard is None else wanted.discard


def transport(runs: Sequence[Path], wanted: Wanted, refused: Refused | None = None) -> Transport:
    """D of each element and temperature, and what follows.

    Args:
        runs: folders of `mlanet md`, or trajectories.
        wanted: what is asked of them.
        refused: is handed the errors of runs, which are passed over; None: the error is raised.
    Raises:
        DataError: a run that cannot be read, is too short, or does not say its temperature.
    """
    samples: list[Sample] = []
    for run in runs:
        try:
            samples += list(_samples(run, wanted))
        except MLANetError as error:
            pass_over(named(error, str(run)), refused)
    points = mobilities(samples) if samples else []
    fits, remarks = (
        [],
        [f"{point.element} at {point.temperature:.0f} K: {point.doubt}" for point in points if point.doubt],
    )
    for element in dict.fromkeys(point.element for point in points):
        own = [point for point in points if point.element == element]
        try:
            fits.append(arrhenius(own))
        except DataError as error:
            if len(own) > 1:
                remarks.append(str(error))
    return Transport(samples, points, fits, remarks, _document(points, fits, remarks, wanted))


def write_transport(folder: Path, analysis: Transport) -> list[Path]:
    """`diffusion.csv` and `result.json`.

    Raises:
        OutputError: the folder cannot be written.
    """
    rows = analysis.document["diffusion"]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / TABLE, table_text(rows).encode())
        write_whole(folder / RESULT, (json.dumps(analysis.document, indent=2) + "\n").encode())
    return [folder / TABLE, folder / RESULT]


def transport_drawing(folder: Path, analysis: Transport) -> Drawing:
    """`diffusion.png`, still to be drawn."""
    place = folder / PICTURE
    return Drawing(place, functools.partial(diffusion_picture, place, *analysis[:3]))


def _samples(run: Path, wanted: Wanted) -> Iterator[Sample]:
    """One for each element."""
    place = run / TRAJECTORY if run.is_dir() else run
    frames = [frame.atoms for frame in read_frames(place)]
    times = frame_times(frames, wanted.interval, place)
    discard = _discarded(times, wanted)
    late = [frame for frame, time in zip(frames, times, strict=True) if time >= times[0] + discard]
    if not late:
        raise DataError(f"no frame is left after {discard:.4g} ps")
    there = sorted(set(frames[0].symbols))
    _require_elements(frames[0], wanted, str(run))
    temperature = _temperature(late, wanted.temperature)
    volumes = [frame.get_volume() for frame in late if frame.cell.rank == 3]
    for element in wanted.elements or there:
        count = int((frames[0].symbols == element).sum())
        density = count / float(np.mean(volumes)) if volumes else float("nan")
        yield Sample(diffusion(times, frames, element, discard=discard), temperature, density)


def _temperature(frames: Sequence[Atoms], said: float | None) -> float:
    """K, mean over the frames, of velocities where there are any."""
    if all(frame.has("momenta") and np.any(frame.get_momenta()) for frame in frames):
        return float(np.mean([frame.get_temperature() for frame in frames]))
    if said is None:
        raise DataError("the frames have no velocities, which would give the temperature; say it with --temperature")
    return said


def _document(
    points: Sequence[Mobility], fits: Sequence[Arrhenius], remarks: Sequence[str], wanted: Wanted
) -> dict[str, Any]:
    """For JSON."""
    rows = []
    for point in points:
        row: dict[str, Any] = {
            "element": point.element,
            "temperature_K": point.temperature,
            "diffusion_m2_per_s": point.coefficient,
            "diffusion_error_m2_per_s": point.error,
            "runs": point.runs,
            "displaced_A2": point.displaced,
            "exponent": point.exponent,
            "in_fit": not point.doubt,
        }
        if point.element in wanted.charges:
            value, error = point.conductivity(wanted.charges[point.element])
            if np.isfinite(value):
                row |= {"conductivity_S_per_m": value, "conductivity_error_S_per_m": error}
        rows.append(row)
    lines = []
    for fit in fits:
        line: dict[str, Any] = dict(fit.numbers)
        line["extrapolated"] = [_extrapolated(fit, points, temperature, wanted) for temperature in wanted.at]
        lines.append(line)
    return {"diffusion": rows, "arrhenius": lines, "remarks": list(remarks)}


def _extrapolated(fit: Arrhenius, points: Sequence[Mobility], temperature: float, wanted: Wanted) -> dict[str, float]:
    """D, and with a charge the conductivity at the density of the coldest run."""
    value, error = fit.at(temperature)
    row = {"temperature_K": temperature, "diffusion_m2_per_s": value, "diffusion_error_m2_per_s": error}
    if fit.element in wanted.charges:
        cold = next(point for point in points if point.element == fit.element)
        there = cold._replace(temperature=temperature, coefficient=value, error=error)
        sigma, spread = there.conductivity(wanted.charges[fit.element])
        if np.isfinite(sigma):
            row |= {"conductivity_S_per_m": sigma, "conductivity_error_S_per_m": spread}
    return row
