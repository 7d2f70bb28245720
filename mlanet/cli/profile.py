"""`mlanet profile …`: how fast and how heavy models are, where it goes, and what will fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlanet.cli.computing import computing
from mlanet.cli.options import Json
from mlanet.cli.output import note, note_once, print_json, print_pairs, print_table, progress, value_text
from mlanet.execution import Execution

if TYPE_CHECKING:
    from ase import Atoms

    from mlanet.profiling.fleet import Settings
    from mlanet.profiling.measurement import Measurement

app = typer.Typer(
    help="Measure, explain and predict the memory and speed of models.", no_args_is_help=True, rich_markup_mode="rich"
)

Models = Annotated[
    list[str],
    typer.Argument(
        help="Presets, model files or YAMLs, with changes as leignn:channels=32; names of --peers.", metavar="MODELS…"
    ),
]
Systems = Annotated[
    list[str],
    typer.Option(
        "--system", "-s", help="Crystal and atoms, as LiCoO2:96 (Si, Cu, NaCl, LiCoO2, bilayer, CO2), or a file."
    ),
]
Rounds = Annotated[int, typer.Option(help="Interleaved rounds that count.", min=1)]
Folder = Annotated[Path, typer.Option("--output", "-o", help="Folder for CSV, JSON and the HTML report.")]
Threads = Annotated[int, typer.Option(help="Threads of each model's process.", min=1, rich_help_panel="Computing")]
Peers = Annotated[
    Path | None,
    typer.Option(help="Adapter file of other packages' models (benchmarks/peers.py).", rich_help_panel="Computing"),
]
Limit = Annotated[
    float | None, typer.Option(help="GiB that a process may take beyond its model.", rich_help_panel="Computing")
]


@app.command("compare")
@computing("dtype", "device", dtype="float32")
def compare(
    models: Models,
    system: Systems = ["LiCoO2:96"],  # noqa: B006  (typer copies it)
    mode: Annotated[list[str], typer.Option(help="infer, train.")] = ["infer", "train"],  # noqa: B006
    rounds: Rounds = 7,
    errors: Annotated[
        Path | None, typer.Option(help="CSV with columns model and --error-column, for error against time.")
    ] = None,
    error_column: Annotated[str, typer.Option(help="Column of --errors.")] = "forces_mae_meV_per_A",
    output: Folder = Path("profile"),
    json: Json = False,
    threads: Threads = 1,
    peers: Peers = None,
    limit: Limit = None,
    *,
    execution: Execution,
) -> None:
    """Time and memory of MODELS on the same systems, in interleaved rounds."""
    from mlanet.profiling.compare import Plan
    from mlanet.profiling.compare import compare as run
    from mlanet.profiling.measurement import write_rows
    from mlanet.profiling.report import compare_report

    settings = _settings(models, execution, threads, limit, peers)
    known = _errors(errors, error_column)
    plan = Plan(models, _systems(system), _modes(mode), rounds, settings)

    def save(rows: list[Measurement]) -> list[Path]:
        return write_rows([row.flat() for row in rows], output, "compare", {"rounds": rounds}) if rows else []

    try:
        rows = run(plan, progress, save)
    except KeyboardInterrupt:
        note_once(f"stopped by Ctrl-C; kept: what was measured until then, in {output}/compare.csv and .json")
        raise
    files = save(rows)
    page = output / "compare.html"
    compare_report(page, rows, known, error_column)
    _show(rows, [*files, page], json)


@app.command("speed")
@computing("dtype", "device", dtype="float32")
def speed(
    models: Models,
    system: Systems = ["LiCoO2:96"],  # noqa: B006
    rounds: Rounds = 7,
    output: Folder = Path("profile"),
    json: Json = False,
    threads: Threads = 1,
    peers: Peers = None,
    *,
    execution: Execution,
) -> None:
    """Neighbour list, forward, backward, double backward and optimiser apart."""
    from mlanet.profiling.compare import Plan, phases
    from mlanet.profiling.measurement import write_rows
    from mlanet.profiling.report import PART_ORDER, speed_report

    settings = _settings(models, execution, threads, None, peers)
    rows = phases(Plan(models, _systems(system), ["infer"], rounds, settings), progress)
    files = write_rows(rows, output, "speed", {"rounds": rounds})
    speed_report(output / "speed.html", rows)
    if json:
        print_json({"rows": rows, "files": [*files, output / "speed.html"]})
        return
    parts = [name for name in PART_ORDER if any(name in row for row in rows)]
    table = [
        [row["model"], row["system"], *(value_text(row.get(name)) for name in parts), row["failure"]] for row in rows
    ]
    print_table("ms", ("model", "system", *(f"{name}>" for name in parts), "failure"), table)
    note(f"wrote {output / 'speed.html'}")


@app.command("memory")
@computing("dtype", "device", dtype="float32")
def memory(
    models: Models,
    system: Systems = ["LiCoO2:96"],  # noqa: B006
    mode: Annotated[list[str], typer.Option(help="infer, train.")] = ["infer", "train"],  # noqa: B006
    output: Folder = Path("profile"),
    json: Json = False,
    peers: Peers = None,
    *,
    execution: Execution,
) -> None:
    """Peaks of tensors and of the process or GPU, and what each module keeps for the backward pass."""
    from mlanet.profiling.compare import Plan
    from mlanet.profiling.compare import memory as run
    from mlanet.profiling.measurement import write_rows
    from mlanet.profiling.report import memory_report

    settings = _settings(models, execution, 1, None, peers)
    rows, saved = run(Plan(models, _systems(system), _modes(mode), 1, settings), progress)
    files = write_rows([row.flat() for row in rows], output, "memory", {"saved_bytes": saved})
    memory_report(output / "memory.html", rows, saved)
    _show(rows, [*files, output / "memory.html"], json, {"saved_bytes": saved})


@app.command("scale")
@computing("dtype", "device", dtype="float32")
def scale(
    models: Models,
    crystal: Annotated[str, typer.Option(help="Si, Cu, NaCl, LiCoO2, bilayer or CO2.")] = "LiCoO2",
    mode: Annotated[list[str], typer.Option(help="infer, train.")] = ["infer", "train"],  # noqa: B006
    max_atoms: Annotated[int, typer.Option(help="Largest system.", min=96)] = 100_000,
    max_seconds: Annotated[float, typer.Option(help="Stop growing when one call takes longer.", min=0.01)] = 20.0,
    output: Folder = Path("profile"),
    json: Json = False,
    threads: Threads = 1,
    peers: Peers = None,
    limit: Limit = None,
    *,
    execution: Execution,
) -> None:
    """Ever larger crystals until memory ends: time and memory against atoms, with fitted exponents."""
    from mlanet.profiling.measurement import write_rows
    from mlanet.profiling.report import scale_report
    from mlanet.profiling.scale import growth_rows, sizes_up_to
    from mlanet.profiling.scale import scale as run

    settings = _settings(models, execution, threads, limit, peers)
    rows, growths = run(models, crystal, _modes(mode), settings, sizes_up_to(max_atoms), max_seconds, note)
    files = write_rows([row.flat() for row in rows], output, "scale", {"growth": growth_rows(growths)})
    scale_report(output / "scale.html", rows, growths)
    _show(rows, [*files, output / "scale.html"], json, {"growth": growth_rows(growths)})
    if not json:
        cells = [
            [one.model, one.mode, str(one.exponent), str(one.memory_exponent), str(one.largest), one.ended]
            for one in growths
        ]
        print_table("growth", ("model", "mode", "time exponent>", "memory exponent>", "largest>", "ended"), cells)


@app.command("predict")
@computing("dtype", "device", dtype="float32")
def predict(
    models: Models,
    atoms: Annotated[int, typer.Option(help="Atoms of the cell asked about.", min=1)] = 1000,
    neighbors: Annotated[float, typer.Option(help="Neighbours per atom within the cutoff.", min=1)] = 50.0,
    memory: Annotated[
        float | None, typer.Option(help="GiB of the card or machine; what is free here if not given.", min=0.01)
    ] = None,
    json: Json = False,
    threads: Threads = 1,
    *,
    execution: Execution,
) -> None:
    """Memory and time of a cell that is not computed, and the largest cell that fits; this package's models only."""
    import torch

    from mlanet.profiling.ours import own
    from mlanet.profiling.predict import limit_of
    from mlanet.profiling.predict import predict as run
    from mlanet.profiling.subject import Request

    _settings(models, execution, threads, None, None)
    torch.set_num_threads(threads)
    limit = limit_of(torch.device(execution.device), memory)
    rows = []
    for name in progress(models, "measuring small crystals", len(models)):
        subject = own(name, Request((6,), neighbors, execution))
        rows += run(name, subject.module, atoms, neighbors, limit)
    if json:
        print_json({"predictions": [row.__dict__ for row in rows]})
        return
    title = f"{atoms} atoms with {neighbors:g} neighbours each; largest cell within {limit:.4g} GiB"
    columns = ("model", "mode", "GiB>", "ms>", "largest, atoms>", "its ms>", "KiB/atom>", "KiB/pair>")
    cells = [
        list(map(value_text, (row.model, row.mode, row.GiB, row.ms, row.largest_atoms, row.largest_ms)))
        + list(map(value_text, (row.KiB_per_atom, row.KiB_per_pair)))
        for row in rows
    ]
    print_table(title, columns, cells, "memory: forecast to a tenth; time: of this device, if memory stays as fast")


@app.command("trace")
@computing("dtype", "device", dtype="float32")
def trace(
    model: Annotated[str, typer.Argument(help="As in `compare`.", metavar="MODEL")],
    system: Annotated[str, typer.Option("--system", "-s", help="As in `compare`.")] = "LiCoO2:96",
    mode: Annotated[str, typer.Option(help="infer or train.")] = "train",
    output: Folder = Path("profile"),
    json: Json = False,
    threads: Threads = 1,
    peers: Peers = None,
    *,
    execution: Execution,
) -> None:
    """Time by layer, operation and kernel, beside what this machine can do; a trace for Perfetto."""
    from mlanet.profiling.compare import started
    from mlanet.profiling.fleet import as_data
    from mlanet.profiling.measurement import provenance
    from mlanet.profiling.report import trace_report

    atoms = _systems([system])[system]
    remote = started(model, [atoms], _settings([model], execution, threads, None, peers))
    try:
        remote.ask("load", key=system, structures=[as_data(atoms)])
        path = (output / "trace.json").resolve()
        traced = remote.ask("trace", key=system, mode=_modes([mode])[0], path=str(path))
        traced["machine"] = remote.facts["machine"] | provenance() | {"dtype": execution.dtype}
    finally:
        remote.close()
    trace_report(output / "trace.html", model, system, mode, traced)
    if json:
        print_json({**traced, "files": [path, output / "trace.html"]})
        return
    best = traced["ceilings"]
    pairs = [("undisturbed", f"{traced['ms']:.4g} ms"), ("copy", f"{best['gb_per_s']:.4g} GB/s")]
    print_pairs("", [*pairs, ("matrix product", f"{best['gflop_per_s']:.4g} GFLOP/s")])
    for key in ("layers", "operations"):
        rows = traced[key][:12]
        columns = [f"{name}>" if not isinstance(value, str) else name for name, value in rows[0].items()]
        print_table(key, columns, [[value_text(value) for value in row.values()] for row in rows])
    for written in (output / "trace.html", path):
        note(f"wrote {written}")


def _settings(
    models: list[str], execution: Execution, threads: int, limit: float | None, peers: Path | None
) -> Settings:
    """Check every name before anything runs."""
    from mlanet.profiling.fleet import Settings, require_known

    settings = Settings(execution, threads, limit, peers)
    require_known(models, settings)
    return settings


def _systems(names: list[str]) -> dict[str, Atoms]:
    from mlanet.profiling.systems import system

    try:
        return {name: system(name) for name in names}
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from None


def _modes(names: list[str]) -> list[str]:
    from mlanet.profiling.steps import MODES

    for name in names:
        if name not in MODES:
            raise typer.BadParameter(f"--mode {name}: expected {' or '.join(MODES)}")
    return names


def _errors(path: Path | None, column: str) -> dict[str, float]:
    """model -> error, from a table that `benchmarks/compare.py` or `mlanet sweep` writes."""
    import csv

    if path is None:
        return {}
    try:
        rows = list(csv.DictReader(path.open()))
        return {row["model"]: float(row[column]) for row in rows if row[column]}
    except (OSError, KeyError, ValueError) as error:
        raise typer.BadParameter(f"--errors {path}: needs columns model and {column} with numbers ({error})") from None


def _show(rows: list[Measurement], files: list[Path], json: bool, more: dict[str, object] | None = None) -> None:
    """Rows as a table or as one document; columns in which nothing stands are left out."""
    from mlanet.profiling.measurement import busy

    warning = busy(rows)
    if json:
        document = {"rows": [row.flat() for row in rows], "remarks": [warning] if warning else [], **(more or {})}
        print_json(document | {"files": files})
        return
    columns = (
        "model",
        "system",
        "mode",
        "atoms>",
        "edges>",
        "ms>",
        "processor ms>",
        "µs/atom>",
        "tensors>",
        "process>",
    )
    cells = [
        list(map(value_text, (row.model, row.system, row.mode, row.atoms, row.edges, row.ms, row.processor_ms)))
        + list(
            map(value_text, (row.us_per_atom, row.tensor_MiB, row.resident_MiB or row.reserved_MiB, row.failure[:80]))
        )
        for row in rows
    ]
    table = zip((*columns, "failure"), zip(*cells, strict=True), strict=True)
    shown = [(name, values) for name, values in table if any(values)]
    caption = "ms: wall time; processor ms: of all threads; tensors, process: MiB at the peak, above model and inputs"
    print_table("", [name for name, _ in shown], list(zip(*(values for _, values in shown), strict=True)), caption)
    if warning:
        note(f"warning: {warning}")
    for path in files:
        note(f"wrote {path}")
