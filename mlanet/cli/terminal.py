"""Standard output and error that can show every character somehow, whatever the terminal."""

from __future__ import annotations

import codecs
import io
import sys
import warnings

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
    """Let stdout and stderr write any text, whatever encoding the terminal has, and warnings act on no terminal."""
    codecs.register_error("mlanet", _nearest)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="mlanet")
    if warnings.formatwarning is not _warning_line:
        _warning_line.former = warnings.formatwarning  # type: ignore[attr-defined]
        warnings.formatwarning = _warning_line


def _warning_line(*args: object, **kwargs: object) -> str:
    """What Python writes of a warning, in characters that do nothing."""
    return plain(_warning_line.former(*args, **kwargs))  # type: ignore[attr-defined]
