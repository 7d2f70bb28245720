"""The files of a sweep for people and programs: tables, pictures, and one page with all of it and a recommendation."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlanet.config import to_data
from mlanet.errors import OutputError
from mlanet.files import write_result
from mlanet.page import Page
from mlanet.plots import save
from mlanet.sweep.folder import TABLE, Started
from mlanet.sweep.plots import costs, degrees, learning_curves
from mlanet.sweep.recommend import Recommendation, recommend
from mlanet.sweep.table import DONE, ERROR_COLUMNS, Result, Row, grouped, judged_by, model_name, to_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = {
    "learning_curves": "Test error against the number of training structures, both logarithmic: a straight line is a "
    "power law, n to the exponent in the legend. Points are means over seeds, bars their standard deviation, dots the "
    "seeds.",
    "costs": "Test error at the largest size against peak memory, time per epoch (validation included) and time per "
    "atom of a prediction of energy, forces and stress. Nothing lies below and left of the dashed line, the Pareto "
    "front: models on it are the best at their cost.",
    "l_max": "Test error against the highest degree l_max of the features, one line for each number of training "
    "structures: where a line is flat, a higher l does not pay.",
}

_COLUMNS = {
    **{
        column.replace("_mae_", f"_{kind}_"): f"{name.replace('MAE', kind.upper())}, {unit}"
        for column, (name, unit) in ERROR_COLUMNS.items()
        for kind in ("mae", "rmse")
    },
    "parameters": "parameters",
    "steps": "steps",
    "epochs": "epochs",
    "seconds": "training, s",
    "seconds_per_epoch": "time per epoch, s",
    "microseconds_per_atom": "time per atom, µs",
    "peak_memory_MiB": "peak memory, MiB",
    "remark": "remark",
}


def write_report(folder: Path, started: Started, results: Sequence[Result]) -> tuple[Path, ...]:
    """`table.csv`, `table.json`, the pictures as PNG and `report.html`, of the points that have ended.

    Raises:
        OutputError: a place that cannot be written.
    """
    rows = [result.row for result in results]
    advice = recommend(rows)
    facts = machine(results)
    document = {
        "settings": to_data(started.used),
        "training_structures_available": started.available,
        "points": len(started.plan.points),
        "remarks": started.plan.remarks,
        "machine": facts,
        "recommendation": advice,
        "rows": rows,
    }
    write_result(folder / TABLE, to_csv(rows))
    write_result(folder / "table.json", msgspec.json.format(msgspec.json.encode(document)))
    files = [folder / TABLE, folder / "table.json"]
    drawn = _figures(rows)
    for name, draw in drawn.items():
        try:
            if (figure := draw()) is not None:
                save(figure, folder / f"{name}.png")
                files.append(folder / f"{name}.png")
        except OutputError as error:
            warnings.warn(f"no picture: {error}", stacklevel=2)
    _page(started, rows, facts, advice, drawn).write(folder / "report.html")
    return (*files, folder / "report.html")


def machine(results: Sequence[Result]) -> dict[str, Any]:
    """What the points were computed on; where they differ, every value once."""
    machines: dict[str, list[Any]] = {}
    for result in results:
        for key, value in result.machine.items():
            if value not in machines.setdefault(key, []):
                machines[key].append(value)
    return {key: values[0] if len(values) == 1 else values for key, values in machines.items()}


def _figures(rows: Sequence[Row]) -> dict[str, Callable[[], Figure | None]]:
    """What draws each picture, or gives None where the rows are not enough for it."""
    groups = grouped(rows)
    if not groups:
        return {}
    column = judged_by(groups)
    return {
        "learning_curves": functools.partial(learning_curves, groups, column),
        "costs": functools.partial(costs, groups, column),
        "l_max": functools.partial(degrees, groups, column),
    }


def _page(
    started: Started,
    rows: Sequence[Row],
    facts: dict[str, Any],
    advice: Recommendation,
    drawn: dict[str, Callable[[], Figure | None]],
) -> Page:
    """From the recommendation to the raw rows."""
    config, total = started.used, len(started.plan.points)
    names = ", ".join(Path(name).name for name in config.data.files)
    done = sum(row.status == DONE for row in rows)
    intro = (
        f"{names}: {done} of {total} trainings finished, each with the same budget ({_budget(started)}), judged on "
        f"structures that no model was trained on or chosen by."
    )
    if len(rows) < total:
        intro += f" {total - len(rows)} are still to come: start the same command again."
    page = Page(f"Sweep of {names}", intro)
    page.heading("Recommendation")
    for sentence in advice.sentences:
        page.text(sentence)
    for title, name in (("Learning curves", "learning_curves"), ("Errors and costs", "costs"), ("l_max", "l_max")):
        if name in drawn:
            page.picture(drawn[name], PICTURES[name], heading=title)
    page.heading("Means over seeds")
    _means(page, rows)
    page.heading("Every point")
    shown = [key for key in _COLUMNS if any(getattr(row, key) not in (None, "") for row in rows)]
    page.table(
        ["preset", "l_max", "structures", "seed", "status", *(_COLUMNS[key] for key in shown)],
        [
            [row.preset, row.l_max, row.size, row.seed, row.status, *(getattr(row, key) for key in shown)]
            for row in rows
        ],
        "Errors of the test part. Click a column's name to sort.",
    )
    page.data("table", msgspec.to_builtins(rows))
    page.heading("Settings and machine")
    for remark in started.plan.remarks:
        page.text(remark)
    page.facts([*_settings(started, rows), *((key, _text(value)) for key, value in facts.items())])
    return page


def _means(page: Page, rows: Sequence[Row]) -> None:
    """Mean and standard deviation of what the models are judged by."""
    groups = grouped(rows)
    columns = [key for key in ERROR_COLUMNS if any(group.values(key) for group in groups)]
    names = [cell for key in columns for cell in (", ".join(ERROR_COLUMNS[key]), "±")]
    costs = ["seconds_per_epoch", "microseconds_per_atom", "peak_memory_MiB"]
    page.table(
        ["model", "structures", "seeds", *names, *(_COLUMNS[key] for key in costs)],
        [
            [
                model_name(group.preset, group.l_max),
                group.size,
                len(group.rows),
                *(value for key in columns for value in (group.mean(key), group.spread(key))),
                *(group.mean(key) for key in costs),
            ]
            for group in groups
        ],
        "± is the standard deviation over seeds. Click a column's name to sort.",
    )


def _budget(started: Started) -> str:
    budget = started.used.budget
    amounts = ((budget.steps, "steps"), (budget.minutes, "minutes"), (budget.epochs, "epochs"))
    return next(f"{value:g} {name}" for value, name in amounts if value is not None)


def _settings(started: Started, rows: Sequence[Row]) -> list[tuple[str, object]]:
    """The facts that a reader needs to judge the numbers."""
    config = started.used
    tested = next((row.test_structures for row in rows if row.test_structures is not None), None)
    return [
        ("training structures at hand", started.available),
        ("test structures", tested),
        ("split", f"{config.data.split}, seed {config.data.seed}"),
        ("seeds", _text(config.seeds)),
        ("budget", _budget(started)),
        ("structures per batch", config.budget.max_structures),
        ("learning rate", f"{config.optimizer.lr:g}, {config.schedule.kind}"),
        ("changes of the presets", ", ".join(f"{key} = {value}" for key, value in config.model.items()) or None),
    ]


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
