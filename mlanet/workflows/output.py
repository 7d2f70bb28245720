"""Results that are either written whole or not at all, and never over an input."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from mlanet.errors import OutputError
from mlanet.files import whole_file


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, and move it there when the block ends without an error.

    A reader sees the old file or the complete new one, never a part. The folder is made if it is missing; a link
    stays a link.

    Raises:
        OutputError: no permission, no space, or `path` is a folder; whatever stood there is untouched.
    """
    target = Path(os.path.realpath(path))
    ours = {None, str(target), *map(str, target.parents)}
    try:
        with whole_file(path, path.suffix) as partial:
            ours.add(str(partial))
            yield partial
    except OSError as error:
        if (None if error.filename is None else str(error.filename)) not in ours:
            raise
        reason = error.strerror or str(error)
        raise OutputError(f"{path}: cannot be written: {reason}; nothing was changed there") from error


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
