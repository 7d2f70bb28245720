"""Structures from files, one at a time, with errors that name the file and the frame.

Extended XYZ, plain or compressed, is cut into frames in one pass and each frame is parsed by ASE, so any number of
frames streams in constant memory and linear time. Everything else goes to ASE's own readers.
"""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import io
import itertools
import lzma
import os
import re
import warnings
import zlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from ase import Atoms
from ase.io.extxyz import key_val_str_to_dict, read_xyz
from ase.io.formats import UnknownFileTypeError, filetype, ioformats, iread, string2index

from mlanet.data.bounded_text import MOST_FRAME, bounded_bytes, bounded_lines, require_atoms, require_promised
from mlanet.data.comment import require_spelled
from mlanet.data.formats import Refused, format_of, is_folder, pass_over, structure_files
from mlanet.data.labels import require_numbers
from mlanet.data.structures import ORDER, require_sound
from mlanet.data.truncation import CHECKED, formula_of, formula_remark, open_text, require_whole
from mlanet.data.unreadable import hinted, reason, warn_if_cut
from mlanet.data.vasp_steps import marked
from mlanet.errors import DataError, MLANetError, UnsupportedElementError
from mlanet.lazily import spare_scipy_for_crystals

_OPENERS: dict[str, Any] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
_BROKEN_FILE = (OSError, EOFError, lzma.LZMAError, zlib.error, UnicodeDecodeError)
_CUT_BY_US = ("extxyz", "xyz")
_DATABASES = ("db", "json")
_PROMISING = ("vasp", "vasp-xdatcar")
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""What editors put before a text, and the encoding that it stands for."""


class Frame(NamedTuple):
    """One structure of a file, and where it stands ("data.extxyz, frame 3", counted from 0)."""

    atoms: Atoms
    where: str


def read_frames(path: str | os.PathLike[str], *, index: str = ":", refused: Refused | None = None) -> Iterator[Frame]:
    """The frames of any file that ASE reads (extxyz, CIF, POSCAR, traj, db, ...), also .xz, .gz and .bz2.

    The format is that of the name (`mlanet.data.formats`), else what ASE finds. Of a folder: the frames of every
    structure file in it. Every frame has at least one atom, finite positions, real elements and a cell that fits its
    pbc.

    Args:
        path: the file, or a folder of files.
        index: which frames, as in ASE: ":" all, "0" the first, "-1" the last, "::10" every tenth; of each file.
        refused: is handed the error of each file or frame that cannot be used, which is then passed over; after
            damage that hides where the next frame begins, the rest of the file is. None: such an error is raised.
    Raises:
        DataError: no such file, unknown format, empty or damaged file, truncated frame, unknown symbol, text where a
            number belongs; the message names file and frame.
        GeometryError: NaN positions, no atoms, a singular periodic cell.
    """
    wanted = _index(index, Path(path))
    for file in structure_files([path], refused):
        none = True
        try:
            for frame in _frames(file, index, wanted, refused):
                none = False
                yield frame
        except MLANetError as error:
            said = hinted(error, file, _opened_bytes) if none else error
            pass_over(said, refused)


def read_last(path: str | os.PathLike[str]) -> Frame:
    """The last frame of one file, for what starts from one structure.

    Raises:
        DataError: as `read_frames`, and for a folder.
    """
    if is_folder(Path(path)):
        raise DataError(f"{path}: is a folder; name one file, whose last frame is taken")
    return next(iter(read_frames(path, index="-1")))


def _frames(path: Path, index: str, wanted: int | slice, refused: Refused | None) -> Iterator[Frame]:
    """The sound frames of one file."""
    kind = _kind(path)
    found = False
    frames = _xyz_frames(path, wanted) if kind in _CUT_BY_US else _ase_frames(path, kind, wanted)
    for number, given in frames:
        found = True
        where = f"{path}, {_place(number)}"
        try:
            atoms = given if isinstance(given, Atoms) else _parsed(given, path, number)
            require_sound(atoms, where)
            require_numbers(atoms, where)
            _require_ordered(atoms, where)
        except MLANetError as error:
            pass_over(error, refused)
            continue
        yield Frame(atoms, where)
    if not found:
        raise DataError(
            f"{path}: no frames{'' if index == ':' else f' at index {index}'}; the file holds no whole structure"
        )


def _place(number: int) -> str:
    """Of a frame in its file; readers of ASE do not tell how many there are."""
    return f"frame {number}" if number >= 0 else "last frame" if number == -1 else f"frame {-number} from the end"


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
    """ASE's name of the file's format: what the name says, else what ASE sees in it."""
    try:
        if not path.exists():
            raise DataError(f"{path}: no such file")
        if path.is_file() and path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty")
        kind = format_of(path) or filetype(str(path))
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


def _xyz_frames(path: Path, wanted: int | slice) -> Iterator[tuple[int, str]]:
    """The text of the (extended) XYZ frames that are asked for, with their numbers."""
    with contextlib.closing(_xyz_texts(path)) as texts:
        if isinstance(wanted, slice) and _counts_from_the_start(wanted):
            step = wanted.step or 1
            for number, text in enumerate(texts):
                if wanted.stop is not None and number >= wanted.stop:
                    return
                start = wanted.start or 0
                if number >= start and (number - start) % step == 0:
                    yield number, text
            return
        everything = list(texts)
    for number in _chosen(range(len(everything)), wanted):
        yield number, everything[number]


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


def _opened_bytes(path: Path) -> IO[bytes]:
    """The bytes of a file, decompressed by its suffix."""
    return _OPENERS.get(path.suffix.lower(), open)(path, "rb")  # type: ignore[no-any-return]


def _opened(path: Path) -> IO[str]:
    """A text file, decompressed by its suffix, without the mark that some editors put first."""
    opener = _OPENERS.get(path.suffix.lower(), open)
    with opener(path, "rb") as stream:
        encoding = _encoding(stream.read(3)) or "utf-8"
    return opener(path, "rt", encoding=encoding)  # type: ignore[no-any-return]


def _encoding(start: bytes) -> str | None:
    """The encoding that the first bytes of a text say, or None."""
    return next((encoding for mark, encoding in _MARKS.items() if start.startswith(mark)), None)


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
    lines = text.split("\n")  # not splitlines: a comment may hold form feeds and Unicode's line separators
    columns = _columns(lines[1])
    rows = lines[2:-1] if not lines[-1] else lines[2:]
    for atom, row in enumerate(rows):
        if len(row.split()) < columns:
            raise DataError(
                f"{where}, atom {atom}: {len(row.split())} columns instead of {columns}: '{row.strip():.60}'"
            )

    def entries(comment: str) -> dict[str, Any]:
        found: dict[str, Any] = key_val_str_to_dict(comment)
        require_spelled(found, comment, where)
        return found

    try:
        return next(iter(read_xyz(io.StringIO(text), 0, properties_parser=entries)))
    except MLANetError:
        raise
    except KeyError as error:
        symbol = str(error.args[0])
        atom = next((k for k, row in enumerate(rows) if symbol.lower() in row.lower().split()), 0)
        raise UnsupportedElementError(f"{where}, atom {atom}: unknown chemical symbol '{symbol}'") from None
    except Exception as error:  # whatever a parser throws at a damaged frame: the user needs to know which one
        raise DataError(f"{where}: cannot be parsed: {error}") from None


def _columns(comment: str) -> int:
    """How many columns the comment line promises."""
    match = re.search(r'Properties="?([^\s"]+)', comment)
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
        source = _in_memory(path, kind)
    elif kind in _texts() and path.is_file() and _is_marked(path):
        source = _in_memory(path, kind)
    for kinds, require in ((_PROMISING, require_promised), (CHECKED, functools.partial(require_whole, kind))):
        if kind in kinds:
            with open_text(source) as text:
                require(text, path)
    numbers = iter([0]) if description.single else _numbers(wanted)
    if description.single and wanted not in (slice(None), 0, -1):
        raise DataError(f"{path}: a file of format '{kind}' holds one structure; use index ':'")
    options, formula = dict[str, bool](), ""
    if kind == "cif":
        options, formula = {"fractional_occupancies": True}, formula_of(path, _opened)
        spare_scipy_for_crystals()
    step: slice | int = wanted if not description.single else slice(None)
    frames: Iterator[Atoms]
    if kind in _DATABASES and isinstance(source, str):
        frames = _database_frames(path, wanted)
    else:
        frames = iread(source, index=step, format=kind, parallel=False, do_not_split_by_at_sign=True, **options)
    number = -1
    try:
        for number, atoms in zip(numbers, marked(frames, path, kind, source, step), strict=False):
            if formula and (remark := formula_remark(atoms, formula)):
                warnings.warn(f"{path}: {remark}", stacklevel=2)
            yield number, atoms
        warn_if_cut(path, kind, source)
    except (MLANetError, GeneratorExit):
        raise
    except KeyError as error:
        raise DataError(f"{path}, after frame {number}: unknown entry or chemical symbol {error}") from None
    except Exception as error:
        after = f"{path}, after frame {number}" if number >= 0 else str(path)
        raise DataError(f"{after}: cannot be read as '{kind}': {reason(error)}") from None


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


def _is_marked(path: Path) -> bool:
    """Whether a text begins with the mark of an encoding, over which ASE's readers stumble."""
    try:
        with path.open("rb") as stream:
            return _encoding(stream.read(3)) is not None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def _texts() -> set[str]:
    """Formats that are texts and that ASE reads from a stream, though it reads CIF as bytes."""
    return {"cif"} | {name for name, format_ in ioformats.items() if format_.acceptsfd and not format_.isbinary}


def _in_memory(path: Path, kind: str) -> IO[str] | IO[bytes]:
    """The whole file, decompressed and without a mark, because readers of other formats seek."""
    try:
        with _opened_bytes(path) as stream:
            data = bounded_bytes(stream, path)
        if kind in _texts() and (encoding := _encoding(data)) is not None:
            data = data.decode(encoding).encode()
        return io.BytesIO(data) if ioformats[kind].isbinary else io.StringIO(data.decode())
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
    """Refuse crystals with partial occupancies, which ASE would read as if every site were full.

    In CIF "." stands for the value by default, which is 1, and "?" for an unknown one: such a site is read as full,
    with a warning.
    """
    occupancy = atoms.info.get("occupancy")
    if not isinstance(occupancy, dict):
        return
    unknown = []
    for site, species in occupancy.items():
        shares = list(species.values()) if isinstance(species, dict) else [species]
        if len(shares) == 1 and shares[0] in ("?", "."):
            unknown += [str(site)] * (shares[0] == "?")
            species[next(iter(species))] = 1.0
        elif len(shares) > 1 or any(not _is_full(share) for share in shares):
            held = species.items() if isinstance(species, dict) else [("occupancy", species)]
            named = ", ".join(f"{name} {share}" for name, share in held)
            raise DataError(f"{where}: site {site} is disordered ({named}); {ORDER}")
    if unknown:
        named = ", ".join(unknown[:5]) + ", …" * (len(unknown) > 5)
        warnings.warn(f"{where}: the occupancy of site {named} is '?', unknown; read as full", stacklevel=2)


def _is_full(share: object) -> bool:
    """Whether an occupancy is a number that is 1 within the digits of crystallographers."""
    return isinstance(share, int | float) and abs(share - 1.0) <= 1e-3
