"""`mlanet evaluate`: how far a model is from labelled structures."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlanet import DEFAULT_MODEL
from mlanet.cli.computing import BATCHES, computing
from mlanet.cli.crew import Job, Ray, Workers, compared, crew_of
from mlanet.cli.data import Keys
from mlanet.cli.output import (
    Files,
    Json,
    KeepGoing,
    MaxEdges,
    Members,
    Model,
    note,
    print_json,
    print_table,
    progress,
    refused_part,
    report_refused,
)
from mlanet.errors import MissingLabelError
from mlanet.execution import Execution
from mlanet.units import EV_PER_CUBIC_ANGSTROM_IN_GPA

if TYPE_CHECKING:
    from mlanet.limits.calibration import LimitsReport
    from mlanet.workflows.evaluate import Evaluation, QuantityErrors


@computing(*BATCHES)
def evaluate(
    files: Files,
    model: Model = DEFAULT_MODEL,
    member: Members = None,
    key: Keys = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for parity plots.", metavar="FOLDER")] = None,
    keep_going: KeepGoing = False,
    json: Json = False,
    max_edges: MaxEdges = 20_000,
    workers: Workers = 1,
    ray: Ray = None,
    *,
    execution: Execution,
) -> None:
    """Compare predictions with the labels in FILES: MAE and RMSE of energy, forces and stress, also by element.

    Labels are looked for as in training; a frame without one of them counts for the others.
    """
    from mlanet.workflows.answers import Refusals, frames_of
    from mlanet.workflows.datasets import label_keys
    from mlanet.workflows.evaluate import collect, draw, evaluate_files
    from mlanet.workflows.model import open_members, open_model
    from mlanet.workflows.workers import worked

    keys = label_keys(key or ())
    refused = Refusals() if keep_going else None
    crew = crew_of(workers, ray, execution)
    if crew.alone or member:
        potential = open_model(model, execution, tell=note)
        members = open_members(potential, model, member or (), execution, tell=note)
    if crew.alone:
        bounds: Any = {"max_edges": max_edges, "max_memory": execution.max_memory}
        found = evaluate_files(potential, files, keys, **bounds, refused=refused, members=members)
    else:
        part = functools.partial(compared, Job.of(model, execution, max_edges, keep_going, member or ()), keys)
        found = worked(crew, part, frames_of(files, refused), refused)
    try:
        evaluation, pairs = collect(progress(found, "evaluating"), keep_pairs=plots is not None)
    except MissingLabelError as error:
        if refused is not None:
            refused(error)
            report_refused(refused)
        raise
    pictures = [] if plots is None else draw(plots, pairs, evaluation.limits)
    if json:
        print_json(
            {"model": model, "files": [str(path) for path in files], "errors": evaluation, **refused_part(refused)}
        )
    else:
        _print(evaluation)
        for path in pictures:
            note(f"wrote {path}")
    report_refused(refused)


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
    print_table(f"of the training set: {words}", columns, rows)


def _cells(name: str, one: QuantityErrors) -> tuple[str, ...]:
    return name, f"{one.mae:.4g}", f"{one.rmse:.4g}", one.unit, str(one.count)
