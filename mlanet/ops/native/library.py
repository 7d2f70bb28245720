"""Compiles the C++ kernels for this machine, once for each l_max and precision, and loads them."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

from mlanet.errors import KernelError

SOURCES = Path(__file__).parent
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared", "-fopenmp", "-fno-math-errno", "-fno-trapping-math")
REALS = {torch.float32: "float", torch.float64: "double"}
TIME_LIMIT = 300.0
"""Seconds for the compiler, which needs about four."""


@functools.cache
def load(l_max: int, dtype: torch.dtype) -> ctypes.CDLL:
    """The library for one l_max and precision, compiled if this machine has not got it yet.

    It is kept in `$MLANET_CACHE`, or `~/.cache/mlanet`, under a name made of sources, compiler, flags and processor.

    Raises:
        KernelError: no compiler, or one that fails.
    """
    macros = (f"-DREAL={REALS[dtype]}", f"-DDEGREE={l_max}")
    found = compiler()
    place = _cache() / f"{_fingerprint(found, macros)}.so"
    if not place.exists():
        _compile(found, macros, place)
    try:
        return ctypes.CDLL(str(place))
    except OSError as error:
        raise KernelError(
            f"the compiled kernels {place} cannot be loaded: {error}; delete the file and try again"
        ) from error


def compiler() -> tuple[str, ...]:
    """`$CXX` with its arguments, or g++, c++ or clang++.

    Raises:
        KernelError: none of them is there.
    """
    named = os.environ.get("CXX")
    for name, *arguments in [shlex.split(named)] if named else [["g++"], ["c++"], ["clang++"]]:
        if found := shutil.which(name):
            return found, *arguments
    raise KernelError(
        f"the C++ compiler CXX={named} is not there" if named else "no C++ compiler (g++, c++ or clang++) is there"
    )


def _compile(found: tuple[str, ...], macros: tuple[str, ...], place: Path) -> None:
    """Into a file of its own first, so that a broken or a second compilation leaves nothing half done."""
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        target = Path(folder) / "kernels.so"
        done = _run([*found, *FLAGS, *macros, str(SOURCES / "entry.cpp"), "-o", str(target)])
        if done.returncode:
            complaint = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
            raise KernelError(f"{' '.join(found)} could not compile the kernels: {complaint.strip()}")
        os.replace(target, place)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelError(f"the C++ compiler {command[0]} does not run: {error}") from error


def _cache() -> Path:
    """Where libraries are kept; a private folder of this process if the place cannot be written."""
    try:  # there may be no home, or no right to write there
        place = Path(os.environ.get("MLANET_CACHE") or Path.home() / ".cache" / "mlanet") / "kernels"
        place.mkdir(parents=True, exist_ok=True)
        return place if os.access(place, os.W_OK) else _private()
    except (OSError, RuntimeError):
        return _private()


@functools.cache
def _private() -> Path:
    return Path(tempfile.mkdtemp(prefix="mlanet-kernels-"))


def _fingerprint(found: tuple[str, ...], macros: tuple[str, ...]) -> str:
    """Of everything that the machine code depends on; homes may be shared by machines of different processors."""
    version = " ".join(found) + _run([*found, "--version"]).stdout
    sources = [one.read_bytes() for one in sorted(SOURCES.glob("*.[hc]pp"))]
    text = "\n".join([version, *FLAGS, *macros, platform.machine(), _processor()])
    return hashlib.sha256(b"\0".join([text.encode(), *sources])).hexdigest()[:24]


def _processor() -> str:
    """What instructions it has, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
