"""Structures from files, one at a time, with errors that name the file and the frame.

Extended XYZ, plain or compressed, is cut into frames in one pass and each frame is parsed by ASE, so any number of
frames streams in constant memory and linear time. Everything else goes to ASE's own readers.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import itertools
import lzma
import os
import re
import zlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from ase import Atoms
from ase.io.extxyz import read_xyz
from ase.io.formats import UnknownFileTypeError, filetype, ioformats, iread, string2index

from mlanet.data.atoms import require_sound
from mlanet.data.bounded_text import MOST_FRAME, bounded_bytes, bounded_lines, require_atoms, require_promised
from mlanet.data.labels import require_numbers
from mlanet.errors import DataError, MLANetError, UnsupportedElementError

_OPENERS: dict[str, Any] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
_BROKEN_FILE = (OSError, EOFError, lzma.LZMAError, zlib.error, UnicodeDecodeError)
_CUT_BY_US = ("extxyz", "xyz")
_DATABASES = ("db", "json")
_PROMISING = ("vasp", "vasp-xdatcar")


class Frame(NamedTuple):
    """One structure of a file, and where it stands ("data.extxyz, frame 3", counted from 0)."""

    atoms: Atoms
    where: str


def read_frames(path: str | os.PathLike[str], *, index: str = ":") -> Iterator[Frame]:
    """The frames of any file that ASE reads (extxyz, CIF, POSCAR, traj, db, ...), also .xz, .gz and .bz2.

    Every frame has at least one atom, finite positions, real elements and a cell that fits its pbc.

    Args:
        path: the file.
        index: which frames, as in ASE: ":" all, "0" the first, "-1" the last, "::10" every tenth.
    Raises:
        DataError: no such file, unknown format, empty or damaged file, truncated frame, unknown symbol, text where a
            number belongs; the message names file and frame.
        GeometryError: NaN positions, no atoms, a singular periodic cell.
    """
    path = Path(path)
    wanted = _index(index, path)
    kind = _kind(path)
    found = False
    frames = _xyz_frames(path, wanted) if kind in _CUT_BY_US else _ase_frames(path, kind, wanted)
    for number, atoms in frames:
        found = True
        where = f"{path}, frame {number}"
        require_sound(atoms, where)
        require_numbers(atoms, where)
        _require_ordered(atoms, where)
        yield Frame(atoms, where)
    if not found:
        raise DataError(f"{path}: no frames{'' if index == ':' else f' at index {index}'}; the file holds no structure")


def _index(index: str, path: Path) -> int | slice:
    """ASE's index syntax."""
    try:
        wanted = string2index(index)
    except ValueError:
        wanted = index
    if not isinstance(wanted, int | slice):
        raise DataError(f"{path}: index '{index}' is not understood; use e.g. ':', '0', '-1', '::10'")
    return wanted


def _kind(path: Path) -> str:
    """ASE's name of the file's format."""
    if not path.exists():
        raise DataError(f"{path}: no such file")
    try:
        if path.is_file() and path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty")
        kind = filetype(str(path))
    except _BROKEN_FILE as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    except UnknownFileTypeError:
        raise DataError(
            f"{path}: unknown file format; use extxyz, CIF, POSCAR, an ASE database or trajectory, "
            "or another format that ASE reads"
        ) from None
    if kind not in ioformats:
        raise DataError(f"{path}: the file format '{kind}' is not one that ASE reads; extxyz, CIF, POSCAR, db are")
    return kind


def _xyz_frames(path: Path, wanted: int | slice) -> Iterator[tuple[int, Atoms]]:
    """(Extended) XYZ frames with their numbers; only those asked for are parsed."""
    with contextlib.closing(_xyz_texts(path)) as texts:
        if isinstance(wanted, slice) and _counts_from_the_start(wanted):
            step = wanted.step or 1
            for number, text in enumerate(texts):
                if wanted.stop is not None and number >= wanted.stop:
                    return
                start = wanted.start or 0
                if number >= start and (number - start) % step == 0:
                    yield number, _parsed(text, path, number)
            return
        everything = list(texts)
    for number in _chosen(range(len(everything)), wanted):
        yield number, _parsed(everything[number], path, number)


def _chosen(numbers: Sequence[int], wanted: int | slice) -> Sequence[int]:
    """What an index selects; an integer out of range selects nothing."""
    if isinstance(wanted, slice):
        return numbers[wanted]
    return [numbers[wanted]] if -len(numbers) <= wanted < len(numbers) else []


def _counts_from_the_start(wanted: slice) -> bool:
    """Whether a slice can be served without knowing how many frames there are."""
    return all(value is None or value >= 0 for value in (wanted.start, wanted.stop)) and (wanted.step or 1) > 0


def _xyz_texts(path: Path) -> Generator[str, None, None]:
    """Cut an XYZ file into the text of its frames, in one pass, decompressing as it goes."""
    try:
        with _opened(path) as stream:
            number, lines = 0, bounded_lines(stream, str(path))
            for line in lines:
                if not line.strip():
                    continue
                yield _one_text(line, lines, f"{path}, frame {number}")
                number += 1
    except _BROKEN_FILE as error:
        raise DataError(f"{path}: damaged or unreadable: {error}") from None


def _opened(path: Path) -> IO[str]:
    """A text file, decompressed by its suffix."""
    return _OPENERS.get(path.suffix.lower(), open)(path, "rt", encoding="utf-8")  # type: ignore[no-any-return]


def _one_text(header: str, lines: Iterator[str], where: str) -> str:
    """Header, comment and atom lines of one frame, all of them there."""
    try:
        n_atoms = int(header)
    except ValueError:
        raise DataError(f"{where}: expected the number of atoms, found '{header.strip():.60}'") from None
    require_atoms(n_atoms, where)
    text, size = [header], 0
    for line, _ in zip(lines, range(n_atoms + 1), strict=False):
        text.append(line)
        size += len(line)
        if size > MOST_FRAME:
            raise DataError(f"{where}: more than {MOST_FRAME} characters")
        if len(text) == n_atoms + 2:
            break
    if len(text) < n_atoms + 2:
        raise DataError(f"{where}: truncated: {max(len(text) - 2, 0)} of {n_atoms} atom lines")
    return "".join(text)


def _parsed(text: str, path: Path, number: int) -> Atoms:
    """One frame by ASE's parser, its errors made readable."""
    where = f"{path}, frame {number}"
    columns = _columns(text)
    rows = text.splitlines()[2:]
    for atom, row in enumerate(rows):
        if len(row.split()) < columns:
            raise DataError(
                f"{where}, atom {atom}: {len(row.split())} columns instead of {columns}: '{row.strip():.60}'"
            )
    try:
        return next(iter(read_xyz(io.StringIO(text), 0)))
    except KeyError as error:
        symbol = str(error.args[0])
        atom = next((k for k, row in enumerate(rows) if symbol.lower() in row.lower().split()), 0)
        raise UnsupportedElementError(f"{where}, atom {atom}: unknown chemical symbol '{symbol}'") from None
    except Exception as error:  # whatever a parser throws at a damaged frame: the user needs to know which one
        raise DataError(f"{where}: cannot be parsed: {error}") from None


def _columns(text: str) -> int:
    """How many columns the comment line promises."""
    match = re.search(r'Properties="?([^\s"]+)', text.split("\n", 2)[1])
    if match is None:
        return 4
    widths = match.group(1).split(":")[2::3]
    return sum(int(width) for width in widths if width.isdigit())


def _ase_frames(path: Path, kind: str, wanted: int | slice) -> Iterator[tuple[int, Atoms]]:
    """Frames by ASE's reader of that format."""
    source: str | IO[str] | IO[bytes] = str(path)
    description = ioformats[kind]
    if path.suffix.lower() in _OPENERS:
        if not description.acceptsfd:
            raise DataError(f"{path}: a compressed file of format '{kind}' cannot be read; decompress it first")
        source = _decompressed(path, binary=description.isbinary)
    if kind in _PROMISING:
        with _open_text(source) as text:
            require_promised(text, path)
    numbers = _numbers(wanted)
    if description.single and wanted not in (slice(None), 0, -1):
        raise DataError(f"{path}: a file of format '{kind}' holds one structure; use index ':'")
    options = {"fractional_occupancies": True} if kind == "cif" else {}
    step: slice | int = wanted if not description.single else slice(None)
    frames: Iterator[Atoms]
    if kind in _DATABASES and isinstance(source, str):
        frames = _database_frames(path, wanted)
    else:
        frames = iread(source, index=step, format=kind, parallel=False, do_not_split_by_at_sign=True, **options)
    number = -1
    try:
        for number, atoms in zip(numbers, frames, strict=False):
            yield number, atoms
    except (MLANetError, GeneratorExit):
        raise
    except KeyError as error:
        raise DataError(f"{path}, after frame {number}: unknown entry or chemical symbol {error}") from None
    except Exception as error:
        after = f"{path}, after frame {number}" if number >= 0 else str(path)
        raise DataError(f"{after}: cannot be read as '{kind}': {type(error).__name__}: {error}") from None


def _open_text(source: str | IO[str] | IO[bytes]) -> contextlib.AbstractContextManager[IO[str]]:
    """A text of ASE's reader, from its name or already in memory."""
    if isinstance(source, str):
        return open(source, encoding="utf-8", errors="replace")
    assert isinstance(source, io.StringIO)
    return contextlib.nullcontext(source)


def _database_frames(path: Path, wanted: int | slice) -> Iterator[Atoms]:
    """Rows of an ASE database in the order of their ids, with their key-value pairs and data in `info`."""
    import ase.db

    database = ase.db.connect(path)
    if isinstance(wanted, slice) and _counts_from_the_start(wanted):
        for row in itertools.islice(database.select(sort="id"), wanted.start, wanted.stop, wanted.step):
            yield row.toatoms(add_additional_information=True)
        return
    ids = [row.id for row in database.select(sort="id", include_data=False)]
    for number in _chosen(ids, wanted):
        yield database.get(id=number).toatoms(add_additional_information=True)


def _decompressed(path: Path, *, binary: bool) -> IO[str] | IO[bytes]:
    """The whole file in memory, because readers of other formats seek."""
    try:
        with _OPENERS[path.suffix.lower()](path, "rb") as stream:
            data = bounded_bytes(stream, path)
        return io.BytesIO(data) if binary else io.StringIO(data.decode("utf-8"))
    except _BROKEN_FILE as error:
        raise DataError(f"{path}: damaged or unreadable: {error}") from None


def _numbers(wanted: int | slice) -> Iterator[int]:
    """Frame numbers that go with ASE's answers; counted as delivered where the start is relative to the end."""
    if isinstance(wanted, int):
        return iter([wanted])
    if _counts_from_the_start(wanted):
        return iter(range(wanted.start or 0, 2**62, wanted.step or 1))
    return iter(range(2**62))


def _require_ordered(atoms: Atoms, where: str) -> None:
    """Refuse crystals with partial occupancies, which ASE would read as if every site were full."""
    occupancy = atoms.info.get("occupancy")
    if not isinstance(occupancy, dict):
        return
    for site, species in occupancy.items():
        if len(species) > 1 or not all(map(_is_full, species.values())):
            raise DataError(f"{where}: site {site} is disordered ({species}); make an ordered approximant first")


def _is_full(share: object) -> bool:
    """Whether an occupancy is a number that is 1 within the digits of crystallographers."""
    return isinstance(share, int | float) and abs(share - 1.0) <= 1e-3
