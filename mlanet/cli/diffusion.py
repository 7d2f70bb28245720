"""`mlanet diffusion`: trajectories, or a structure and temperatures, in; diffusion and what activates it out."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlanet import DEFAULT_MODEL
from mlanet.cli.computing import STEPS, computing
from mlanet.cli.md import calculator_of_dynamics, repeated_start
from mlanet.cli.options import Json, KeepGoing, Model, Picture
from mlanet.cli.output import (
    answer,
    command_again,
    going_on_with,
    note,
    numbers_of,
    print_table,
    refused_part,
    report_refused,
)
from mlanet.execution import Execution

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlanet.dynamics.settings import DynamicsSettings
    from mlanet.limits import Watch
    from mlanet.properties.transport_files import Wanted
    from mlanet.workflows.answers import Refusals


class Dynamics(enum.StrEnum):
    """What is held constant, without spoiling the dynamics."""

    nve = "nve"
    bussi = "bussi"
    nose_hoover = "nose-hoover"


@computing("skin", *STEPS, skin=0.5)
def diffusion(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of mlanet md, or trajectories; with --temperatures a structure.", metavar="RUNS…"),
    ],
    model: Model = DEFAULT_MODEL,
    temperatures: Annotated[
        str, typer.Option("--temperatures", "-T", help="K; run dynamics at each, e.g. 600,800,1000.")
    ] = "",
    time: Annotated[float, typer.Option(help="Length of each run, ps.", min=1e-3)] = 50.0,
    times: Annotated[int, typer.Option(help="Runs at each temperature, with other velocities.", min=1, max=99)] = 1,
    timestep: Annotated[float, typer.Option(help="fs.")] = 1.0,
    every: Annotated[int, typer.Option(help="Steps between frames.", min=1)] = 20,
    ensemble: Annotated[Dynamics, typer.Option("--ensemble", "-e", help="Of these runs.")] = Dynamics.nose_hoover,
    repeat: Annotated[str, typer.Option(help="Supercell of the structure, e.g. 2x2x2.")] = "1x1x1",
    seed: Annotated[int, typer.Option(help="Of velocities.")] = 0,
    element: Annotated[str, typer.Option(help="What diffuses, e.g. Li or Li,Na; all elements if not given.")] = "",
    charge: Annotated[str, typer.Option(help="e, for the conductivity, e.g. Li=1 or Li=1,O=-2.")] = "",
    at: Annotated[str, typer.Option(help="K to extrapolate to, e.g. 300.")] = "",
    discard: Annotated[float | None, typer.Option(help="ps at the beginning; a tenth if not given.", min=0)] = None,
    interval: Annotated[float, typer.Option(help="fs between frames that do not say their time.", min=0)] = 0.0,
    temperature: Annotated[float | None, typer.Option(help="K, of trajectories without velocities.", min=1)] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder; a second run goes on with it.")] = Path(
        "diffusion"
    ),
    picture: Picture = True,
    keep_going: KeepGoing = False,
    json: Json = False,
    *,
    execution: Execution,
) -> None:
    """Diffusion of each element from RUNS at any temperatures: D, activation energy, prefactor and conductivity.

    The folder gets diffusion.csv, result.json, diffusion.png and, with --temperatures, a run of `mlanet md` for each.
    Where a run is too short, or atoms only vibrate, that is said, and left out of the fit.
    """
    from mlanet.properties.transport_files import Wanted, transport, transport_drawing, write_transport
    from mlanet.workflows.answers import Refusals

    refused = Refusals() if keep_going else None
    wanted = Wanted(
        tuple(word.strip() for word in element.split(",") if word.strip()),
        _charges(charge),
        tuple(_temperatures("--at", at)),
        discard,
        interval,
        temperature,
    )
    worst: dict[str, Any] = {}
    if temperatures:
        if len(runs) != 1:
            raise typer.BadParameter(f"--temperatures runs dynamics of one structure, {len(runs)} were given")
        kinds = _settings(temperatures, times, time, timestep, every, ensemble.value, seed)
        with going_on_with(output):
            runs, worst = _run(runs[0], repeat, kinds, wanted, output, model, execution, refused)
    result = transport(runs, wanted, refused)
    written = write_transport(output, result) if result.points else []
    pictures = [transport_drawing(output, result)] if picture and result.points else []
    source = {"model": model, **worst} if temperatures else {}
    document = {**source, **result.document, "files": written, **refused_part(refused)}
    answer(document, lambda: _print(result.document, worst), written, pictures, json, result.remarks)
    report_refused(refused)


def _charges(text: str) -> dict[str, float]:
    """What --charge says."""
    try:
        return {name.strip(): float(value) for name, value in (word.split("=") for word in text.split(",") if word)}
    except ValueError:
        raise typer.BadParameter(f"--charge: '{text}' is not of the form Li=1,O=-2") from None


def _temperatures(option: str, text: str) -> list[float]:
    """In K."""
    given = ",".join(filter(str.strip, text.split(",")))
    possible = lambda kelvin: all(0 < value < 1e5 for value in kelvin)  # noqa: E731
    return numbers_of(option, given, "600,800 (K)", allowed=possible) if given else []


def _settings(
    temperatures: str, times: int, time: float, timestep: float, every: int, ensemble: str, seed: int
) -> dict[str, DynamicsSettings]:
    """Of each run, by the name of its folder."""
    from mlanet.config import parse
    from mlanet.dynamics.settings import DynamicsSettings

    options = {"ensemble": ensemble, "timestep": timestep, "every": every, "checkpoint_every": 10 * every}
    options["steps"] = max(1, round(1000 * time / timestep)) if timestep > 0 else 1
    return {
        f"{kelvin:g}K" + (f"-{k + 1}" if k else ""): parse(
            options | {"temperature": kelvin, "seed": seed + k}, DynamicsSettings, "mlanet diffusion"
        )
        for kelvin in _temperatures("--temperatures", temperatures)
        for k in range(times)
    }


def _run(
    structure: Path,
    repeat: str,
    kinds: dict[str, DynamicsSettings],
    wanted: Wanted,
    output: Path,
    model: str,
    execution: Execution,
    refused: Refusals | None,
) -> tuple[list[Path], dict[str, Any]]:
    """Run what is missing; the folders, and the gravest word on the training set."""
    from mlanet.errors import MLANetError
    from mlanet.limits import Watch
    from mlanet.model_files import model_path
    from mlanet.properties.transport_files import require_enough, run_dynamics

    atoms, where = repeated_start(structure, repeat)
    calculator = calculator_of_dynamics(atoms, where, model, execution, thermostat=True)
    for settings in kinds.values():
        require_enough(atoms, settings, wanted, where)
    conservative, watch = calculator.answering.conservative, Watch()
    done = []
    for name, settings in kinds.items():
        folder = output / name
        try:
            moments = run_dynamics(atoms, settings, folder, str(model_path(model)), conservative)
            _follow(name, settings, moments, calculator, watch)
        except MLANetError as error:
            if refused is None:
                raise
            refused(type(error)(f"{folder}: {error}"))
            continue
        done.append(folder)
    return done, watch.numbers()


def _follow(name: str, settings: DynamicsSettings, moments: Any, calculator: Any, watch: Watch) -> None:
    """Ten lines of progress of each run, and warnings."""
    import contextlib

    whole, said, last = settings.steps * settings.timestep / 1000, 0, settings.steps
    with contextlib.closing(moments):
        for moment in moments:
            if text := watch.sees(calculator.assessment, f"{name}, {moment.time:.3f} ps"):
                note(f"warning: {text}")
            last = moment.step
            if moment.step * 10 // settings.steps > said or moment.step == settings.steps:
                said = moment.step * 10 // settings.steps
                note(f"{name}: {moment.time:.4g} of {whole:.4g} ps, {moment.temperature:.0f} K")
    if last < settings.steps:
        note(f"stopped by SIGTERM in {name}; go on with: {command_again()}")
        raise typer.Exit(143)


def _print(document: dict[str, Any], worst: dict[str, Any]) -> None:
    """A line for each D, one for each fit."""
    charged = any("conductivity_S_per_m" in row for row in document["diffusion"])
    columns = ["element", "T K>", "D m²/s>", "±>", *(["σ S/m>"] if charged else []), "in fit"]
    rows = []
    for row in document["diffusion"]:
        sigma = [f"{row['conductivity_S_per_m']:.3g}" if "conductivity_S_per_m" in row else ""] if charged else []
        numbers = (f"{row['diffusion_m2_per_s']:.3e}", f"{row['diffusion_error_m2_per_s']:.1e}")
        fitted = "yes" if row["in_fit"] else "no"
        rows.append((row["element"], f"{row['temperature_K']:.0f}", *numbers, *sigma, fitted))
    print_table("", columns, rows)
    for fit in document["arrhenius"]:
        energy = f"{fit['activation_energy_eV']:.4g} ± {fit['activation_energy_error_eV']:.2g}"
        prefactor = f"{fit['prefactor_m2_per_s']:.3g} ± {fit['prefactor_error_m2_per_s']:.1g}"
        _lines(fit["element"], energy, prefactor, fit["extrapolated"])
    if "extrapolation" in worst:
        print_table("", ("training set", "where"), [(worst["extrapolation"], worst.get("extrapolation_reason", ""))])


def _lines(element: str, energy: str, prefactor: str, extrapolated: Sequence[dict[str, float]]) -> None:
    from mlanet.cli.output import say

    say(f"{element}: activation energy {energy} eV, prefactor {prefactor} m²/s")
    for point in extrapolated:
        text = f"{point['diffusion_m2_per_s']:.2e} ± {point['diffusion_error_m2_per_s']:.1e} m²/s"
        if "conductivity_S_per_m" in point:
            text += f", {point['conductivity_S_per_m']:.3g} ± {point['conductivity_error_S_per_m']:.1g} S/m"
        say(f"{element} at {point['temperature_K']:g} K, extrapolated: {text}")
