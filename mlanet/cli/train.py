"""`mlanet train`: one YAML, overridden by `key=value` words, becomes a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlanet.cli.output import Json, print_json, print_pairs


def train(
    config: Annotated[Path, typer.Argument(help="YAML of the training.", metavar="CONFIG.yaml")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Any key of the YAML, e.g. optimizer.lr=2e-3.", metavar="KEY=VALUE…")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint, exact to the bit.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print data, batches and sizes, and stop.")] = False,
    json: Json = False,
) -> None:
    """Train a model.

    The YAML is strict: an unknown key is an error with a suggestion. Several processes: torchrun -m mlanet train …
    """
    from mlanet.config import parse, read_yaml, with_overrides
    from mlanet.training.config import TrainConfig
    from mlanet.training.trainer import train as run

    parsed = parse(with_overrides(read_yaml(config), overrides or ()), TrainConfig, str(config))
    summary = run(parsed, resume=resume, dry_run=dry_run, progress=not json)
    if json:
        print_json(summary)
    else:
        print_pairs("", ((name, str(value)) for name, value in summary.items()))
