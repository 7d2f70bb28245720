"""Files cut short, of formats whose readers would take what is left for all: refused where the text itself shows it.

| format | what shows it |
|--|--|
| SHELX and AIRSS (.res) | the last card is END |
| Protein Data Bank (.pdb) | the last record is END, ENDMDL, TER, MASTER or CONECT |
| GROMACS (.gro) | the second line promises so many atoms, and a box behind them |
| MDL (.mol, .sdf) | the fourth line promises so many atoms and bonds; M  END is behind them |
| NWChem's input (.nwi) | the geometry ends with end and an empty line; without them ASE's reader does not come back |

A CIF has no end, and its formula may leave atoms out or have more (hydrogen, solvents): a crystal without that
composition is read, with a warning (`formula_remark`). FHI-aims' geometry.in announces nothing.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ase import Atoms

from mlanet.data.bounded_text import require_atoms
from mlanet.errors import DataError

_LAST_RECORDS = ("END", "ENDMDL", "TER", "MASTER", "CONECT")
_MOST_CIF = 2**22
"""Characters of a CIF that are looked at."""


def require_whole(kind: str, stream: IO[str], path: Path) -> None:
    """Refuse a text of which a part is missing.

    Args:
        kind: ASE's name of its format, one of `CHECKED`.
        stream: at its start, and left there.
        path: named in the error.
    Raises:
        DataError: with file and reason.
    """
    lines = stream.read().splitlines()
    stream.seek(0)
    if lines and any(line.strip() for line in lines) and (missing := CHECKED[kind](lines)):
        raise DataError(f"{path}: cut short: {missing}")


def formula_of(path: Path, opened: Callable[[Path], IO[str]]) -> str:
    """The sum formula of a CIF with one structure; empty where there is none, or it is not known."""
    with contextlib.suppress(Exception):  # whatever keeps it from being read is told by its reader
        with opened(path) as stream:
            text = stream.read(_MOST_CIF)
        formulas = re.findall(r"^_chemical_formula_sum\s+('[^']*'|\"[^\"]*\"|[A-Z]\S*)", text, re.MULTILINE)
        if len(formulas) == len(re.findall(r"^data_", text, re.MULTILINE)) == 1:
            return str(formulas[0]).strip("'\"")
    return ""


def formula_remark(atoms: Atoms, formula: object) -> str:
    """What to say where atoms are no multiple of a CIF's sum formula, in proportions; empty where they are.

    Hydrogen is left out of the comparison, since X-rays often do not see it.

    >>> formula_remark(Atoms("Na4Cl4"), "Na Cl"), formula_remark(Atoms("NaO2H"), "Na2 O2 H2")
    ('', 'its atoms are Na1 O2, its formula says Na2 O2 H2; is it cut short?')
    """
    words = re.findall(r"([A-Z][a-z]?)(\d*\.?\d*)", str(formula))
    said = Counter({symbol: float(count or 1) for symbol, count in words if symbol not in ("H", "D")})
    there = Counter(symbol for symbol in atoms.symbols if symbol != "H")
    if not said or not there:
        return ""
    scale = said.total() / there.total()
    if (
        set(said) == set(there)
        and scale < 1.001
        and all(abs(there[element] * scale - said[element]) < 1e-3 * said[element] for element in said)
    ):
        return ""
    named = " ".join(f"{symbol}{count}" for symbol, count in there.items())
    return f"its atoms are {named}, its formula says {str(formula).strip()}; is it cut short?"


def _res(lines: list[str]) -> str:
    ended = any(line.split()[:1] and line.split()[0].upper() == "END" for line in lines)
    return "" if ended else "its last line is no END"


def _pdb(lines: list[str]) -> str:
    last = next(line for line in reversed(lines) if line.strip())
    return "" if last[:6].strip() in _LAST_RECORDS else "its last record is no END"


def _gro(lines: list[str]) -> str:
    promised = _number(lines[1]) if len(lines) > 1 else None
    if promised is None:
        return ""
    if len(lines) < promised + 3:
        return f"its second line promises {promised} atoms and a box, behind it are {len(lines) - 2} lines"
    return "" if len(lines[promised + 2].split()) in (0, 3, 9) else "its box is neither three numbers nor nine"


def _mol(lines: list[str]) -> str:
    counts = lines[3] if len(lines) > 3 else ""
    atoms, bonds = _number(counts[:3]), _number(counts[3:6])
    if atoms is None or bonds is None or "V3000" in counts:
        return ""
    if len(lines) < 4 + atoms + bonds:
        return f"its fourth line promises {atoms} atoms and {bonds} bonds, behind it are {len(lines) - 4} lines"
    return "" if any(line.split()[:2] == ["M", "END"] for line in lines) else "M  END is missing"


def _nwchem(lines: list[str]) -> str:
    opened = [line.strip().lower() for line in lines]
    if not any(line.startswith("geometry") for line in opened):
        return ""
    ended = any(one == "end" and not after for one, after in itertools.pairwise(opened))
    return "" if ended else "its geometry has no end with an empty line behind it"


def _number(word: str) -> int | None:
    """Of a text that promises so many atoms; None where it is no number."""
    if not word.strip().isdigit():
        return None
    count = int(word)
    require_atoms(count, "its header")
    return count


CHECKED: dict[str, Callable[[list[str]], str]] = {
    "res": _res,
    "proteindatabank": _pdb,
    "gromacs": _gro,
    "mol": _mol,
    "sdf": _mol,
    "nwchem-in": _nwchem,
}
"""Formats of which it can be known, and what is missing."""


def open_text(source: str | IO[str] | IO[bytes]) -> contextlib.AbstractContextManager[IO[str]]:
    """A text of ASE's reader, from its name or already in memory."""
    if isinstance(source, str):
        return open(source, encoding="utf-8", errors="replace")
    assert isinstance(source, io.StringIO)
    return contextlib.nullcontext(source)
