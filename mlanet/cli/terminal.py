"""Standard output and error that can show every character somehow, whatever the terminal."""

from __future__ import annotations

import codecs
import io
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

from mlanet.errors import OutputError
from mlanet.plain import plain

_PLAINER = {
    "Å": "A", "²": "2", "³": "3", "·": "*", "…": "...", "−": "-", "–": "-", "→": "->", "≥": ">=", "≤": "<=", "±": "+-",
    "×": "x", "Δ": "D", "σ": "sigma", "λ": "lambda", "█": "#", "▌": "#", "━": "-", "≈": "~", "°": "deg", "µ": "u",
}  # fmt: skip
"""What stands for a character of the field where a terminal does not have it."""


def _nearest(error: UnicodeError) -> tuple[str, int]:
    """How a codec writes what it does not have: by a plainer character, else by its number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(
        _PLAINER.get(character) or character.encode("unicode_escape").decode() for character in text
    ), error.end


def prepare_streams() -> None:
    """Let stdout and stderr write any text, whatever encoding the terminal has, and warnings act on no terminal.

    One that is closed leads nowhere: its number would else be that of the first file that is opened.
    """
    _open_standard_streams()
    codecs.register_error("mlanet", _nearest)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="mlanet")
    if isinstance(sys.stdout, io.TextIOWrapper):
        _refuse_what_stdout_refuses(sys.stdout)
    if warnings.formatwarning is not _warning_line:
        _warning_line.former = warnings.formatwarning  # type: ignore[attr-defined]
        warnings.formatwarning = _warning_line


def _open_standard_streams() -> None:
    """Numbers 0 to 2, and Python's names for the last two, each with something behind it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - as long as the process


def _refuse_what_stdout_refuses(stdout: io.TextIOWrapper) -> None:
    """Make a full disk under stdout an `OutputError`; a pipe that nobody reads any more stays what it is."""
    for name in ("write", "flush"):
        if not hasattr(method := getattr(stdout, name), "refuses"):
            setattr(stdout, name, _refusing(method))


def _refusing(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*words: Any) -> Any:
        try:
            return method(*words)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"standard output: cannot be written: {error.strerror or error}") from None

    call.refuses = True  # type: ignore[attr-defined]
    return call


def _warning_line(*args: object, **kwargs: object) -> str:
    """What Python writes of a warning, in characters that do nothing."""
    return plain(_warning_line.former(*args, **kwargs))  # type: ignore[attr-defined]
