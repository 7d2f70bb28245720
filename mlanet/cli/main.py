"""`mlanet`: the app, its commands, and how errors become one message and an exit status."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated

import typer

from mlanet.cli import (
    calibrate,
    check,
    data,
    diffusion,
    distill,
    doctor,
    evaluate,
    exfoliate,
    export,
    finetune,
    info,
    lammps,
    md,
    neb,
    output,
    predict,
    presets,
    profile,
    properties,
    relax,
    select,
    sweep,
    train,
    trajectory,
)
from mlanet.cli.output import print_warning
from mlanet.cli.terminal import prepare_streams
from mlanet.errors import MLANetError
from mlanet.ops.cpp.told import TELL
from mlanet.version import __version__

app = typer.Typer(
    name="mlanet",
    help="Machine-learning interatomic potentials: energy (eV), forces (eV/Å) and stress of molecules and crystals.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"mlanet {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Machine-learning interatomic potentials: energy (eV), forces (eV/Å) and stress of molecules and crystals."""


app.command("predict", rich_help_panel="Use a model")(predict.predict)
app.command("evaluate", rich_help_panel="Use a model")(evaluate.evaluate)
app.command("relax", rich_help_panel="Use a model")(relax.relax)
app.command("md", rich_help_panel="Use a model")(md.md)
app.command("trajectory", rich_help_panel="Use a model")(trajectory.trajectory)
app.command("eos", rich_help_panel="Use a model")(properties.eos)
app.command("elastic", rich_help_panel="Use a model")(properties.elastic)
app.command("phonon", rich_help_panel="Use a model")(properties.phonon)
app.command("neb", rich_help_panel="Use a model")(neb.neb)
app.command("diffusion", rich_help_panel="Use a model")(diffusion.diffusion)
app.command("exfoliate", rich_help_panel="Use a model")(exfoliate.exfoliate)
app.add_typer(export.app, name="export", rich_help_panel="Use a model")
app.command("check", rich_help_panel="Use a model")(check.check)
app.command("info", rich_help_panel="Use a model")(info.info)
app.command("train", rich_help_panel="Make a model")(train.train)
app.command("finetune", rich_help_panel="Make a model")(finetune.finetune)
app.command("calibrate", rich_help_panel="Make a model")(calibrate.calibrate)
app.command("select", rich_help_panel="Make a model")(select.select)
app.command("distill", rich_help_panel="Make a model")(distill.distill)
app.command("sweep", rich_help_panel="Make a model")(sweep.sweep)
app.add_typer(lammps.app, name="lammps", rich_help_panel="Use a model")
app.add_typer(data.app, name="data", rich_help_panel="Make a model")
app.command("presets", rich_help_panel="Make a model")(presets.presets)
app.add_typer(profile.app, name="profile", rich_help_panel="This installation")
app.command("doctor", rich_help_panel="This installation")(doctor.doctor)


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status.

    0 done · 1 a check found something wrong · 2 wrong usage or input · 3 a file that cannot be read back or written
    · 130 interrupted. An error that is not a `MLANetError` is a bug and keeps its traceback.
    """
    prepare_streams()
    output.WORDS[:] = sys.argv[1:] if arguments is None else arguments
    try:
        with warnings.catch_warnings():
            warnings.showwarning = print_warning
            TELL[:] = [output.note]
            app(args=arguments, prog_name="mlanet")
    except MLANetError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("interrupted; nothing is kept but what is named above", file=sys.stderr)
        return 130
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
