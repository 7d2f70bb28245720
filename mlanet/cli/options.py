"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
Model = Annotated[
    str,
    typer.Option("--model", "-m", help="Name of a packaged model, or a model file (.safetensors).", metavar="MODEL"),
]
Members = Annotated[
    list[str] | None,
    typer.Option(
        "--member",
        help="A further model, to make a committee with MODEL (repeat it): the answer is their mean, its standard "
        "error how far they are apart.",
        metavar="MODEL",
    ),
]
Files = Annotated[
    list[Path],
    typer.Argument(
        help="Structure files: extxyz, CIF, POSCAR, traj, db … (also .xz, .gz), or folders of them.", metavar="FILES…"
    ),
]
KeepGoing = Annotated[
    bool,
    typer.Option(
        "--keep-going", help="Pass over files and frames that cannot be used; list them at the end, status 1."
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with what the same command has left when it was stopped.")
]
Picture = Annotated[
    bool, typer.Option("--picture/--no-picture", help="Draw one when the answer is there; without takes a second less.")
]
MaxEdges = Annotated[
    int,
    typer.Option(help="Pairs of atoms per batch; fewer need less memory.", min=1, rich_help_panel="Computing"),
]
Workers = Annotated[
    int, typer.Option("--workers", help="Processes that compute at once.", min=1, rich_help_panel="Computing")
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        help="Compute on a Ray cluster: its address, auto, or local.",
        metavar="ADDRESS",
        rich_help_panel="Computing",
    ),
]
Keys = Annotated[
    list[str] | None,
    typer.Option("--key", help="Where a label stands, e.g. energy=dft_energy; may be repeated.", metavar="LABEL=KEY"),
]

KeepUnconverged = Annotated[
    bool, typer.Option("--keep-unconverged", help="Also frames whose electrons did not converge.")
]
