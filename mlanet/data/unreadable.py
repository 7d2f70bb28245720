"""Why a file cannot be read, in words that a user can act on: what it holds instead, or that it ends too early."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO

from mlanet.data.formats import bare_name, format_of
from mlanet.errors import MLANetError

FOREIGN = "its text does not follow that format"
_INNER = re.compile(
    "broadcast|inhomogeneous|to unpack|generator raised|buffer is smaller|reshape|empty list|out of range|"
    "scaling factors"
)
"""Words of parsers that ran out of text, about their own variables."""
_INNER_TYPES = (IndexError, AttributeError, TypeError, StopIteration, UnboundLocalError)
_START = 4096
"""Bytes that are looked at."""
_COMPRESSED = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\x00": ".xz"}
_BINARY = {b"- of Ulm": (".traj", "traj"), b"SQLite format 3": (".db", "db")}


def warn_if_cut(path: Path, kind: str, source: str | IO[str] | IO[bytes]) -> None:
    """Say so where VASP was stopped before the end of its vasprun.xml, of which ASE then reads the whole steps.

    - source: the file's name, or its text in memory
    """
    if kind != "vasp-xml":
        return
    if isinstance(source, io.StringIO):
        end = source.getvalue()[-_START:]
    else:
        with open(str(source), "rb") as stream:
            stream.seek(max(0, path.stat().st_size - _START))
            end = stream.read().decode(errors="replace")
    if "</modeling>" not in end:
        warnings.warn(f"{path}: ends early, as if the run was stopped; its whole steps are read", stacklevel=2)


def reason(error: Exception) -> str:
    """What a reader's error says to somebody who does not know the reader."""
    said = str(error).strip()
    if isinstance(error, _INNER_TYPES) or _INNER.search(said):
        return f"it is cut short, or {FOREIGN}"
    if not said or isinstance(error, AssertionError):
        return FOREIGN
    return f"{type(error).__name__}: {said}"


def hinted(error: MLANetError, path: Path, opened: Callable[[Path], IO[bytes]]) -> MLANetError:
    """The error with what the file holds instead, where that can be seen.

    Args:
        error: of a file of which no structure could be read.
        path: of the file.
        opened: gives its bytes, decompressed by its name.
    """
    start = b""
    with contextlib.suppress(Exception):  # whatever keeps it from being read is what the error is about
        if path.is_file() and path.stat().st_size:
            with opened(path) as stream:
                start = stream.read(_START)
            seen = _seen(start, path)
            return error if seen is None else type(error)(f"{error}; {seen}")
    return error


def _seen(start: bytes, path: Path) -> str | None:
    """What the first bytes of a file are, if they are not what its name says."""
    for mark, suffix in _COMPRESSED.items():
        if start.startswith(mark):
            return f"its content is compressed: a name that ends in {suffix} says so"
    for mark, (suffix, kind) in _BINARY.items():
        if start.startswith(mark):
            return _other(path, suffix, kind)
    try:
        text = start.decode("utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", errors="ignore")
    except UnicodeDecodeError:
        text = ""
    if not text.strip():
        return "nothing but blank lines is in it" if len(start) < _START else None
    if re.match(r"\s*<(!doctype html|html)", text, re.IGNORECASE):
        return "its content is a web page (HTML), as a download that failed leaves it"
    return _other(path, *_text_of(text))


def _text_of(text: str) -> tuple[str, str]:
    """Suffix and format of a text, or nothing."""
    lines = text.split("\n")
    if lines[0].strip().isdigit() and len(lines) > 1 and re.search(r"Lattice=|Properties=", lines[1]):
        return ".extxyz", "extxyz"
    if re.search(r"^\s*data_", text, re.MULTILINE) and re.search(r"^\s*_(cell|atom_site)", text, re.MULTILINE):
        return ".cif", "cif"
    rows = [line.split() for line in lines[1:5]]
    if len(rows) == 4 and len(rows[0]) == 1 and all(len(row) == 3 for row in rows[1:]):
        with contextlib.suppress(ValueError):
            if [float(word) for row in rows for word in row]:
                return ".vasp", "vasp"
    return "", ""


def _other(path: Path, suffix: str, kind: str) -> str | None:
    """A word on a format that is not the name's."""
    if not kind or kind in (known := str(format_of(path)), known.partition("-")[0]):
        return None
    return f"its content looks like '{kind}': a name as {Path(bare_name(path)).stem}{suffix} says so"
