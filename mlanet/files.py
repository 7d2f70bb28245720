"""Files that are either written whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

from mlanet.errors import OutputError

LEFTOVER_AGE = 3600.0
"""s; a partial file older than this belongs to a process that was killed while writing."""


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace a file so that a reader, at any instant and after any crash, finds the old one or the new one whole.

    The bytes go to a partial file in the same folder, are forced to the disk, and take the name in one step. A link
    stays a link: the file behind it is replaced. The folder is made if it is missing.

    Raises:
        OSError: whatever kept the file from being written; the old file is intact and no partial file is left.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise OSError(f"is {'a folder' if target.is_dir() else 'not a regular file'}, expected a file's name")
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        with open(partial, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut. The content is safe already, and some network disks cannot do this."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_leftovers(target: Path) -> None:
    """Partial files of processes that were killed while writing, which nobody else can clean up."""
    with contextlib.suppress(OSError):
        for one in target.parent.iterdir():
            ours = one.name.startswith(f".{target.name}.") and one.name.endswith(".partial")
            if ours and time.time() - one.stat().st_mtime > LEFTOVER_AGE:
                one.unlink()


def write_columns(path: Path, columns: Mapping[str, Iterable[float]]) -> Path:
    """A CSV with these columns, whole or not at all; returns the path.

    Raises:
        OutputError: the place cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*(map(float, column) for column in columns.values()), strict=True))
    try:
        write_whole(path, text.getvalue().encode())
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from None
    return path
