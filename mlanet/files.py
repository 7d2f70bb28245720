"""Files that are either written whole or not at all: the one place where results and checkpoints reach the disk."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mlanet.errors import MLANetError, OutputError

LEFTOVER_AGE = 3600.0
"""s; a partial file older than this belongs to a process that was killed while writing."""

PARTIAL = ".partial"


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str], suffix: str = "", mode: int = 0o666) -> Iterator[Path]:
    """Give a partial path in the same folder; what is written there takes the name when the block ends without error.

    A reader, at any instant and after any crash, finds the old file or the new one whole: the bytes are forced to the
    disk before they take the name, in one step. A link stays a link: the file behind it is replaced. The folder is
    made if it is missing.

    Args:
        path: of the file.
        suffix: at the end of the partial name, for writers that go by it.
        mode: permissions, less what the process keeps back from all its files.
    Raises:
        OSError: whatever kept the file from being written; the old file is intact and no partial file is left.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise OSError(f"is {'a folder' if target.is_dir() else 'not a regular file'}, expected a file's name")
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target.parent, target.name, LEFTOVER_AGE)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}{PARTIAL}{suffix}")
    try:
        partial.touch(mode, exist_ok=False)
        yield partial
        sync(partial)
        os.replace(partial, target)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    _sync_folder(target.parent)


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace a file by these bytes, as `whole_file` does.

    Raises:
        OSError: whatever kept the file from being written; the old file is intact and no partial file is left.
    """
    with whole_file(path) as partial:
        partial.write_bytes(data)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a partial folder beside `path`, which takes the name with all its files or not at all.

    Raises:
        OSError: whatever kept it from being written, or a folder with files in it has the name already.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        partial.mkdir(parents=True)
        yield partial
        for entry in partial.iterdir():
            sync(entry)
        _sync_folder(partial)
        os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _sync_folder(path.parent)


def append_whole(path: str | os.PathLike[str] | int, data: bytes) -> None:
    """Add all of these bytes to the end of a file (its name, or the descriptor of an open one), or leave it as it was.

    A system may take a part of what it is given and say so, as on a disk that is nearly full; the rest is then written,
    or what was taken is cut off again.

    Raises:
        OSError: whatever kept the bytes from being written.
    """
    file = path if isinstance(path, int) else os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        before = os.lseek(file, 0, os.SEEK_END)
        rest = memoryview(data)
        try:
            while rest:
                taken = os.write(file, rest)
                if not taken:
                    raise OSError(errno.EIO, "the disk takes nothing more")
                rest = rest[taken:]
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(file, before)
            raise
    finally:
        if file is not path:
            os.close(file)


def cut_back(path: Path, size: int) -> None:
    """Cut a file that has grown by appending back to this many bytes; one that is missing is made empty.

    Raises:
        OSError: it cannot be cut, or is shorter.
    """
    with open(path, "ab") as file:
        if file.tell() < size:
            raise OSError(errno.ENODATA, f"holds {file.tell()} bytes, fewer than the {size} it had")
        file.truncate(size)


def sync(path: Path) -> None:
    """Force what was appended to a file to the disk, before something else relies on it.

    Raises:
        OSError: it did not get there.
    """
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def end_of_lines(path: Path) -> int:
    """Bytes of a file up to the end of its last whole line; 0 where there is none.

    Raises:
        OSError: it cannot be read.
    """
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes().rfind(b"\n") + 1
    return 0


def remove_leftovers(folder: Path, name: str = "", age: float = 0.0) -> None:
    """Remove partial files of processes that were killed while writing, which nobody else can clean up.

    Args:
        folder: where they are.
        name: of the file that they were to become; of any, if not given.
        age: s; younger ones may be another writer's.
    """
    ours = re.compile(rf"\.{re.escape(name) if name else '.+'}\.[0-9a-f]+{re.escape(PARTIAL)}(\.\w+)?")
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            if not ours.fullmatch(entry.name) or time.time() - entry.lstat().st_mtime < age:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink()


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut. The content is safe already, and some network disks cannot do this."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def writing(
    path: str | os.PathLike[str], error_class: type[MLANetError] = OutputError, end: str = ""
) -> Iterator[None]:
    """An error of ours, with the path and an end, for what the system says while a block writes there."""
    try:
        yield
    except OSError as error:
        raise error_class(f"{path}: cannot be written: {error.strerror or error}{end}") from error


def write_result(path: str | os.PathLike[str], data: bytes, error_class: type[MLANetError] = OutputError) -> None:
    """`write_whole` of a result.

    Raises:
        OutputError (or another class): the place cannot be written.
    """
    with writing(path, error_class, "; nothing was changed"):
        write_whole(path, data)


def table_text(rows: Sequence[Mapping[str, object]], columns: Sequence[str] | None = None, end: str = "\n") -> str:
    """A CSV of rows; a cell that a row lacks is empty.

    - columns: all that any row has, if not given · end: of lines

    >>> table_text([{"a": 1}, {"a": 2.5, "b": None}])
    'a,b\\n1,\\n2.5,\\n'
    """
    text = io.StringIO()
    names = columns or list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, restval="", lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def lines_text(lines: Iterable[Iterable[object]]) -> str:
    """Lines of a CSV."""
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue()


def write_columns(path: Path, columns: Mapping[str, Iterable[float]]) -> Path:
    """A CSV with these columns, whole or not at all; returns the path.

    Raises:
        OutputError: the place cannot be written.
    """
    lines = zip(*(map(float, column) for column in columns.values()), strict=True)
    write_result(path, lines_text([columns, *lines]).encode())
    return path
