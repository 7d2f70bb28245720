"""Errors a user can act on: every one says what was wrong, where, and what is supported.

The command line turns any `MLANetError` into one message and its `exit_status`; anything else is a bug
and keeps its traceback.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from mlanet.plain import plain


class MLANetError(Exception):
    """Base of all errors that a user can cause and mend."""

    exit_status = 2

    def __str__(self) -> str:
        """The message; what it quotes of a file or name acts on no terminal."""
        return plain(super().__str__())


class ConfigError(MLANetError, ValueError):
    """A configuration file, preset or override that cannot be understood."""


class DataError(MLANetError, ValueError):
    """A structure, label or data file that cannot be used (the message names file, frame and atom)."""


class GeometryError(DataError):
    """A structure without a meaning: NaN position, singular periodic cell, overlapping atoms, no atoms."""


class NotFiniteError(GeometryError):
    """A structure for which the model gives NaN or infinity."""


class MissingLabelError(DataError):
    """A requested label that is nowhere to be found in the data."""


class UnsupportedElementError(DataError):
    """An element that the model has never seen."""


class CheckpointError(MLANetError):
    """A model or checkpoint file that is corrupted, of another kind, or cannot be written."""

    exit_status = 3


class NotConservativeError(MLANetError):
    """A task that needs forces derived from an energy, asked of a model whose forces are a direct head."""


class OutputError(MLANetError):
    """A result that cannot be written: no permission, no space, or it would overwrite an input."""

    exit_status = 3


class DivergedError(MLANetError):
    """A training whose loss or gradient is not finite any more, or a simulation that has exploded."""

    exit_status = 4


class KernelError(MLANetError):
    """Fast kernels that cannot be made or used on this machine; the plain computation always can."""


class EngineError(MLANetError):
    """A simulation program, such as LAMMPS, that refuses its input or stops."""


UNNAMED = "structure"
"""Stands in errors for a structure that nobody has named, as in a calculator."""


def named(error: MLANetError, where: str) -> MLANetError:
    """The error with file and frame in front, if they are not there already, in place of the word for what has no name.

    >>> named(DataError("structure, atom 2: has no place"), "si.xyz, frame 0")
    DataError('si.xyz, frame 0, atom 2: has no place')
    """
    text = str(error)
    if text.startswith(where):
        return error
    if text.startswith((f"{UNNAMED}: ", f"{UNNAMED}, ")):
        return type(error)(where + text.removeprefix(UNNAMED))
    return type(error)(f"{where}: {text}")


@contextlib.contextmanager
def naming(where: str) -> Iterator[None]:
    """Errors of a structure get the name of its file and frame, as by `named`."""
    try:
        yield
    except GeometryError as error:
        raise named(error, where) from None
