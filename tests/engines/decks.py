"""Structures as LAMMPS boxes, for tests of what runs LAMMPS with a model."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from numpy.typing import NDArray

BAR = 1.6021765e6
"""1 eV/Å³ in bar, as LAMMPS has it."""


def standard(atoms: Atoms) -> Atoms:
    """Turned so that its cell is as LAMMPS wants it: a along x, b in the plane of x and y."""
    turned = atoms.copy()
    turned.set_cell(atoms.cell.standard_form()[0], scale_atoms=True)
    return turned


def quartz_like() -> Atoms:
    """A skewed cell of silicon and oxygen, smaller than the cutoff, so that atoms see their images."""
    cell = [[4.6, 0.0, 0.0], [0.9, 4.4, 0.0], [-0.6, 0.5, 4.8]]
    fractional = [[0.02, 0.05, 0.0], [0.5, 0.45, 0.08], [0.48, 0.1, 0.55], [0.1, 0.55, 0.5]]
    return Atoms("SiOSiO", scaled_positions=fractional, cell=cell, pbc=True)


def large_skewed() -> Atoms:
    """Rattled silicon with oxygen in it, in the primitive shape."""
    atoms = bulk("Si", "diamond", a=5.43).repeat((2, 2, 2))
    atoms.numbers[::3] = 8
    atoms.rattle(0.1, seed=1)
    return standard(atoms)


def slab() -> Atoms:
    """Silicon with a free surface."""
    atoms = bulk("Si", "diamond", a=5.43, cubic=True)
    atoms.rattle(0.1, seed=2)
    atoms.pbc = (True, True, False)
    atoms.cell[2, 2] = 12.0
    atoms.positions[:, 2] += 3.0
    return atoms


def in_a_box() -> Atoms:
    """A molecule in a box that is open on all sides."""
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=3)
    atoms.cell = [12.0, 11.0, 10.0]
    atoms.center()
    return atoms


SYSTEMS = {make.__name__: make for make in (quartz_like, large_skewed, slab, in_a_box)}


def box(atoms: Atoms, n_types: int) -> str:
    """Lines that make an empty box."""
    (lx, _, _), (xy, ly, _), (xz, yz, lz) = atoms.cell.array.tolist()
    edges = " ".join("p" if periodic else "f" for periodic in atoms.pbc)
    return "\n".join(
        (
            "units metal",
            f"boundary {edges}",
            "box tilt large",
            f"region whole prism 0 {lx!r} 0 {ly!r} 0 {lz!r} {xy!r} {xz!r} {yz!r}",
            f"create_box {n_types} whole",
        )
    )


def types_of(atoms: Atoms) -> tuple[list[str], NDArray[np.int64]]:
    """(symbols by type, types from 1): every other atom of the first element has a type of its own."""
    symbols = sorted(set(atoms.symbols))
    types = np.array([symbols.index(one) + 1 for one in atoms.symbols])
    first = np.flatnonzero(types == 1)
    types[first[1::2]] = len(symbols) + 1
    return [*symbols, symbols[0]], types


def filled(lmp: Any, atoms: Atoms, seed: int = 0) -> list[str]:
    """Make box, types and atoms, with ids in another order than the atoms'; the symbols by type."""
    symbols, types = types_of(atoms)
    lmp.commands_string(box(atoms, len(symbols)))
    for place, symbol in enumerate(symbols, start=1):
        lmp.command(f"mass {place} {float(Atoms(symbol).get_masses()[0])!r}")
    ids = np.random.default_rng(seed).permutation(len(atoms)) + 1
    lmp.create_atoms(len(atoms), ids.tolist(), types.tolist(), atoms.positions.reshape(-1).tolist())
    atoms.set_array("ids", ids)
    return symbols


def positions_of(lmp: Any, atoms: Atoms) -> Atoms:
    """The structure as LAMMPS has it now, in the order of `atoms`."""
    low, high, xy, yz, xz, _, _ = lmp.extract_box()
    lx, ly, lz = np.subtract(high, low)
    now = atoms.copy()
    now.cell = [[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]]
    now.positions = by_atom(lmp, "x", atoms) - low
    return now


def by_atom(lmp: Any, name: str, atoms: Atoms) -> NDArray[np.float64]:
    """A property of LAMMPS' atoms in the order of `atoms`."""
    n = len(atoms)
    order = np.argsort(lmp.numpy.extract_atom("id")[:n])
    return np.array(lmp.numpy.extract_atom(name)[:n][order][atoms.arrays["ids"] - 1])


def pressure_tensor(lmp: Any) -> NDArray[np.float64]:
    """Pressure of the potential in bar as a 3 x 3 tensor, for atoms at rest."""
    xx, yy, zz, xy, xz, yz = (lmp.get_thermo(one) for one in ("pxx", "pyy", "pzz", "pxy", "pxz", "pyz"))
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def lone() -> Atoms:
    """One atom without a neighbour."""
    return Atoms("Si", [[5.0, 5.0, 5.0]], cell=[30.0, 30.0, 30.0], pbc=True)


def corner() -> Atoms:
    """Few atoms in one corner, so that most of four ranks have none."""
    positions = [[1.0, 1.0, 1.0], [2.6, 1.2, 0.9], [1.3, 2.7, 1.4]]
    return Atoms("OSiO", positions, cell=[40.0, 40.0, 40.0], pbc=(True, True, False))


def data_file(atoms: Atoms, symbols: list[str], types: NDArray[np.int64]) -> str:
    """A file for `read_data`, with ids from 1 in the order of `atoms`."""
    (lx, _, _), (xy, ly, _), (xz, yz, lz) = atoms.cell.array.tolist()
    lines = ["", f"{len(atoms)} atoms", f"{len(symbols)} atom types"]
    lines += [f"0 {length!r} {axis}lo {axis}hi" for axis, length in zip("xyz", (lx, ly, lz), strict=True)]
    lines += [f"{xy!r} {xz!r} {yz!r} xy xz yz", "", "Masses", ""]
    lines += [f"{place} {float(Atoms(one).get_masses()[0])!r}" for place, one in enumerate(symbols, start=1)]
    lines += ["", "Atoms # atomic", ""]
    for number, (kind, position) in enumerate(zip(types, atoms.positions.tolist(), strict=True), start=1):
        lines.append(f"{number} {kind} " + " ".join(repr(one) for one in position))
    return "\n".join(lines) + "\n"
