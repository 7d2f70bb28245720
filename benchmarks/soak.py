"""What only shows in the long run; every number is an option. See docs/reliability.md for what it promises.

python benchmarks/soak.py kills --train 90 --simulate 80 --sweep 30
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import tempfile
import warnings
from pathlib import Path
from typing import Annotated

os.environ.setdefault("OMP_NUM_THREADS", "1")

import typer

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
Count = Annotated[int, typer.Option(min=0)]


@app.callback()
def root() -> None:
    """One command for each kind of trouble."""


@app.command()
def kills(
    train: Count = 90,
    simulate: Count = 80,
    sweep: Count = 30,
    seed: int = 0,
    folder: Annotated[Path | None, typer.Option(help="For the runs; a temporary one if not given.")] = None,
    pictures: Annotated[bool, typer.Option(help="Draw them, which takes most of the time.")] = False,
    result: Annotated[Path | None, typer.Option("--json", help="Write the figures there.")] = None,
) -> None:
    """Kill trainings, simulations and sweeps at random instants; exit status 1 if anything was lost."""
    import torch
    from kills import draw_nothing, simulations, sweeps, trainings
    from kills import kills as run

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if not pictures:
        draw_nothing()
    place = Path(tempfile.mkdtemp(prefix="mlanet-soak-")) if folder is None else folder
    chance, tallies = random.Random(seed), []
    for name, make, count in (("train", trainings, train), ("md", simulations, simulate), ("sweep", sweeps, sweep)):
        if count:
            (place / name).mkdir(parents=True)
            tallies.append(run(make(place / name), count, place / name, chance))
            print(_line(**dataclasses.asdict(tallies[-1])), flush=True)
    if result is not None:
        result.write_text(json.dumps({"seed": seed, "kills": [dataclasses.asdict(one) for one in tallies]}, indent=1))
    lost = [loss for one in tallies for loss in one.losses]
    print(f"{sum(one.kills for one in tallies)} kills, {len(lost)} losses", *lost, sep="\n")
    raise typer.Exit(bool(lost))


def _line(work: str, kills: int, finished: int, seconds: float, losses: list[str], torn: int) -> str:
    inside = f", {torn} kills inside a frame" if torn else ""
    return f"{work}: {kills} kills, {finished} runs brought to their end, {len(losses)} losses{inside}; {seconds:.0f} s"


if __name__ == "__main__":
    app()
