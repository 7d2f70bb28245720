"""Structures that the package ships, in a clone and in a wheel: an oxide, a semiconductor, metals, a layered crystal …

>>> from mlanet import examples
>>> examples.names()[:3]
('gaas.cif', 'li.POSCAR', 'licoo2.cif')
>>> examples.read("licoo2.cif").get_chemical_formula()
'Co3Li3O6'
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlanet.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

FOLDER = Path(__file__).with_name("examples")
"""Where the files are."""


def names() -> tuple[str, ...]:
    """Names of the files."""
    return tuple(sorted(one.name for one in FOLDER.iterdir() if one.is_file()))


def path(name: str) -> Path:
    """Where one of them is, for a command or another program.

    Raises:
        DataError: no such example; the message names those that there are.
    """
    if name not in names():
        raise DataError(f"no example is called '{name}'; there are {', '.join(names())}")
    return FOLDER / name


def read(name: str) -> Atoms:
    """One of them as ASE has it; raises as `path`."""
    from mlanet.data.read import read_last

    return read_last(path(name)).atoms
