"""`mlanet check`: the physical laws, asked of a user's model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlanet import DEFAULT_MODEL
from mlanet.cli.computing import ONCE, computing
from mlanet.cli.output import Json, Model, print_json, print_table
from mlanet.execution import Execution

if TYPE_CHECKING:
    from mlanet.laws import LawResult


@computing(*ONCE)
def check(
    model: Model = DEFAULT_MODEL,
    structures: Annotated[
        list[Path] | None, typer.Argument(help="Systems to ask about; a few small ones if not given.", metavar="FILES…")
    ] = None,
    json: Json = False,
    *,
    execution: Execution,
) -> None:
    """Ask a model for the laws of physics, in float64: invariances, F = -dE/dR, stress by strain, smooth cutoff, ...

    Exit status 1 where a law that the model promises is broken.
    """
    from rich.console import Console

    from mlanet.workflows.check import check_model

    with Console(stderr=True).status("measuring", spinner="dots") as status:
        results = check_model(model, structures or (), execution, lambda law: status.update(f"measuring: {law}"))
    broken = [one for one in results if one.promised and not one.holds]
    if json:
        print_json({"model": model, "laws": results, "broken": len(broken)})
    else:
        rows = [(one.law, _verdict(one), f"{one.deviation:.1e}", f"{one.tolerance:.0e}", one.detail) for one in results]
        print_table("", ("law", "", "deviation>", "tolerance>", "of"), rows)
    if broken:
        raise typer.Exit(1)


def _verdict(one: LawResult) -> str:
    """Three outcomes: a law that is not promised may be broken."""
    if one.holds:
        return "holds"
    return "BROKEN" if one.promised else "not promised"
