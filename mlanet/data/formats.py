"""Formats by the names of files, so that nothing is read or written by a guess, and folders as lists of files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from mlanet.errors import DataError, MLANetError, OutputError

COMPRESSED = (".xz", ".gz", ".bz2")
"""Suffixes behind that of the format."""

# ASE looks for POSCAR, OUTCAR, … anywhere in a name before it looks at the suffix, so that it takes
# POSCAR_relaxed.extxyz for VASP's. Here the suffix decides, then the name.
_SUFFIXES = {
    ".extxyz": "extxyz",
    ".xyz": "extxyz",
    ".cif": "cif",
    ".vasp": "vasp",
    ".poscar": "vasp",
    ".contcar": "vasp",
    ".traj": "traj",
    ".db": "db",
    ".xsf": "xsf",
}
_NAMES = {
    "poscar*": "vasp",
    "contcar*": "vasp",
    "outcar*": "vasp-out",
    "xdatcar*": "vasp-xdatcar",
    "vasprun*.xml": "vasp-xml",
}
VASP_RUN = ("POSCAR", "CONTCAR", "XDATCAR", "OUTCAR", "vasprun")
"""Names, up to the first dot, of the structure files that a run of VASP leaves in its folder."""
LABELLED = ("extxyz", "traj")
"""Formats that keep energy, forces, stress and info without loss."""
BARE = ("cif", "vasp")
"""Formats that hold one structure and nothing else."""

Refused = Callable[[MLANetError], None]
"""Takes the errors of files and frames that are passed over."""


def pass_over(error: MLANetError, refused: Refused | None) -> None:
    """Hand an error over; raise it where nobody takes errors."""
    if refused is None:
        raise error
    refused(error)


def format_of(path: Path) -> str | None:
    """ASE's name of the format that a file's name stands for, compression aside; None where it stands for none.

    >>> format_of(Path("POSCAR_relaxed.extxyz")), format_of(Path("run1/POSCAR.gz")), format_of(Path("notes.txt"))
    ('extxyz', 'vasp', None)
    """
    name = bare_name(path).lower()
    suffix = Path(name).suffix
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    return next((kind for pattern, kind in _NAMES.items() if fnmatch(name, pattern)), None)


def bare_name(path: Path) -> str:
    """A file's name without a suffix of compression."""
    return path.stem if path.suffix.lower() in COMPRESSED else path.name


def written_format(path: Path, formats: Sequence[str]) -> str:
    """The format that structures are written in under a name; asked before anything is computed.

    Raises:
        OutputError: a name that stands for no format, or for one that is not among `formats`.
    """
    kind = None if path.suffix.lower() in COMPRESSED else format_of(path)
    if kind is None or kind not in formats:
        known = [
            suffix for suffix, name in _SUFFIXES.items() if name in formats and suffix not in (".poscar", ".contcar")
        ]
        raise OutputError(f"{path}: structures are written as {', '.join(known)}; the name must end in one of these")
    return kind


def mistaken_by_ase(path: Path) -> str | None:
    """The format for which ASE takes a name although its suffix says another, or None."""
    from ase.io.formats import UnknownFileTypeError, filetype

    ours = format_of(path)
    try:
        theirs = filetype(path.name, read=False)
    except UnknownFileTypeError:
        return None
    return None if ours is None or {theirs, ours} <= {"extxyz", "xyz"} or theirs == ours else str(theirs)


def structure_files(paths: Iterable[str | os.PathLike[str]], refused: Refused | None = None) -> list[Path]:
    """Files as they are given, and of folders every file in them whose name stands for a format, sorted by name.

    - Of a run of VASP that is its vasprun.xml, else its OUTCAR: the other files have the same structures, or fewer.
    - A folder without structure files of its own stands for those of the folders in it, at any depth.

    What else lies in a folder is passed over, and a warning lists it; hidden files are not mentioned.

    Args:
        paths: of files and folders.
        refused: is handed the error of a folder that is of no use; None: it is raised.
    Raises:
        DataError: a folder without any structure file.
    """
    listed: list[Path] = []
    aside: list[Path] = []
    for path in map(Path, paths):
        try:
            listed += _files_in(path, aside) if is_folder(path) else [path]
        except DataError as error:
            pass_over(error, refused)
    if runs := list(dict.fromkeys(str(file.parent) for file in aside)):
        names = ", ".join(sorted({file.name for file in aside}))
        more = f" and {len(runs) - 3} more" * (len(runs) > 3)
        warnings.warn(
            f"{', '.join(runs[:3])}{more}: of a run of VASP its vasprun.xml, else OUTCAR, is read; left aside: {names}",
            stacklevel=2,
        )
    return listed


def is_folder(path: Path) -> bool:
    """Whether a path is a folder of files; ASE's bundle trajectories are folders that are one file each."""
    if not path.is_dir():
        return False
    from ase.io.bundletrajectory import BundleTrajectory

    return not BundleTrajectory.is_bundle(str(path))


def _files_in(folder: Path, aside: list[Path]) -> list[Path]:
    """The structure files of one folder, else those of the folders in it; `aside` gets what a run of VASP repeats."""
    listed = _found(folder, set(), aside)
    if not listed:
        names = ", ".join(map(_listed_name, _listed(folder)[1]))
        raise DataError(f"{folder}: no structure files in this folder{f'; it holds {names}' if names else ''}")
    return listed


def _found(folder: Path, seen: set[Path], aside: list[Path]) -> list[Path]:
    """The same, or nothing; `seen` are folders that links lead back to."""
    if (place := folder.resolve()) in seen:
        return []
    seen.add(place)
    known, others = _listed(folder)
    if not known:
        return [file for other in others if other.is_dir() for file in _found(other, seen, aside)]
    taken = _labelled_by_vasp(known)
    if left := [entry for entry in known if entry not in taken]:
        aside += left
    elif others:
        names = ", ".join(map(_listed_name, others))
        warnings.warn(f"{folder}: skipped, because their names stand for no structures: {names}", stacklevel=4)
    return taken


def _listed(folder: Path) -> tuple[list[Path], list[Path]]:
    """Structure files and everything else of a folder, by name."""
    try:
        there = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror or error}") from None
    known = [entry for entry in there if not is_folder(entry) and format_of(entry) is not None]
    return known, [entry for entry in there if entry not in known]


def _listed_name(path: Path) -> str:
    return path.name + "/" * path.is_dir()


def _labelled_by_vasp(known: list[Path]) -> list[Path]:
    """Without the files of a run of VASP whose structures are in its vasprun.xml, else in its OUTCAR, with labels."""
    kinds = {entry: str(format_of(entry)) for entry in known}
    run = [entry for entry in known if entry.name.split(".")[0] in VASP_RUN]
    for kind in ("vasp-xml", "vasp-out"):
        if any(kinds[entry] == kind for entry in run):
            return [entry for entry in known if entry not in run or kinds[entry] == kind]
    return known
