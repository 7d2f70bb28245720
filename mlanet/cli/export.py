"""`mlanet export`: models for programs that know nothing of Python."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlanet.cli.computing import Precision
from mlanet.cli.options import Json
from mlanet.cli.output import note, print_json, print_pairs, say

app = typer.Typer(help="Write a model for programs without Python.", no_args_is_help=True)


@app.callback()
def export() -> None:
    """Write a model for programs without Python."""


@app.command("native")
def native(
    model: Annotated[str, typer.Argument(help="A packaged model or a model file.", metavar="MODEL")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file, e.g. NAME.mlanet.")],
    dtype: Annotated[Precision | None, typer.Option(help="Precision; the model's own if not given.")] = None,
    json: Json = False,
) -> None:
    """Write MODEL as a flat file for the native engine: C++ without torch, inside other programs (docs/native.md).

    What the engine says is compared with the model before anything is written, where there is a C++ compiler.
    """
    from mlanet.workflows.export import export as run

    written = run(model, output, None if dtype is None else dtype.value, note)
    if json:
        print_json(written)
        return
    print_pairs(
        f"{output} is written",
        [
            ("elements", str(written["elements"])),
            ("cutoff, Å", str(written["cutoff"])),
            ("precision", str(written["precision"])),
            ("size, MB", f"{written['bytes'] / 1e6:.2f}"),
            ("SHA-256 of the model", str(written["digest"])),
        ],
    )
    if written["compared"]:
        say(
            f"compared with the model on {written['compared_atoms']} atoms: energies differ by at most "
            f"{1000 * written['energy_difference_eV_per_atom']:.1e} meV/atom, forces by at most "
            f"{1000 * written['force_difference_eV_per_A']:.1e} meV/Å (the largest force is "
            f"{written['largest_force_eV_per_A']:.2g} eV/Å)"
        )
