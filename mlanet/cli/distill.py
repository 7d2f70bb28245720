"""`mlanet distill`: a slow, accurate teacher becomes a small, fast model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlanet.cli.options import Json
from mlanet.cli.output import note, print_json, print_pairs


def distill(
    config: Annotated[Path, typer.Argument(help="YAML of the distillation.", metavar="CONFIG.yaml")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Any key of the YAML, e.g. labels.count=2000.", metavar="KEY=VALUE…")
    ] = None,
    only_label: Annotated[
        bool, typer.Option("--only-label", help="Stop when the labels of a round are there.")
    ] = False,
    json: Json = False,
) -> None:
    """Train a small model on the labels of a large one.

    Structures are made from seeds by recipes, labelled by any ASE calculator in an interpreter of its own, and trained
    on; further rounds draw where the student is wrong. The same command goes on where it was stopped.
    """
    from mlanet.config import parse, read_yaml, with_overrides
    from mlanet.distill.config import DistillConfig
    from mlanet.distill.rounds import distill as run

    parsed = parse(with_overrides(read_yaml(config), overrides or ()), DistillConfig, str(config))
    result = run(parsed, note, only_label=only_label)
    if result is None:
        note(f"labels are in {parsed.folder}; train with: mlanet distill {config}")
        return
    if json:
        print_json({"labels": result.labels, "model": result.model, "page": result.page, "errors": result.errors})
        return
    lines = [
        (name, f"energy median {e['energy_median']:.4g} meV/atom, forces MAE {e['forces_mae']:.4g} meV/Å")
        for name, e in result.errors.items()
    ]
    print_pairs("", [("labels", str(result.labels)), *lines, ("model", str(result.model)), ("page", str(result.page))])
