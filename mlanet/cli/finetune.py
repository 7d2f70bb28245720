"""`mlanet finetune`: a trained model and a few labelled structures become a model for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlanet.cli.options import Json
from mlanet.cli.output import note, print_json, print_table

Replay = Annotated[
    list[Path] | None,
    typer.Option(help="Old data to train on as well, against forgetting.", rich_help_panel="Old data"),
]
Old = Annotated[
    list[Path] | None, typer.Option(help="Old data to judge by, before and after.", rich_help_panel="Old data")
]


def finetune(
    model: Annotated[str, typer.Argument(help="Packaged model or model file to start from.", metavar="MODEL")],
    data: Annotated[list[Path], typer.Argument(help="New labelled structures.", metavar="FILES…")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for model, runs and page.")] = Path(
        "finetuned"
    ),
    valid: Annotated[float, typer.Option(help="Fraction of the new data set aside.", min=0.01, max=0.9)] = 0.2,
    seed: Annotated[int, typer.Option(help="Of the division.", min=0)] = 0,
    freeze: Annotated[
        list[str] | None, typer.Option(help="Parts that are not trained, as embedding, layers.0.")
    ] = None,
    set_key: Annotated[
        list[str] | None,
        typer.Option("--set", help="A key of `mlanet train`, as budget.steps=500.", metavar="KEY=VALUE"),
    ] = None,
    curve: Annotated[str, typer.Option(help="Compare with training from scratch at sizes, as 10,50,200.")] = "",
    replay: Replay = None,
    replay_limit: Annotated[
        int | None, typer.Option(min=1, help="So many of them.", rich_help_panel="Old data")
    ] = None,
    replay_share: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=0.99, help="Their share of each epoch; half if not given.", rich_help_panel="Old data"
        ),
    ] = None,
    old: Old = None,
    json: Json = False,
) -> None:
    """Fine-tune a model on new data.

    New elements are learnt, references move to the new level of theory, old data can be replayed, parts frozen.
    The same command goes on where it was stopped.
    """
    import dataclasses

    from mlanet.distill.finetune import Request
    from mlanet.distill.finetune import finetune as run
    from mlanet.errors import ConfigError

    try:
        sizes = tuple(int(word) for word in curve.split(",") if word)
    except ValueError:
        raise ConfigError(f"--curve '{curve}': expected numbers of structures, as 10,50,200") from None
    if not replay and (replay_limit is not None or replay_share is not None):
        raise ConfigError("--replay-limit and --replay-share are of the old data that --replay names; give it as well")
    request = Request(
        model=model,
        data=tuple(map(str, data)),
        folder=str(output),
        valid_fraction=valid,
        seed=seed,
        old=tuple(map(str, old or ())),
        replay=tuple(map(str, replay or ())),
        replay_limit=replay_limit,
        replay_share=replay_share,
        freeze=tuple(freeze or ()),
        curve=sizes,
        keys=tuple(set_key or ()),
    )
    result = run(request, note)
    if json:
        print_json(dataclasses.asdict(result))
        return
    rows = [
        [name, kind, f"{judgement[name]['energy_mae']:.4g}", f"{judgement[name]['forces_mae']:.4g}"]
        for name in result.after
        for kind, judgement in (("before", result.before), ("after", result.after))
        if name in judgement
    ]
    print_table(
        "", ["data", "model", "energy MAE, meV/atom>", "forces MAE, meV/Å>"], rows, f"{result.model}, {result.page}"
    )
