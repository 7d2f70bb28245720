"""`mlanet md`: a structure and a model in; a trajectory, a log and their summary out."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlanet import DEFAULT_MODEL
from mlanet.cli.computing import STEPS, computing
from mlanet.cli.options import Json, Model, Picture
from mlanet.cli.output import (
    STOPPED,
    command_again,
    drawn,
    name_with_unit,
    note,
    note_matmul_cost,
    note_once,
    numbers_of,
    print_json,
    print_pairs,
)
from mlanet.errors import naming
from mlanet.execution import Execution

if TYPE_CHECKING:
    from ase import Atoms

    from mlanet.calculator import MLANetCalculator
    from mlanet.data.read import Frame
    from mlanet.dynamics.settings import DynamicsSettings


class Ensemble(enum.StrEnum):
    """What is held constant, and by what."""

    nve = "nve"
    langevin = "langevin"
    bussi = "bussi"
    nose_hoover = "nose-hoover"
    npt = "npt"


Pressed = enum.StrEnum("Pressed", "isotropic full a b c ab ac bc abc")
"""What constant pressure may move."""


@computing("skin", "tabulated", *STEPS, skin=0.5)
def md(
    structure: Annotated[Path, typer.Argument(help="Start: extxyz, CIF, POSCAR …; the last frame of a file.")],
    model: Model = DEFAULT_MODEL,
    ensemble: Annotated[
        Ensemble, typer.Option("--ensemble", "-e", help="nve keeps the energy, npt the pressure.")
    ] = Ensemble.langevin,
    temperature: Annotated[float, typer.Option("--temperature", "-T", help="K.")] = 300.0,
    time: Annotated[float | None, typer.Option(help="Length in ps; or --steps.")] = None,
    steps: Annotated[int | None, typer.Option(help="Length in steps; 1000 if neither is given.")] = None,
    timestep: Annotated[float, typer.Option(help="fs; 0.5 with hydrogen.")] = 1.0,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for trajectory, log, checkpoint.")] = Path(
        "md"
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the folder's checkpoint.")] = False,
    repeat: Annotated[str, typer.Option(help="Supercell, e.g. 2x2x2.")] = "1x1x1",
    friction: Annotated[float, typer.Option(help="langevin: 1/ps.")] = 10.0,
    relaxation: Annotated[float, typer.Option(help="bussi, nose-hoover, npt: of the temperature, fs.")] = 100.0,
    pressure: Annotated[float, typer.Option(help="npt: GPa.")] = 0.0,
    pressure_relaxation: Annotated[float, typer.Option(help="npt: of the pressure, fs.")] = 1000.0,
    cell: Annotated[
        Pressed, typer.Option("--cell", "-c", help="npt: what pressure moves: the size, all, or lengths of vectors.")
    ] = Pressed.isotropic,
    every: Annotated[int, typer.Option(help="Steps between frames.")] = 10,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 200,
    seed: Annotated[int, typer.Option(help="Of velocities and thermostat.")] = 0,
    keep_velocities: Annotated[bool, typer.Option("--keep-velocities", help="Those of the file.")] = False,
    stop_outside: Annotated[
        bool, typer.Option("--stop-outside", help="End at the first frame outside the training set; status 1.")
    ] = False,
    picture: Picture = True,
    json: Json = False,
    *,
    execution: Execution,
) -> None:
    """Run molecular dynamics from STRUCTURE.

    The folder gets trajectory.extxyz (frames with energy, forces, stress and momenta), log.csv, md_summary.png and a
    checkpoint. An interrupted run goes on with --resume, on a CPU to the same bits. Analyse with `mlanet trajectory`.
    """
    from mlanet.config import parse
    from mlanet.dynamics.settings import DynamicsSettings

    if time is not None and steps is not None:
        raise typer.BadParameter("give --time or --steps, not both")
    if time is not None:
        steps = max(1, round(1000 * time / timestep)) if timestep > 0 else 1
    options = {
        "ensemble": ensemble.value,
        "temperature": temperature,
        "timestep": timestep,
        "steps": 1000 if steps is None else steps,
        "friction": friction,
        "relaxation": relaxation,
        "pressure": pressure,
        "pressure_relaxation": pressure_relaxation,
        "cell": cell.value,
        "every": every,
        "checkpoint_every": checkpoint_every,
        "seed": seed,
        "keep_velocities": keep_velocities,
    }
    settings = parse(options, DynamicsSettings, "mlanet md")
    with _telling_what_was_kept(output):
        start, where = repeated_start(structure, repeat)
        summary = _run(start, where, model, settings, output, resume, execution, not json, stop_outside)
    _print(summary, model, output, json)
    picture = picture and _drawn(output, len(start), settings)
    if not json:
        _tell_what_next(output, picture)
    _end(summary, output, stop_outside)


def _end(summary: dict[str, Any], folder: Path, stop_outside: bool) -> None:
    """Say why a run is not whole, with a status of its own."""
    left = stop_outside and summary.get("extrapolation") == "outside"
    if not (summary["finished"] or left):
        note(f"stopped by SIGTERM; go on with: {command_again('--resume')}")
        raise typer.Exit(143)
    if left:
        note(f"stopped outside the training set; the frame is the last of {folder}/trajectory.extxyz")
        raise typer.Exit(1)


def _print(summary: dict[str, Any], model: str, folder: Path, json: bool) -> None:
    """What came out."""
    if json:
        print_json({"model": model, "folder": folder, **summary})
    else:
        print_pairs("", [(name_with_unit(name), _shown(value)) for name, value in summary.items()])


def _drawn(folder: Path, n_atoms: int, settings: DynamicsSettings) -> bool:
    """Draw the course of a run, for which no answer waits; whether that was possible."""

    def draw() -> None:
        from mlanet.dynamics.plots import course
        from mlanet.dynamics.summary import read_log

        target = None if settings.ensemble == "nve" else settings.temperature
        course(folder / "md_summary.png", read_log(folder), n_atoms, target)

    try:
        return drawn(draw)
    except KeyboardInterrupt:
        _tell_what_next(folder, picture=False)
        note_once(f"{STOPPED}; the run is whole, its picture is not drawn")
        raise


def _tell_what_next(folder: Path, picture: bool) -> None:
    """What is in the folder, and what to do with it."""
    note(f"wrote {folder}/trajectory.extxyz, log.csv{', md_summary.png' * picture}")
    note(f"next: mlanet trajectory {folder}/trajectory.extxyz --output {folder}")


@contextlib.contextmanager
def _telling_what_was_kept(folder: Path) -> Iterator[None]:
    """After Ctrl-C, a line about it."""
    try:
        yield
    except KeyboardInterrupt:
        note_once(_what_was_kept(folder))
        raise


def _what_was_kept(folder: Path) -> str:
    """After Ctrl-C: what of the run is there, and how to go on."""
    from mlanet.dynamics.run import CHECKPOINT

    if not (folder / CHECKPOINT).exists():
        return f"{STOPPED} before the first checkpoint; {folder} has nothing to go on from, start again"
    return f"{STOPPED}; kept: {folder}, up to its checkpoint; go on with: {command_again('--resume')}"


def _run(
    atoms: Atoms,
    where: str,
    model: str,
    settings: DynamicsSettings,
    folder: Path,
    resume: bool,
    execution: Execution,
    shown: bool,
    stop_outside: bool,
) -> dict[str, object]:
    """Simulate with a bar, then summarise."""
    import time

    from mlanet.dynamics.approach import Guard
    from mlanet.dynamics.run import simulate, throughput
    from mlanet.dynamics.summary import read_log, summarize
    from mlanet.limits import Watch
    from mlanet.model_files import model_path

    calculator = calculator_of_dynamics(atoms, where, model, execution, settings.ensemble != "nve")
    answering, potential = calculator.answering, str(model_path(model))
    moments = simulate(atoms, settings, folder, potential=potential, resume=resume, conservative=answering.conservative)
    started, first, last = time.monotonic(), None, 0
    guard, watch = Guard(answering.statistics), Watch()
    with naming(where), contextlib.closing(moments), _bar(shown) as bar:
        task = bar.add_task("", total=settings.steps)
        for moment in moments:
            first = moment.step if first is None else first
            last = moment.step
            if guard.alarmed_by(atoms):
                note(f"warning: {moment.time:.3f} ps: {guard.nearest}; energies there are guesses")
            if text := watch.sees(calculator.assessment, f"{moment.time:.3f} ps"):
                note(f"warning: {text}")
            ms, ns = throughput(started, last - first, settings.timestep)
            text = f"{moment.time:.3f} ps · {moment.temperature:.0f} K · {moment.potential / len(atoms):.4f} eV/atom"
            bar.update(task, completed=last, description=text + (f" · {ms:.1f} ms/step" if last > first else ""))
            if stop_outside and watch.outside:
                break
    note_matmul_cost(calculator)
    log = read_log(folder)
    result: dict[str, object] = {"finished": last == settings.steps or last == 0, "steps": int(log["step"][-1])}
    result |= summarize(log, len(atoms), conserved=settings.ensemble != "langevin")
    if first is not None and last > first:
        ms, ns = throughput(started, last - first, settings.timestep)
        result |= {"ms_per_step": ms, "ns_per_day": ns}
    return result | guard.numbers() | watch.numbers() | {"neighbor_lists": calculator.neighbor_lists_built}


def calculator_of_dynamics(
    atoms: Atoms, where: str, model: str, execution: Execution, thermostat: bool
) -> MLANetCalculator:
    """The calculator that atoms get, where the model can answer them; a note on what a thermostat would hide."""
    import warnings

    from mlanet.calculator import MLANetCalculator
    from mlanet.workflows.answers import require_answerable

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a direct head cannot do is said below
        calculator = MLANetCalculator(model, **execution.of_steps())
    require_answerable(calculator.answering, atoms, where)
    atoms.calc = calculator
    if thermostat and not calculator.answering.conservative:
        note(
            "note: this model's forces are a direct head, not the gradient of its energy; a thermostat hides the drift"
        )
    return calculator


def repeated_start(structure: Path, repeat: str) -> Frame:
    """The last frame of a file, repeated as --repeat says, and which it is."""
    import math

    from mlanet.data.bounded_text import require_atoms
    from mlanet.data.read import Frame, read_last

    copies = tuple(
        numbers_of("--repeat", repeat.lower(), "2x2x1", int, lambda abc: len(abc) == 3 and min(abc) > 0, between="x")
    )
    atoms, where = read_last(structure)
    require_atoms(len(atoms) * math.prod(copies), f"--repeat {repeat}")
    counted = zip("abc", copies, atoms.cell.array, strict=True)
    if without := ", ".join(name for name, count, vector in counted if count > 1 and not vector.any()):
        raise typer.BadParameter(f"--repeat {repeat}: {where} has no lattice vector {without} to repeat along")
    velocities = atoms.has("momenta")
    atoms = atoms.repeat(copies) if copies != (1, 1, 1) else atoms.copy()
    if not velocities and atoms.has("momenta"):
        del atoms.arrays["momenta"]
    return Frame(atoms, where)


def _bar(shown: bool):  # type: ignore[no-untyped-def]  # rich is imported late
    """A bar on stderr with the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(bar_width=24), TextColumn("{task.description}"), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal))


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
