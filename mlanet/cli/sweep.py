"""`mlanet sweep`: presets × l_max × sizes × seeds under one budget; learning curves, costs and a recommendation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlanet.cli.options import Json
from mlanet.cli.output import note, note_once, numbers_of, print_json, print_pairs, print_table, progress, say

if TYPE_CHECKING:
    from mlanet.sweep.config import SweepConfig
    from mlanet.sweep.engines import Engine
    from mlanet.sweep.run import SweepResult
    from mlanet.sweep.table import Row

AXES, RUNNING = "What is compared", "Running"
NO_ADDRESS = "local"
AMOUNTS = ("steps", "minutes", "epochs")


def sweep(
    data: Annotated[
        list[str],
        typer.Argument(help="Labelled files; or the YAML of a sweep, or its folder, alone.", metavar="DATA…"),
    ],
    presets: Annotated[
        list[str] | None, typer.Option(help="Presets or YAML files, e.g. leignn,mlanet_l2.", rich_help_panel=AXES)
    ] = None,
    l_max: Annotated[
        str | None, typer.Option("--l-max", help="Highest degrees, e.g. 1,2,3.", rich_help_panel=AXES)
    ] = None,
    sizes: Annotated[
        str | None, typer.Option(help="Training structures, e.g. 50,100,200; all if not given.", rich_help_panel=AXES)
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="E.g. 1,2.", rich_help_panel=AXES)] = None,
    steps: Annotated[int | None, typer.Option(help="Budget of each training in steps.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget of each training in minutes.")] = None,
    test: Annotated[
        list[str] | None, typer.Option(help="Files of the test part; a tenth of DATA is held out if not given.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder; `sweep` if not given.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Any key, e.g. model.channels=32.", metavar="KEY=VALUE")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", "--dry-run", help="Print points and expected time, and stop.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Processes at once.", min=1, rich_help_panel=RUNNING)] = 1,
    ray: Annotated[
        str | None,
        typer.Option(help="Use Ray: the address of a cluster, or `local`.", metavar="ADDRESS", rich_help_panel=RUNNING),
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Run failed points again.", rich_help_panel=RUNNING)] = False,
    json: Json = False,
) -> None:
    """Train and judge many models under one budget, and say which to take.

    Smaller training sets are parts of larger ones; all models are judged on the same held-out structures. Interrupted,
    the same command goes on. The folder gets table.csv, table.json, report.html and pictures.
    """
    given: dict[str, Any] = {"presets": presets, "l_max": l_max, "sizes": sizes, "seeds": seeds}
    given |= {"steps": steps, "minutes": minutes, "test": test, "output": output}
    config = _config(data, given, change or ())
    if plan:
        _print_plan(config, jobs, json)
        return
    result = _run(config, _engine(config, jobs, ray), jobs, retry)
    if json:
        print_json(_document(result))
    else:
        _print(result)
    if result.unfinished:
        note(f"stopped with {len(result.unfinished)} points to come; go on with: mlanet sweep {result.folder}")
        raise typer.Exit(143)
    if not result.done:
        raise typer.Exit(1)


def _config(words: list[str], given: dict[str, Any], changes: Any) -> SweepConfig:
    """Settings from a YAML, a folder or data files, and from options, which count for more."""
    from mlanet.config import parse, preset_names, read_yaml, to_data, with_overrides
    from mlanet.sweep.config import SweepConfig
    from mlanet.sweep.folder import SETTINGS, read_folder

    # `--presets a b` leaves b among the words; no data file is called like a preset.
    more = [word for word in words if given["presets"] and word in preset_names() and not Path(word).exists()]
    words = [word for word in words if word not in more]
    settings: dict[str, Any] = {}
    source = "mlanet sweep"
    if len(words) == 1 and (Path(words[0]) / SETTINGS).is_file():
        settings = to_data(read_folder(Path(words[0])).given) | {"output": words[0]}
    elif len(words) == 1 and words[0].endswith((".yaml", ".yml")):
        settings, source = read_yaml(words[0]), words[0]
    elif words:
        settings = {"data": {"files": words}}
    for name in ("presets", "l_max", "sizes", "seeds"):
        value = given[name]
        if value is not None:
            listed = [
                part.strip() for text in ([value] if isinstance(value, str) else value) for part in text.split(",")
            ]
            settings[name] = [*listed, *more] if name == "presets" else _numbers(",".join(listed), name)
    if given["steps"] is not None or given["minutes"] is not None:
        amounts = {key: given[key] for key in ("steps", "minutes") if given[key] is not None}
        others = {key: value for key, value in settings.get("budget", {}).items() if key not in AMOUNTS}
        settings["budget"] = others | amounts
    if given["test"]:
        settings["data"] = settings.get("data", {}) | {"test": given["test"]}
    if given["output"] is not None:
        settings["output"] = str(given["output"])
    settings = with_overrides(settings, changes)
    if not settings.get("budget"):
        raise typer.BadParameter("give a budget: --steps or --minutes (in a YAML: budget: {steps: 2000})")
    return parse(settings, SweepConfig, source)


def _numbers(text: str, name: str) -> list[int]:
    """Whole numbers of an option."""
    return numbers_of(f"--{name.replace('_', '-')}", text, "1,2,3", int)


def _engine(config: SweepConfig, jobs: int, ray: str | None) -> Engine:
    """Processes here, or Ray."""
    import torch

    from mlanet.sweep.engines import on_ray, processes
    from mlanet.training.processes import Processes

    gpu = config.run.device.startswith("cuda") or (config.run.device == "auto" and torch.cuda.is_available())
    if ray is not None:
        return on_ray(None if ray == NO_ADDRESS else ray, gpu)
    Processes(config.run.device)  # a device that is not there is an error now, not of every point
    free = gpu and ":" not in config.run.device
    return processes(jobs, torch.cuda.device_count() if free else 0)


def _run(config: SweepConfig, engine: Engine, jobs: int, retry: bool) -> SweepResult:
    """The sweep with a bar; after Ctrl-C it says how to go on."""
    from mlanet.sweep.run import sweep as run

    try:
        return run(config, engine, at_once=jobs, retry=retry, watch=progress)
    except KeyboardInterrupt:
        note_once(
            f"stopped by Ctrl-C; kept: {config.output} with all finished points and the checkpoints of running ones; "
            f"go on with: mlanet sweep {config.output}"
        )
        raise


def _document(result: SweepResult) -> dict[str, Any]:
    return {
        "folder": result.folder,
        "done": result.done,
        "failed": len(result.rows) - result.done,
        "unfinished": result.unfinished,
        "remarks": result.remarks,
        "recommendation": result.recommendation,
        "rows": result.rows,
        "files": result.files,
    }


def _print(result: SweepResult) -> None:
    """The table on stdout, the advice below it."""
    from mlanet.sweep.plan import model_name

    errors, costs = ("E, meV/atom>", "F, meV/Å>", "σ, GPa>"), ("s/epoch>", "µs/atom>", "MiB>")
    columns = ("model", "structures>", "seed>", *errors, *costs, "remark")
    cells = [_cells(row, model_name(row.preset, row.l_max)) for row in result.rows]
    print_table("errors of the test part (MAE)", columns, cells)
    for sentence in (*result.remarks, *result.recommendation.sentences):
        say(sentence)
    for path in result.files:
        note(f"wrote {path}")


def _cells(row: Row, model: str) -> tuple[str, ...]:
    numbers = (
        row.energy_mae_meV_per_atom,
        row.forces_mae_meV_per_A,
        row.stress_mae_GPa,
        row.seconds_per_epoch,
        row.microseconds_per_atom,
        row.peak_memory_MiB,
    )
    shown = ("–" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}" for value in numbers)
    return model, str(row.size), str(row.seed), *shown, row.remark


def _print_plan(config: SweepConfig, jobs: int, json: bool) -> None:
    """Points with expected times; nothing is trained or written."""
    from mlanet.sweep.estimate import estimate
    from mlanet.sweep.folder import prepare
    from mlanet.sweep.run import available_cores

    started = prepare(config, max(1, available_cores() // jobs))
    expected = estimate(config, started)
    minutes = expected.total / 60 / jobs
    rows = [{**point._asdict(), "seconds": seconds} for point, seconds in expected.points.items()]
    if json:
        print_json({"points": rows, "minutes": minutes, "jobs": jobs, "remarks": started.plan.remarks})
        return
    cells = [(point.model, str(point.size), str(point.seed), f"{s:.0f}") for point, s in expected.points.items()]
    print_table("nothing was trained; the points would be", ("model", "structures>", "seed>", "about, s>"), cells)
    for remark in started.plan.remarks:
        say(remark)
    print_pairs("", [("points", str(len(rows))), ("at once", str(jobs)), ("about, minutes", f"{minutes:.1f}")])
