"""`mlanet calibrate`: where a model can be trusted, measured and written into its file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlanet.cli.options import Json, KeepUnconverged, Keys
from mlanet.cli.output import note, print_json, say


def calibrate(
    model: Annotated[str, typer.Argument(help="A model file, or a packaged model.", metavar="MODEL")],
    files: Annotated[list[Path], typer.Argument(help="The labelled training set.", metavar="TRAINING…")],
    held_out: Annotated[
        list[Path] | None,
        typer.Option("--held-out", help="Labelled structures that it has not seen; may be repeated."),
    ] = None,
    key: Keys = None,
    keep_unconverged: KeepUnconverged = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write a copy; else the model file is replaced.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure the domain of a model's training set and its errors on data held back, and write them into MODEL.

    The weights stay. `mlanet train` and `mlanet finetune` do the same when they end; this is for models from before.
    """
    from mlanet.workflows.datasets import label_keys
    from mlanet.workflows.limits import calibrate_file

    keys = label_keys(key or ())
    calibration = calibrate_file(
        model, files, held_out or (), keys, output, tell=note, keep_unconverged=keep_unconverged
    )
    if json:
        print_json({"model": model, "file": output or model, "limits": calibration})
    else:
        say(calibration)
