"""Where compiled kernels are kept, and what of it may be loaded: what this user wrote, whole, where nobody else can.

A file of the cache is a shared library followed by its name and sha256, so that nothing cut, changed or renamed is
taken for kernels. The cache is `$MLANET_CACHE/kernels`, or `~/.cache/mlanet/kernels`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

from mlanet.errors import ConfigError, KernelError, OutputError
from mlanet.files import PARTIAL, whole_file
from mlanet.ownership import owned

_OTHERS = stat.S_IWGRP | stat.S_IWOTH
SUFFIX = ".so"
_SEAL = b"\nmlanet kernels "


def folder(room: str = "kernels") -> Path | None:
    """The folder of a room of the cache, made if it is missing; None, with a warning, where there can be none.

    A folder of this user in which others can write is closed to them, and emptied, since they may have written there.
    """
    try:  # there may be no home, or no right to write there
        place = Path(os.environ.get("MLANET_CACHE") or Path.home() / ".cache" / "mlanet") / room
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        place = place.resolve()
        status = place.stat()
        if status.st_uid != os.geteuid():
            warnings.warn(
                f"{place} belongs to another user (number {status.st_uid}), so no {room} are loaded from there and "
                "each process makes its own; set MLANET_CACHE to a folder of your own",
                stacklevel=2,
            )
            return None
        if status.st_mode & _OTHERS:
            place.chmod(stat.S_IMODE(status.st_mode) & ~_OTHERS)
            for entry in place.iterdir():
                with contextlib.suppress(OSError):
                    entry.unlink()
        return place
    except (OSError, RuntimeError):
        return None


def read(place: Path, name: str, suffix: str = SUFFIX) -> bytes | None:
    """The library of this name, as it was written; None where there is none that can be trusted.

    Args:
        place: the cache's folder.
        name: of everything that the machine code depends on.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(place / f"{name}{suffix}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & _OTHERS:
                library, _, seal = file.read().rpartition(_SEAL)
                return library if seal == _seal(library, name) else None
    return None


def write(place: Path, name: str, library: bytes, suffix: str = SUFFIX) -> None:
    """Keep a library, whole or not at all; a disk that does not take it costs a compilation next time, no more."""
    target = place / f"{name}{suffix}"
    with contextlib.suppress(OSError):
        if target.is_symlink() or not target.is_file():
            target.unlink(missing_ok=True)
        with whole_file(target, mode=0o600) as partial:
            partial.write_bytes(library + _SEAL + _seal(library, name))


@contextlib.contextmanager
def building(place: Path | None, name: str, patience: float) -> Iterator[Path]:
    """A folder to compile in, which is gone afterwards, at the latest with the next compilation if we are killed.

    One process compiles at a time; the others wait, to find what it made.

    Args:
        place: the cache's folder, or None: the folder then is a temporary one of the system.
        name: of the library.
        patience: s to wait for another process.
    Raises:
        KernelError: another process has been compiling for longer.
    """
    if place is None or not os.access(place, os.W_OK):
        with scratch(None) as folder:
            yield folder
        return
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(owned(place, "compiling kernels", wait=patience))
        except (ConfigError, OutputError) as error:
            raise KernelError(str(error)) from None
        yield stack.enter_context(scratch(place))


@contextlib.contextmanager
def scratch(place: Path | None) -> Iterator[Path]:
    """A folder of ours alone that is removed at the end: in the cache, or among the system's temporary ones."""
    if place is None:
        with tempfile.TemporaryDirectory(prefix="mlanet-kernels-") as temporary:
            yield Path(temporary)
        return
    made = place / f".kernels.{uuid.uuid4().hex}{PARTIAL}"
    made.mkdir(mode=0o700)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def tidy(place: Path) -> None:
    """Remove what killed compilations left, unless another one is under way."""
    if any(PARTIAL in entry.name for entry in place.iterdir()):
        with contextlib.suppress(ConfigError, OutputError), owned(place, "removing leftovers"):
            pass  # an owner begins with that


def _seal(library: bytes, name: str) -> bytes:
    return f"{name} {hashlib.sha256(library).hexdigest()}".encode()
