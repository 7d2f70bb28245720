"""`mlanet select`: the structures of a pool that are worth labelling next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlanet.cli.computing import BATCHES, computing
from mlanet.cli.options import Files, Json, KeepGoing, MaxEdges, Members, Model
from mlanet.cli.output import note, print_json, print_table, progress, refused_part, report_refused, short_name
from mlanet.execution import Execution


@computing(*BATCHES)
def select(
    files: Files,
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="extxyz of the structures chosen.")],
    budget: Annotated[int, typer.Option("--budget", "-n", help="Structures at most.", min=1)] = 50,
    member: Members = None,
    keep_going: KeepGoing = False,
    json: Json = False,
    rows: Annotated[int, typer.Option(help="Lines of the printed table.", min=1)] = 20,
    max_edges: MaxEdges = 20_000,
    *,
    execution: Execution,
) -> None:
    """Choose from FILES (pools, trajectories) what to label next: uncertain, and unlike what is chosen already.

    Structures like one that was chosen are dropped, so there may be fewer than the budget. Labels in the files are
    kept, and energies of the model are not written.
    """
    from mlanet.workflows.answers import Refusals
    from mlanet.workflows.model import open_members, open_model
    from mlanet.workflows.select import select_files

    refused = Refusals() if keep_going else None
    potential = open_model(model, execution, tell=note)
    chosen = select_files(
        potential,
        files,
        output,
        budget,
        max_edges=max_edges,
        refused=refused,
        watch=lambda answered: progress(answered, "asking"),
        members=open_members(potential, model, member or (), execution, tell=note),
        tell=note,
    )
    if json:
        listed = [
            {"structure": frame.where, "uncertainty": frame.uncertainty, "extrapolation": frame.extrapolation}
            for frame in chosen
        ]
        print_json({"model": model, "selected": listed, "file": output, **refused_part(refused)})
    else:
        lines = [(short_name(one.where), f"{one.uncertainty:.3g}", one.extrapolation) for one in chosen[:rows]]
        more = f"and {len(chosen) - rows} more" if len(chosen) > rows else ""
        print_table("", ("structure", "uncertainty>", "training set"), lines, more)
        note(f"wrote {output}: {len(chosen)} structures")
    report_refused(refused)
