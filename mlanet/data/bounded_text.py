"""Files read no further than a structure can go: a small one that expands without end, or promises more than it holds,
is refused before memory is filled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

from mlanet.errors import DataError

MOST_ATOMS = 10_000_000
"""Of a structure."""
MOST_LINE = 2**22
"""Characters of a line."""
MOST_FRAME = 2**29
"""Characters of a structure."""
MOST_BLANK = 10_000
"""Blank lines between two structures."""
MOST_DECOMPRESSED = 2**28
"""Bytes of a compressed file of a format that is read as a whole; decompress larger ones first."""


def bounded_lines(stream: IO[str], where: str) -> Iterator[str]:
    """The lines of a text, none longer than `MOST_LINE`, no more than `MOST_BLANK` blank ones in a row."""
    blank = 0
    while line := stream.readline(MOST_LINE + 1):
        if len(line) > MOST_LINE:
            raise DataError(f"{where}: a line of more than {MOST_LINE} characters; this is no file of structures")
        blank = 0 if line.strip() else blank + 1
        if blank > MOST_BLANK:
            raise DataError(f"{where}: more than {MOST_BLANK} blank lines in a row; this is no file of structures")
        yield line


def require_atoms(count: int, where: str) -> None:
    """Refuse a number of atoms that no structure has."""
    if not 0 <= count <= MOST_ATOMS:
        raise DataError(f"{where}: {str(count)[:20]} atoms; supported are at most {MOST_ATOMS}")


def bounded_bytes(stream: IO[bytes], path: Path) -> bytes:
    """All that a decompressor gives, `MOST_DECOMPRESSED` bytes at most."""
    data = stream.read(MOST_DECOMPRESSED + 1)
    if len(data) > MOST_DECOMPRESSED:
        raise DataError(
            f"{path}: expands to more than {MOST_DECOMPRESSED >> 20} MiB; decompress it first, if it is what you expect"
        )
    return data


def require_promised(stream: IO[str], path: Path) -> None:
    """Refuse a POSCAR or XDATCAR whose header promises more atoms than the file has lines; ASE would make room first.

    - stream: at its start, and left there
    """
    head = [line for _, line in zip(range(8), bounded_lines(stream, str(path)), strict=False)]
    counts = next((words for line in head[5:7] if (words := line.split()) and all(map(str.isdecimal, words))), [])
    promised = sum(int(word[:20]) for word in counts)
    if promised > 0:
        lines = len(head) + sum(1 for _ in stream)
        if promised > lines:
            raise DataError(f"{path}: promises {promised:.6g} atoms, but has {lines} lines")
    stream.seek(0)
