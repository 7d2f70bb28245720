"""Where structures start from: files of crystals, prototypes, elements."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms

from mlanet.data.read import read_frames
from mlanet.errors import DataError

PROTOTYPES = "prototypes"
"""Name, in a list of files, of the AFLOW prototypes that pymatgen brings."""


class Seed(NamedTuple):
    """A structure to start from and where it came from."""

    atoms: Atoms
    where: str


def read_seeds(path: str, *, max_atoms: int) -> Iterator[Seed]:
    """Structures of any file that mlanet reads, of a JSON list of pymatgen structures, or `prototypes`."""
    if path == PROTOTYPES:
        seeds = _prototypes()
    elif path.endswith((".json", ".json.gz")):
        seeds = _pymatgen_list(path)
    else:
        seeds = (
            Seed(_plain(atoms), f"{Path(path).name}:{atoms.info.get('source_id', number)}")
            for number, (atoms, _) in enumerate(read_frames(path))
        )
    yield from (seed for seed in seeds if len(seed.atoms) <= max_atoms)


def distinct(seeds: Iterable[Seed], *, without: frozenset[str] = frozenset()) -> list[Seed]:
    """One of each: structures of equal formula, size and volume per atom (to 0.1 Å³) count once.

    Args:
        seeds: in the order of preference.
        without: reduced formulas that are left out, those of the test set.
    """
    first: dict[tuple[str, int, int], Seed] = {}
    for seed in seeds:
        formula = reduced_formula(seed.atoms)
        if formula not in without:
            volume = seed.atoms.get_volume() / len(seed.atoms) if seed.atoms.pbc.all() else 0.0
            first.setdefault((formula, len(seed.atoms), round(volume * 10)), seed)
    return list(first.values())


def reduced_formula(atoms: Atoms) -> str:
    """Formula with the smallest whole numbers, elements in alphabetical order.

    >>> reduced_formula(Atoms("O4Ti2"))
    'O2Ti'
    """
    counts = atoms.symbols.formula.count()
    divisor = int(np.gcd.reduce(list(counts.values())))
    return "".join(f"{symbol}{n // divisor if n > divisor else ''}" for symbol, n in sorted(counts.items()))


def share_of(text: str) -> float:
    """A number in [0, 1) that depends on the text alone: sets divided by it are the same in every run."""
    return int(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:12], 16) / 16**12


def _plain(atoms: Atoms) -> Atoms:
    """Geometry alone."""
    return Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell.array, pbc=atoms.pbc)


def _pymatgen_list(path: str) -> Iterator[Seed]:
    """Entries with a key `structure`, or pymatgen dicts themselves."""
    opened = gzip.open if path.endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            entries = json.load(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from None
    for number, entry in enumerate(entries):
        data = entry.get("structure", entry)
        try:
            lattice = np.array(data["lattice"]["matrix"], dtype=float)
            symbols = [site["species"][0]["element"] for site in data["sites"]]
            fractions = np.array([site["abc"] for site in data["sites"]], dtype=float)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise DataError(f"{path}, entry {number}: not a structure of pymatgen: {error!r}") from None
        atoms = Atoms(symbols, scaled_positions=fractions, cell=lattice, pbc=True)
        yield Seed(atoms, f"{Path(path).name}:{entry.get('mp_id', number)}")


def _prototypes() -> Iterator[Seed]:
    """AFLOW's prototypes from pymatgen."""
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY
    from pymatgen.io.ase import AseAtomsAdaptor

    for entry in AFLOW_PROTOTYPE_LIBRARY:
        structure = entry["snl"].structure
        if structure.is_ordered:
            atoms = _plain(AseAtomsAdaptor.get_atoms(structure, msonable=False))
            yield Seed(atoms, f"aflow:{entry['tags']['aflow']}")
