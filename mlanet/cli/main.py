"""`mlanet`: the app, its commands, and how errors become one message and an exit status."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated

import typer

from mlanet.cli import output
from mlanet.cli.commands import LazyGroup
from mlanet.cli.output import print_warning
from mlanet.cli.terminal import prepare_streams
from mlanet.errors import MLANetError
from mlanet.ops.cpp.listeners import LISTENERS
from mlanet.version import __version__

app = typer.Typer(
    name="mlanet",
    cls=LazyGroup,
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


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status.

    0 done · 1 a check found something wrong · 2 wrong usage or input · 3 a file that cannot be read back or written
    · 130 interrupted. An error that is not a `MLANetError` is a bug and keeps its traceback.
    """
    prepare_streams()
    output.WORDS[:] = sys.argv[1:] if arguments is None else arguments
    output.SAID.clear()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = print_warning
            LISTENERS[:] = [output.note]
            app(args=arguments, prog_name="mlanet")
    except MLANetError as error:
        output.note(f"error: {error}")
        return error.exit_status
    except SystemExit as end:
        if _is_interruption(end) and not any(said.startswith(output.STOPPED) for said in output.SAID):
            output.note(f"{output.STOPPED}; nothing is kept but what is named above")
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _is_interruption(end: SystemExit) -> bool:
    """Whether typer has made this of a Ctrl-C."""
    return isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt)
