"""Compiles C++ for this machine and loads it; knows nothing of torch."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mlanet.errors import KernelError
from mlanet.ops.cpp import cache
from mlanet.ops.cpp.listeners import announce

FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared", "-fopenmp", "-fno-math-errno", "-fno-trapping-math")
TIME_LIMIT = 300
"""Seconds of its own processor time for the compiler, which needs about four; a busy machine may take any time."""
PATIENCE = 3600.0
"""Seconds of the clock for a compiler that does nothing, and for another process that compiles."""


def load(source: Path, macros: tuple[str, ...], sources: Sequence[Path]) -> ctypes.CDLL:
    """The library of a source file, compiled if this machine has not got it yet.

    It is kept in `$MLANET_CACHE`, or `~/.cache/mlanet`, under a name made of sources, compiler, flags and processor.
    Loaded is a copy of what was read and found unchanged, so nobody can exchange or cut it afterwards.

    Args:
        source: the file to compile.
        macros: `-D…` for the compiler.
        sources: all that it includes, itself too.
    Raises:
        KernelError: no compiler, or one that fails.
    """
    command = compiler()
    name = _fingerprint(command, macros, sources)
    place = cache.folder()
    if place is not None:
        cache.tidy(place)
        if (kept := cache.read(place, name)) is not None:
            with contextlib.suppress(OSError):  # made for libraries that are gone: made anew
                return _loaded(kept, place)
    try:
        return _loaded(_made(command, source, macros, place, name), place)
    except OSError as error:
        raise KernelError(f"the kernels that {command[0]} made cannot be loaded: {error}") from error


def compiler() -> tuple[str, ...]:
    """`$CXX` with its arguments, which go behind our own and so prevail, or g++, c++ or clang++.

    Raises:
        KernelError: none of them is there.
    """
    named = os.environ.get("CXX")
    for name, *arguments in [shlex.split(named)] if named else [["g++"], ["c++"], ["clang++"]]:
        if path := shutil.which(name):
            return path, *arguments
    raise KernelError(
        f"the C++ compiler CXX={named} is not there" if named else "no C++ compiler (g++, c++ or clang++) is there"
    )


def identity(sources: Sequence[Path]) -> str:
    """Of what `load` makes of these, without asking the compiler anything: it is known by its file.

    Raises:
        KernelError: there is no compiler.
    """
    command = compiler()
    file = Path(command[0]).resolve()
    known_by = [*command, str(file), str(file.stat().st_size), str(file.stat().st_mtime_ns)]
    return _digest([*known_by, *FLAGS, platform.machine(), _processor()], sources)


def _made(command: tuple[str, ...], source: Path, macros: tuple[str, ...], place: Path | None, name: str) -> bytes:
    """The library, from the compiler, or from another process that compiled it while we waited."""
    known = None if place is None else cache.read(place, name)
    with cache.building(place, name, PATIENCE) as folder:
        if place is not None and (made := cache.read(place, name)) not in (None, known):
            assert made is not None
            return made
        announce(f"compiling kernels for this processor with {command[0]}, once; this takes some seconds to a minute")
        made = _compiled(command, source, macros, folder)
        if place is not None:
            cache.write(place, name, made)
        return made


def _compiled(command: tuple[str, ...], source: Path, macros: tuple[str, ...], folder: Path) -> bytes:
    """In a folder that takes the compiler's own temporary files too."""
    target = folder / "kernels.so"
    name, *arguments = command
    done = _run([name, *FLAGS, *arguments, *macros, str(source), "-o", str(target)], TMPDIR=str(folder))
    if done.returncode == -signal.SIGXCPU or "CPU time limit exceeded" in done.stderr:
        raise KernelError(f"{' '.join(command)} took more than {TIME_LIMIT} s of processor time for the kernels")
    if done.returncode or not target.is_file():
        complaint = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
        raise KernelError(f"{' '.join(command)} could not compile the kernels: {complaint.strip()}")
    return target.read_bytes()


def _loaded(library: bytes, place: Path | None) -> ctypes.CDLL:
    """From a file of our own, which no name leads to afterwards; in the cache where temporary files may not be run."""
    try:
        return _copied(library, None)
    except OSError:
        if place is None:
            raise
        return _copied(library, place)


def _copied(library: bytes, place: Path | None) -> ctypes.CDLL:
    with cache.scratch(place) as folder:
        copy = folder / "kernels.so"
        copy.write_bytes(library)
        return ctypes.CDLL(str(copy))


def _run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """A command with its processor time limited; nothing of it runs on after an interruption."""
    limited = ["sh", "-c", f'ulimit -S -t {TIME_LIMIT} 2>/dev/null; exec "$@"', "sh", *command]
    try:
        process = subprocess.Popen(
            limited,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | environment,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise KernelError(f"the C++ compiler {command[0]} does not run: {error}") from error
    try:
        out, complaints = process.communicate(timeout=PATIENCE)
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise KernelError(f"the C++ compiler {command[0]} has not ended after {PATIENCE:.0f} s") from None
        raise
    return subprocess.CompletedProcess(command, process.returncode, out, complaints)


def _fingerprint(command: tuple[str, ...], macros: tuple[str, ...], sources: Sequence[Path]) -> str:
    """Of everything that the machine code depends on; homes may be shared by machines of different processors."""
    version = " ".join(command) + _run([*command, "--version"]).stdout
    return _digest([version, *FLAGS, *macros, platform.machine(), _processor()], sources)[:24]


def _digest(words: Sequence[str], sources: Sequence[Path]) -> str:
    text = "\n".join(words).encode()
    return hashlib.sha256(b"\0".join([text, *(source.read_bytes() for source in sorted(sources))])).hexdigest()


def _processor() -> str:
    """What instructions it has, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
