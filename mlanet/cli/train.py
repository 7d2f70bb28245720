"""`mlanet train`: one YAML, overridden by `key=value` words, becomes a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlanet.cli.options import Json
from mlanet.cli.output import command_again, note, note_once, print_json, print_pairs


def train(
    config: Annotated[Path, typer.Argument(help="YAML of the training.", metavar="CONFIG.yaml")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Any key of the YAML, e.g. optimizer.lr=2e-3.", metavar="KEY=VALUE…")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint, exact to the bit.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "--plan", help="Print data, batches and sizes, and stop.")
    ] = False,
    json: Json = False,
) -> None:
    """Train a model.

    The YAML is strict: an unknown key is an error with a suggestion. Several processes: torchrun -m mlanet train …
    """
    import dataclasses

    from mlanet.training.config import read_train_config
    from mlanet.training.trainer import plan
    from mlanet.training.trainer import train as run

    parsed = read_train_config(config, overrides or ())
    if dry_run:
        summary = plan(parsed)
        if json:
            print_json(summary)
        else:
            print_pairs("nothing was trained; the run would be", _pairs(summary))
        return
    again = command_again("--resume")
    try:
        result = run(parsed, resume=resume, progress=not json)
    except KeyboardInterrupt:
        note_once(_what_was_kept(Path(parsed.run.folder), again))
        raise
    summary = dataclasses.asdict(result)
    if json:
        print_json(summary)
    else:
        print_pairs("", _pairs(summary | {"best": _readable(result.best)}))
    if result.reason == "terminated":
        note(f"stopped by SIGTERM after step {result.steps}; go on with: {again}")
        raise typer.Exit(143)


def _what_was_kept(folder: Path, again: str) -> str:
    """After Ctrl-C: what of the run is there, and how to go on."""
    from mlanet.checkpoint import load_state
    from mlanet.errors import CheckpointError
    from mlanet.training.trainer import MODEL, STATE

    try:
        step = load_state(folder / STATE)[1]["progress"]["step"]
    except (CheckpointError, KeyError):
        return f"stopped by Ctrl-C before the first checkpoint; {folder} has nothing to go on from, start again"
    return f"stopped by Ctrl-C; kept: {folder / STATE} of step {step}, {folder / MODEL}; go on with: {again}"


def _pairs(summary: dict[str, object]) -> list[tuple[str, str]]:
    """Lists one entry per line."""
    lines = {name: value if isinstance(value, list) else [value] for name, value in summary.items()}
    return [(name, "\n".join(map(str, values))) for name, values in lines.items()]


def _readable(best: dict[str, float]) -> str:
    """The validation errors of the saved model with their units."""
    from mlanet.quantities import QUANTITIES

    errors = [(quantity, best[name]) for quantity in QUANTITIES if (name := f"valid_{quantity.name}_mae") in best]
    texts = [f"{one.name} MAE {error * one.factor:.4g} {one.compared}" for one, error in errors]
    return ", ".join(texts) or "no validation set"
