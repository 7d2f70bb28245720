"""The comment line of an extended XYZ frame: keys that are almost right are refused, never passed over."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from mlanet.errors import DataError

# Names under which other programs and people write what ASE reads under one name only.
_SYNONYMS = {
    "Lattice": ("cell", "unitcell", "latticevectors", "cellvectors", "latt", "box", "boxvectors", "h", "latticematrix"),
    "Properties": ("property", "props", "columns", "fields"),
    "pbc": ("periodic", "periodicity", "periodicboundary", "periodicboundaryconditions", "boundary", "pbcs"),
}
_SIMILAR = {"Lattice": 0.75, "Properties": 0.75, "pbc": 1.0}
_TRUTH = {"t": True, "true": True, "1": True, "f": False, "false": False, "0": False}
_COLUMNS = {
    "species": ("symbol", "symbols", "element", "elements", "specie", "atom", "atoms", "type"),
    "pos": ("position", "coord", "coords", "coordinates", "xyz", "cartesian", "r"),
}
_CELL_OF_IPI = re.compile(r"\bCELL\s*[({\[]\s*(abcABC|GENH|H)\b", re.IGNORECASE)


def require_spelled(info: Mapping[str, Any], comment: str, where: str) -> None:
    """Refuse a comment line that gives a cell, columns or periodicity in another way than extended XYZ does.

    A line that has the right key may have others beside it; text after a wrong one that cannot be meant (a `cell`
    that is no list of numbers) is left alone too.

    Args:
        info: the keys and values in the line, as ASE reads them.
        comment: the line.
        where: named in errors, usually file and frame.
    Raises:
        DataError: with the right spelling.
    """
    if "Lattice" not in info and _CELL_OF_IPI.search(comment):
        raise DataError(f"{where}: a cell in the form of i-PI is not read; write {_RIGHT['Lattice']}")
    for right in ("Properties", "Lattice", "pbc"):
        if right in info:
            continue
        for key, value in info.items():
            if _almost(key, right) and _meant(value, right):
                raise DataError(f"{where}: '{key}=' is not a key of extended XYZ; write {_RIGHT[right]}")
    if "pbc" in info:
        _require_pbc(info["pbc"], where)
    if "Properties" in info:
        _require_columns(str(info["Properties"]), where)


_RIGHT = {
    "Lattice": 'Lattice="ax ay az bx by bz cx cy cz", in Å',
    "Properties": "Properties=species:S:1:pos:R:3 (and what other columns there are)",
    "pbc": 'pbc="T T F", one letter for each lattice vector',
}


def _almost(key: str, right: str) -> bool:
    """Whether a key is the right one but for its spelling, or another program's name of it."""
    plain = re.sub(r"[^a-z]", "", key.lower())
    if plain in (right.lower(), *_SYNONYMS[right]):
        return True
    return difflib.SequenceMatcher(None, plain, right.lower()).ratio() >= _SIMILAR[right]


def _meant(value: Any, right: str) -> bool:
    """Whether a value is of the kind that belongs to a key: lengths and vectors, columns, or what is periodic."""
    words = [word for word in re.split(r"[\s,\[\]]+", str(value)) if word]
    if right == "Lattice":
        return len(words) in (3, 6, 9) and all(map(_is_number, words))
    if right == "Properties":
        return isinstance(value, str) and re.fullmatch(r"\w+:[RISL]:\d+(:\w+:[RISL]:\d+)*", value) is not None
    return all(word.lower() in _TRUTH for word in words) and len(words) in (1, 3)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _require_pbc(value: Any, where: str) -> None:
    """ASE takes any text for true, `pbc="FFF"` too."""
    words = re.findall(r"[^\s,\[\]]+", str(value))
    if len(words) not in (1, 3) or any(word.lower() not in _TRUTH for word in words) or isinstance(value, str):
        raise DataError(f"{where}: pbc='{value}' is not understood; write {_RIGHT['pbc']}")


def _require_columns(columns: str, where: str) -> None:
    """A frame without species or positions would be read as dummy atoms, or as atoms that all stand at the origin."""
    names = columns.split(":")[::3]
    for right, others in (("species", ("symbols", "Z", "numbers")), ("pos", ("positions",))):
        if right in names or any(other in names for other in others):
            continue
        wrong = [name for name in names if name.lower() == right or name.lower() in (*_COLUMNS[right], *others)]
        instead = f" '{wrong[0]}' is not read as such;" if wrong else ""
        raise DataError(f"{where}: Properties={columns} has no column '{right}';{instead} rename it in the file")
