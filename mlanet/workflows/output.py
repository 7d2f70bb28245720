"""Results that are either written whole or not at all, and never over an input."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from mlanet.errors import OutputError


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, and move it there when the block ends without an error.

    A reader sees the old file or the complete new one, never a part. The folder is made if it is missing; a link
    stays a link.

    Raises:
        OutputError: no permission, no space, or `path` is a folder; whatever stood there is untouched.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise OutputError(f"{path}: is {'a folder' if target.is_dir() else 'a device'}, expected the name of a file")
    temporary = target.with_name(f".{target.stem}-{uuid.uuid4().hex}{target.suffix}")
    ours = {None, str(temporary), str(target), *map(str, target.parents)}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
    except OSError as error:
        if (None if error.filename is None else str(error.filename)) not in ours:
            raise
        reason = error.strerror or str(error)
        raise OutputError(f"{path}: cannot be written: {reason}; nothing was changed there") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def refuse_overwriting(outputs: Iterable[Path | None], inputs: Iterable[Path]) -> None:
    """Raise `OutputError` where an output is an input, or two outputs are one file."""
    known = {path.resolve() for path in inputs}
    seen: set[Path] = set()
    for output in outputs:
        if output is None:
            continue
        place = output.resolve()
        if place in known:
            raise OutputError(f"{output}: is an input and would be overwritten; choose another name")
        if place in seen:
            raise OutputError(f"{output}: named for two different results; choose two names")
        seen.add(place)
