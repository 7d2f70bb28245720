"""Results that grow record by record, so that what was computed stays, and take their name only when all are there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from mlanet.errors import MLANetError, OutputError
from mlanet.files import append_whole


def partial_name(path: Path) -> Path:
    """Where a file stands until it is complete: `out.partial.extxyz` for `out.extxyz`."""
    target = Path(os.path.realpath(path))
    return target.with_name(f"{target.stem}.partial{target.suffix}")


class Growing:
    """A file beside its final place, to which whole records are added; `count` says how many.

    - advice: what can be done with it where it stays unfinished, for the message
    """

    advice = ""

    def __init__(self, path: Path) -> None:
        self.path, self.target, self.partial = path, Path(os.path.realpath(path)), partial_name(path)
        self.count = 0
        if self.target.exists() and not self.target.is_file():
            kind = "a folder" if self.target.is_dir() else "a device"
            raise OutputError(f"{path}: is {kind}, expected the name of a file")
        with self._writing():
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self._new = not self.partial.exists() or self.partial.stat().st_size == 0
            self._file = os.open(self.partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise OutputError(f"{path}: another process is writing {self.partial}; choose another name") from None
        except OSError:
            pass  # a file system without locks

    def add(self, text: str, records: int = 1) -> None:
        """Append text that holds whole records: all of it, or an error and the file as it was.

        Raises:
            OutputError: it cannot be written.
        """
        with self._writing():
            if not self.count:
                os.ftruncate(self._file, 0)  # of a former run that did not end
            append_whole(self._file, text.encode())
        self.count += records

    @property
    def size(self) -> int:
        """Bytes that it has."""
        return os.fstat(self._file).st_size

    def held(self, last: int) -> int:
        """Bytes of an earlier run that are there: of one that did not end, or, if it has this size, of one that did."""
        if self._new and self.target.exists() and self.target.stat().st_size == last:
            return last
        return self.size

    def go_on(self, size: int, count: int) -> None:
        """Keep so many bytes, which hold so many records, of an earlier run, and add to them."""
        with self._writing():
            if self._new:  # that run had finished: its result stays where it is until this one ends
                with self.target.open("rb") as former, open(os.dup(self._file), "wb") as file:
                    shutil.copyfileobj(former, file)
            os.ftruncate(self._file, size)
        self.count = count

    def finish(self) -> None:
        """Take the final name, with everything on the disk."""
        with self._writing():
            os.fsync(self._file)
            os.replace(self.partial, self.target)

    def close(self) -> None:
        """Leave the file where it is, or nowhere if there is nothing in it."""
        if not self.count and self._new:
            with contextlib.suppress(OSError):
                self.partial.unlink(missing_ok=True)
        os.close(self._file)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise OutputError(f"{self.path}: cannot be written: {reason}; nothing was changed there") from error


@contextlib.contextmanager
def growing(path: Path, tell: Callable[[str], None] = print) -> Iterator[Growing]:
    """A file that takes its name when the block ends without an error, if anything was added to it.

    What was added before an error, or before the process was killed, stays in `out.partial.extxyz` (of `out.extxyz`),
    whole records only (of the one that a kill interrupts a part may be there); a former `out.extxyz` is not touched
    then.

    Args:
        path: of the file. The folder is made if it is missing, and a link stays a link.
        tell: is told what is kept where the block ends with something else than a `MLANetError`, whose message says it.
    Raises:
        OutputError: no permission, no space, `path` is a folder, or another process is writing there.
    """
    file = Growing(path)
    try:
        yield file
        if file.count:
            file.finish()
    except MLANetError as error:
        if not file.count:
            raise
        raise type(error)(f"{error}; {_kept(file)}") from error
    except BaseException:
        if file.count:
            tell(_kept(file))
        raise
    finally:
        file.close()


def _kept(file: Growing) -> str:
    """What is there."""
    what = "the structure" if file.count == 1 else f"the {file.count} structures"
    place = file.partial if file.path.is_symlink() else file.path.with_name(file.partial.name)
    return f"{what} finished before {'is' if file.count == 1 else 'are'} in {place}{file.advice}"
