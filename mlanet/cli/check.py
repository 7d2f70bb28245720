"""`mlanet check`: the physical laws, asked of a user's model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlanet.cli.output import Device, Json, Model, print_json, print_table


def check(
    model: Model,
    structures: Annotated[
        list[Path] | None, typer.Argument(help="Systems to ask about; a few small ones if not given.", metavar="FILES…")
    ] = None,
    json: Json = False,
    device: Device = "cpu",
) -> None:
    """Ask a model for the laws of physics, in float64: invariances, F = -dE/dR, stress by strain, smooth cutoff, ...

    Exit status 1 where a law is broken.
    """
    from mlanet.workflows.check import check_model

    results = check_model(model, structures or (), device=device)
    broken = [one for one in results if not one.holds]
    if json:
        print_json({"model": model, "laws": results, "broken": len(broken)})
    else:
        rows = [(one.law, "holds" if one.holds else "BROKEN", one.deviation, one.detail) for one in results]
        print_table("", ("law", "", "deviation", "of"), rows)
    if broken:
        raise typer.Exit(1)
