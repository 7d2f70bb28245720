"""`mlanet evaluate`: how far a model is from labelled structures."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlanet import DEFAULT_MODEL
from mlanet.cli.computing import BATCHES, computing
from mlanet.cli.crew import Job, compared, comparisons, crew_of
from mlanet.cli.options import (
    Files,
    Json,
    KeepGoing,
    KeepUnconverged,
    Keys,
    MaxEdges,
    Members,
    Model,
    Ray,
    Resume,
    Workers,
)
from mlanet.cli.output import end_with_answer, note, print_table, progress, report_refused, say
from mlanet.errors import DataError, MissingLabelError
from mlanet.execution import Execution
from mlanet.units import EV_PER_CUBIC_ANGSTROM_IN_GPA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlanet.data.read import Frame
    from mlanet.limits.calibration import LimitsReport
    from mlanet.workflows.evaluate import Compared, Evaluation, QuantityErrors


@computing(*BATCHES)
def evaluate(
    files: Files,
    model: Model = DEFAULT_MODEL,
    member: Members = None,
    key: Keys = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for parity plots.", metavar="FOLDER")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write one line per structure: its errors.")] = None,
    keep_unconverged: KeepUnconverged = False,
    keep_going: KeepGoing = False,
    resume: Resume = False,
    json: Json = False,
    max_edges: MaxEdges = 20_000,
    workers: Workers = 1,
    ray: Ray = None,
    *,
    execution: Execution,
) -> None:
    """Compare predictions with the labels in FILES: MAE and RMSE of energy, forces and stress, also by element.

    Labels are looked for as in training; a frame without one of them counts for the others. Steps of VASP whose
    electrons did not converge are left out, as in training.
    A run with --csv that was stopped has left what it computed in CSV.partial.csv, and the same command with --resume
    goes on with it.
    """
    from mlanet.data.formats import structure_files
    from mlanet.workflows.answers import Refusals, frames_of
    from mlanet.workflows.datasets import label_keys
    from mlanet.workflows.evaluate import collected, drawings
    from mlanet.workflows.growing import partial_name
    from mlanet.workflows.model import open_members, open_model
    from mlanet.workflows.output import refuse_overwriting
    from mlanet.workflows.shares import SharesKept
    from mlanet.workflows.workers import worked

    if resume and csv is None:
        raise typer.BadParameter("--resume goes on with what --csv has; give it")
    keys = label_keys(key or ())
    refused = Refusals() if keep_going else None
    crew = crew_of(workers, ray, execution)
    if csv is not None:
        files = structure_files(files, refused)
        refuse_overwriting((csv, partial_name(csv)), files)
    if crew.alone or member or csv is not None:
        potential = open_model(model, execution, tell=note)
        members = open_members(potential, model, member or (), execution, tell=note)

    job = Job.of(model, execution, max_edges, keep_going, member or ())

    def work(frames: Iterator[Frame]) -> Iterator[Compared]:
        if crew.alone:
            return comparisons(job, keys, potential, members, frames, refused)
        return worked(crew, functools.partial(compared, job, keys), frames, refused)

    asked = {"plots": plots is not None} | ({"keep_unconverged": True} if keep_unconverged else {})
    settings = job.settings("evaluate") | {"keys": repr(keys)} | asked
    left_out: list[str] | None = None if keep_unconverged else []
    try:
        with SharesKept(csv, () if csv is None else potential.outputs, note, settings, resume) as kept:
            shares = kept.going_on(frames_of(files, refused, left_out=left_out), work, plots is not None)
            evaluation, pairs = collected(progress(shares, "evaluating"))
    except MissingLabelError as error:
        if refused is not None:
            refused(error)
            report_refused(refused)
        if not left_out:
            raise
        raise DataError("in no frame did the electrons converge; --keep-unconverged counts them") from None
    pictures = [] if plots is None else drawings(plots, pairs, evaluation.limits)
    document = {"model": model, "files": list(map(str, files)), "errors": evaluation, "left_out": left_out or []}
    end_with_answer(document, lambda: _print(evaluation), [] if csv is None else [csv], pictures, json, refused)


def _print(evaluation: Evaluation) -> None:
    rows = [_cells(name, one) for name, one in evaluation.quantities.items()]
    rows += [_cells(f"forces on {symbol}", one) for symbol, one in evaluation.elements.items()]
    print_table(f"{evaluation.frames} frames", ("quantity", "MAE>", "RMSE>", "unit", "numbers>"), rows)
    if evaluation.limits is not None:
        _print_limits(evaluation.limits)


def _print_limits(limits: LimitsReport) -> None:
    """Predicted against real errors, and how many structures stand where."""
    units = {"energy": ("meV/atom", 1e3), "forces": ("meV/Å", 1e3), "stress": ("GPa", EV_PER_CUBIC_ANGSTROM_IN_GPA)}
    curves = [(name, one, *units[name]) for name, one in limits.quantities.items()]
    curves += [(f"forces on {symbol}", one, *units["forces"]) for symbol, one in limits.elements.items()]
    words = ", ".join(f"{count} {word}" for word, count in limits.extrapolation.items())
    rows = [
        (
            name,
            f"{one.predicted * factor:.4g}",
            f"{one.real * factor:.4g}",
            unit,
            "-" if one.largest_factor is None else f"{one.largest_factor:.2f}",
            "-" if one.finds_worst is None else f"{one.finds_worst:.2f}",
        )
        for name, one, unit, factor in curves
    ]
    columns = ("quantity", "predicted RMSE>", "real>", "unit", "off by, at most>", "finds worst tenth>")
    if rows:
        print_table(f"of the training set: {words}", columns, rows)
    else:
        say(f"of the training set: {words}")


def _cells(name: str, errors: QuantityErrors) -> tuple[str, ...]:
    return name, f"{errors.mae:.4g}", f"{errors.rmse:.4g}", errors.unit, str(errors.count)
