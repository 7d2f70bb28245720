"""`mlanet predict`: structures in; energy, forces and stress with units out."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlanet import DEFAULT_MODEL
from mlanet.cli.computing import BATCHES, computing
from mlanet.cli.crew import Job, crew_of, predicted, predictions
from mlanet.cli.options import Files, Json, KeepGoing, MaxEdges, Members, Model, Ray, Resume, Workers
from mlanet.cli.output import end_with_answer, note, print_table, progress, short_name
from mlanet.execution import Execution

if TYPE_CHECKING:
    from mlanet.data.read import Frame
    from mlanet.plots import Drawing
    from mlanet.workflows.predict import Kept, Predicted, Row

COLUMNS = ("structure", "formula", "atoms>", "energy eV>", "eV/atom>", "max|F| eV/Å>", "pressure GPa>")
LIMITS_COLUMNS = ("± eV/atom>", "± F eV/Å>", "training set")
"""Of models that know their limits."""
STRESS_COLUMNS = ("structure", "xx>", "yy>", "zz>", "yz>", "xz>", "xy>")


MOST_WARNINGS = 5
PICTURED = 6
"""Structures of a picture."""


@computing(*BATCHES)
def predict(
    files: Files,
    model: Model = DEFAULT_MODEL,
    member: Members = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write structures with energy, forces and stress as extxyz, for ASE."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write one line per structure.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the first six structures with their forces: .png, .svg or .pdf.")
    ] = None,
    atomic_stress: Annotated[
        bool,
        typer.Option("--atomic-stress", help="Into OUTPUT also the stress of each atom; they sum to the whole."),
    ] = False,
    keep_going: KeepGoing = False,
    resume: Resume = False,
    json: Json = False,
    rows: Annotated[int, typer.Option(help="Lines of the printed table.", min=1)] = 20,
    max_edges: MaxEdges = 20_000,
    workers: Workers = 1,
    ray: Ray = None,
    *,
    execution: Execution,
) -> None:
    """Predict energy, forces and stress of every structure in FILES.

    Any number of frames: they are read, computed in batches and written as a stream.
    Stress xx yy zz yz xz xy, tension positive; pressure = -tr(stress)/3.
    Models that know their limits also say where each structure stands (inside, edge or outside of the training set, and
    why), and standard errors (docs/uncertainty.md).
    Output files appear when they are complete, and never over an input; until then, and after an error, what was
    computed is in OUTPUT.partial.extxyz, and the same command with --resume goes on with it.
    """
    from mlanet.data.formats import structure_files
    from mlanet.model_files import model_path
    from mlanet.workflows.answers import Refusals, frames_of
    from mlanet.workflows.growing import partial_name
    from mlanet.workflows.model import open_answering, open_members, open_model
    from mlanet.workflows.output import refuse_overwriting
    from mlanet.workflows.predict import Kept, require_formats
    from mlanet.workflows.workers import worked

    require_formats(output, picture)
    _require_places(output, csv, picture, resume, atomic_stress, bool(member))
    crew = crew_of(workers, ray, execution)
    refused = Refusals() if keep_going else None
    files = structure_files(files, refused)
    partial = [partial_name(path) for path in (output, csv) if path is not None]
    refuse_overwriting((output, csv, picture, *partial), [*files, *map(model_path, (model, *(member or ())))])
    opened = open_model if member else open_answering  # committees are computed with torch
    answering: Any = opened(model, execution, tell=note)
    members = open_members(answering, model, member or (), execution, tell=note)

    job = Job.of(model, execution, max_edges, keep_going, member or (), atomic_stress)

    def work(frames: Iterator[Frame]) -> Iterator[Predicted]:
        if crew.alone:
            return predictions(job, answering, members, frames, refused)
        return worked(crew, functools.partial(predicted, job), frames, refused)

    asked = {"output": output is not None, "csv": csv is not None, "json": json, "rows": rows}
    settings = job.settings("predict") | asked | {"atomic_stress": atomic_stress}
    with Kept(output, csv, note, answering.outputs, settings, resume) as kept:
        going = progress(kept.going_on(frames_of(files, refused), work), "predicting")
        shown, drawn, count = _keep(kept, going, rows if not json else None, PICTURED if picture is not None else 0)
    document = {"model": model, "conservative": answering.conservative, "predictions": shown}
    pictures = [] if picture is None or not count else [_drawing(picture, drawn, output if resume else None)]
    written = [path for path in (output, csv) if path is not None and count]
    end_with_answer(document, lambda: _print(shown, count, answering.conservative), written, pictures, json, refused)


def _drawing(picture: Path, drawn: Sequence[Predicted], output: Path | None) -> Drawing:
    """The first structures; after a run that went on, as they stand in its output."""
    from mlanet.data.read import read_frames
    from mlanet.plots import Drawing
    from mlanet.workflows.predict import Predicted, draw

    def those_there() -> None:
        there = drawn
        if output is not None and output.exists():
            there = [Predicted(*frame) for frame in read_frames(output, index=f":{PICTURED}")]
        draw(picture, there)

    return Drawing(picture, those_there)


def _keep(
    kept: Kept, going: Iterator[tuple[Predicted | None, Row | None]], rows: int | None, pictured: int
) -> tuple[list[Row], list[Predicted], int]:
    """Write what comes; the rows and pictures that are shown, and how many structures there were.

    rows: at most so many are shown; None: all
    """
    from mlanet.workflows.predict import row

    shown: list[Row] = []
    drawn: list[Predicted] = []
    count = 0
    for one, known in going:
        if one is not None:
            known = row(one) if rows is None or count < rows else None
            kept.keep(one, known)
            drawn += [one] if len(drawn) < pictured else []
        shown += [known] if known is not None else []
        count += 1
    return shown, drawn, count


def _require_places(
    output: Path | None, csv: Path | None, picture: Path | None, resume: bool, atomic_stress: bool, committee: bool
) -> None:
    """Refuse what has no file to stand in, or none to go on with."""
    if atomic_stress and (output is None or committee):
        raise typer.BadParameter("--atomic-stress is written to --output, of one model; give it, and no --member")
    if resume and (output or csv) is None:
        raise typer.BadParameter("--resume goes on with what --output or --csv has; give one of them")
    if resume and picture is not None and output is None:
        raise typer.BadParameter("--resume draws --picture from what --output has; give both")


def _warn(shown: Sequence[Row], conservative: bool) -> None:
    """Of the structures shown, why some are beyond the training set; and of forces that are no gradient."""
    beyond = [line for line in shown if line.reasons]
    for line in beyond[:MOST_WARNINGS]:
        note(f"{line.extrapolation}: {line.where}: {'; '.join(line.reasons)}")
    if len(beyond) > MOST_WARNINGS:
        note(f"and {len(beyond) - MOST_WARNINGS} more beyond the training set; --csv and --json give every reason")
    if not conservative:
        note("note: this model's forces are a direct head, not the gradient of its energy")


def _print(shown: Sequence[Row], count: int, conservative: bool) -> None:
    """Two tables that each fit a narrow terminal, and warnings."""
    more = f"and {count - len(shown)} more; --output, --csv or --json give all" if count > len(shown) else ""
    names = _names([line.where for line in shown])
    pairs = list(zip(names, shown, strict=True))
    known = any(line.extrapolation != "unknown" or line.energy_std_eV is not None for line in shown)
    cells = ((*_cells(name, line), *(_limits(line) if known else ())) for name, line in pairs)
    print_table("", (*COLUMNS, *(LIMITS_COLUMNS if known else ())), cells, more)
    stressed = [(name, *(_fixed(value, 3) for value in line.stress_GPa)) for name, line in pairs if line.stress_GPa]
    if stressed:
        print_table("stress in GPa, tension positive", STRESS_COLUMNS, stressed)
    dipoles = [(name, *(_fixed(value, 4) for value in line.dipole_e_A)) for name, line in pairs if line.dipole_e_A]
    if dipoles:
        print_table("dipole in e Å", ("structure", "x>", "y>", "z>"), dipoles)
    tensors = [(name, line.polarizability_A3) for name, line in pairs if line.polarizability_A3]
    if tensors:
        rows = [(name, *(_fixed(value, 3) for value in values)) for name, values in tensors]
        print_table("polarizability in Å³", STRESS_COLUMNS, rows)
    _warn(shown, conservative)


def _cells(name: str, line: Row) -> tuple[str, ...]:
    return (
        name,
        line.formula,
        str(line.atoms),
        _fixed(line.energy_eV, 4),
        _fixed(line.energy_per_atom_eV, 4),
        _fixed(line.max_force_eV_per_A, 4),
        "-" if line.pressure_GPa is None else _fixed(line.pressure_GPa, 3),
    )


def _limits(line: Row) -> tuple[str, ...]:
    """Standard errors, and where it stands."""
    errors = (line.energy_std_per_atom_eV, line.max_force_std_eV_per_A)
    return *("-" if it is None else f"{it:.2g}" for it in errors), line.extrapolation


def _fixed(value: float, digits: int) -> str:
    """Fixed digits, without a sign on zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _names(wheres: Sequence[str]) -> list[str]:
    """File names without folders, where that leaves them distinct."""
    short = [short_name(where) for where in wheres]
    return short if len(set(short)) == len(set(wheres)) else list(wheres)
