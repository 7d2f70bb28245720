"""The structures that models are timed on: rattled supercells of well-known crystals, of any size."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal

RATTLE = 0.05
"""Å, standard deviation of the displacements that take the symmetry away."""


def system(name: str) -> Atoms:
    """`LiCoO2:384` is a nearly cubic supercell of about 384 atoms; anything with a dot or slash is a file.

    >>> len(system("Si:64"))
    64

    Raises:
        ValueError: a name that is neither a known crystal with a number of atoms nor a file.
    """
    if "/" in name or "." in name:
        return _from_file(Path(name))
    kind, _, count = name.partition(":")
    if kind not in CRYSTALS or not count.isdigit() or int(count) < 1:
        raise ValueError(f"system '{name}': expected NAME:ATOMS with a name of {', '.join(CRYSTALS)}, or a file")
    unit = CRYSTALS[kind]()
    atoms = unit.repeat(repeats(unit, int(count)))
    atoms.positions += np.random.default_rng(0).normal(scale=RATTLE, size=atoms.positions.shape)
    return atoms


def repeats(unit: Atoms, count: int) -> tuple[int, int, int]:
    """How often to repeat a cell along its vectors for about `count` atoms in about a cube (a square for a slab)."""
    lengths, periodic = unit.cell.lengths(), unit.pbc
    copies = max(1, round(count / len(unit)))
    best, chosen = math.inf, (1, 1, 1)
    for first in _divisors(copies) if periodic[0] else [1]:
        for second in _divisors(copies // first) if periodic[1] else [1]:
            third = copies // first // second
            if third > 1 and not periodic[2]:
                continue
            edges = [n * length for n, length, on in zip((first, second, third), lengths, periodic, strict=True) if on]
            uneven = max(edges) / min(edges)
            if uneven < best:
                best, chosen = uneven, (first, second, third)
    if best > 3 and copies > 4:  # a prime number of copies makes a needle: one more or less does not
        return repeats(unit, (copies + 1) * len(unit))
    return chosen


def _divisors(number: int) -> list[int]:
    return [index for index in range(1, number + 1) if number % index == 0]


def _from_file(path: Path) -> Atoms:
    from ase.io import read

    atoms = read(path)
    assert isinstance(atoms, Atoms)
    return atoms


def _licoo2() -> Atoms:
    """R-3m, 12 atoms: the layered cathode."""
    places = [(0, 0, 0.5), (0, 0, 0), (0, 0, 0.2605)]
    return crystal(("Li", "Co", "O"), places, spacegroup=166, cellpar=[2.816, 2.816, 14.05, 90, 90, 120])


def _bilayer() -> Atoms:
    """Two sheets of graphene, AB, periodic in two directions."""
    places = [[0, 0, 0], [1.23, 0.7101, 0], [0, 0, 3.35], [-1.23, 0.7101, 3.35]]
    return Atoms("C4", places, cell=[[2.46, 0, 0], [1.23, 2.1304, 0], [0, 0, 20]], pbc=[True, True, False])


def _dry_ice() -> Atoms:
    """Pa-3, four molecules of CO2: strong bonds inside, next to nothing between."""
    return crystal(("C", "O"), [(0, 0, 0), (0.1185, 0.1185, 0.1185)], spacegroup=205, cellpar=[5.624] * 3 + [90] * 3)


CRYSTALS = {
    "Si": lambda: bulk("Si", "diamond", a=5.43, cubic=True),
    "Cu": lambda: bulk("Cu", "fcc", a=3.61, cubic=True),
    "NaCl": lambda: bulk("NaCl", "rocksalt", a=5.64, cubic=True),
    "LiCoO2": _licoo2,
    "bilayer": _bilayer,
    "CO2": _dry_ice,
}
