"""`mlanet check`: the physical laws, asked of a user's model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlanet import DEFAULT_MODEL
from mlanet.cli.computing import ONCE, computing
from mlanet.cli.options import Json, Model, Picture
from mlanet.cli.output import answer, note, print_json, print_table, say, value_text
from mlanet.execution import Execution

if TYPE_CHECKING:
    from mlanet.laws import LawResult


@computing(*ONCE)
def check(
    model: Model = DEFAULT_MODEL,
    structures: Annotated[
        list[Path] | None, typer.Argument(help="Systems to ask about; a few small ones if not given.", metavar="FILES…")
    ] = None,
    pairs: Annotated[
        str, typer.Option(help="In place of the laws, curves of two atoms: Li-O,Si or all (each element with itself).")
    ] = "",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for these curves.")] = None,
    picture: Picture = True,
    json: Json = False,
    *,
    execution: Execution,
) -> None:
    """Measure the physical consistency of a model in float64: invariance, F = -dE/dR, stress by strain, smoothness.

    Exit status 1 where a law that the model promises is broken. With --pairs, how smooth wells of two atoms are: force
    flips (1 for a well), energy jumps (0), tortuosity (1), and mean |F + dE/dr| (0 where forces are a gradient).
    """
    if pairs:
        _diatomics(model, pairs, output, picture, json, execution)
        return
    if output is not None:
        raise typer.BadParameter("--output is the folder of curves; name their --pairs")
    from rich.console import Console

    from mlanet.workflows.check import check_model

    with Console(stderr=True).status("measuring", spinner="dots") as status:
        results = check_model(model, structures or (), execution, lambda law: status.update(f"measuring: {law}"))
    broken = [result for result in results if result.promised and not result.holds]
    if json:
        print_json({"model": model, "laws": results, "broken": len(broken)})
    else:
        rows = [
            (result.law, _verdict(result), f"{result.deviation:.1e}", f"{result.tolerance:.0e}", result.detail)
            for result in results
        ]
        print_table("", ("law", "", "deviation>", "tolerance>", "of"), rows)
        say(_conclusion(results))
    if broken:
        raise typer.Exit(1)


def _diatomics(model: str, pairs: str, output: Path | None, picture: bool, json: bool, execution: Execution) -> None:
    """A line for each pair of elements."""
    from mlanet.workflows.check import curves_drawing, diatomic_curves, write_curves

    curves = []
    for curve in diatomic_curves(model, pairs, execution):
        note(f"{curve.pair}: {len(curve.r)} distances")
        curves.append(curve)
    written = [] if output is None else write_curves(output, curves)
    pictures = [curves_drawing(output, curves)] if picture and output is not None else []
    numbers = [curve.numbers for curve in curves]
    document = {"model": model, "pairs": numbers, "files": written}
    answer(document, lambda: _print_curves(numbers), written, pictures, json)


def _print_curves(numbers: Sequence[Mapping[str, object]]) -> None:
    columns = ("pair", "flips>", "jump eV>", "tortuosity>", "|F + dE/dr| eV/Å>", "r Å>", "depth eV>")
    print_table("", columns, [tuple(map(value_text, row.values())) for row in numbers])


def _conclusion(results: Sequence[LawResult]) -> str:
    """One line on what is a screen of rows."""
    laws = list(dict.fromkeys(result.law for result in results))
    broken = list(dict.fromkeys(result.law for result in results if result.promised and not result.holds))
    given_up = list(dict.fromkeys(result.law for result in results if not (result.promised or result.holds)))
    all_hold = f"all that this model promises holds: {len(laws)} laws measured"
    said = f"BROKEN: {', '.join(broken)}" if broken else all_hold
    return said + (f"; broken, and not promised: {', '.join(given_up)}" if given_up else "")


def _verdict(result: LawResult) -> str:
    """Three outcomes: a law that is not promised may be broken."""
    if result.holds:
        return "holds"
    return "BROKEN" if result.promised else "not promised"
