"""End points of a path: made from one structure and a hop, or two structures that are shown to be of the same atoms."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry import find_mic, minkowski_reduce
from numpy.typing import ArrayLike, NDArray

from mlanet.data.neighbors import neighbor_list
from mlanet.errors import GeometryError

SAME_CELL = 1e-3
"""Å by which the lattice vectors of two files may differ, from rounding."""
SAME_PLACE = 1e-3
"""Å below which no atom has moved."""
SHORTER = 1.0
"""Å²; two atoms look exchanged where the squared way is shorter by more with their numbers exchanged."""
COLLISION = 0.6
"""Of the sum of the covalent radii: closer atoms are no chemistry but a path through each other."""


TOO_NEAR, NEAR = 5.0, 7.0
"""Å between an atom and its periodic images: below the first a hop is not one of a single atom, below the second images
still act on each other."""


def images_near(atoms: Atoms, hop: bool, where: object = "structure") -> str:
    """Whether periodic images of a hopping atom are near, and the supercell in which they are not; empty if they are
    not.

    In a cell of 3 Å every image of the atom hops at once, through a crystal with a vacancy in each cell. Whoever wants
    such a motion, as of a whole layer, gives both ends.

    Args:
        atoms: the structure at the start.
        hop: whether one atom is to hop, rather than atoms to move between two given structures.
        where: named in the error.
    Raises:
        GeometryError: images of a hopping atom nearer than `TOO_NEAR`.
    """
    apart = _image_distance(atoms, (1, 1, 1))
    if apart >= NEAR:
        return ""
    copies = _copies(atoms)
    cure = f"--repeat {'x'.join(map(str, copies))}, times a repeat already given, makes it {NEAR:g} Å or more"
    if hop and apart < TOO_NEAR:
        raise GeometryError(
            f"{where}: periodic images of an atom are {apart:.2f} Å apart, so a hop would be one of a whole lattice of "
            f"atoms: {cure}; for a motion of all images together give both ends"
        )
    return f"periodic images are {apart:.2f} Å apart and act on each other; {cure}"


def _image_distance(atoms: Atoms, copies: tuple[int, ...]) -> float:
    """Å from an atom to its nearest periodic image in a supercell; infinite where nothing is periodic."""
    if not atoms.pbc.any():
        return float("inf")
    reduced, _ = minkowski_reduce(atoms.cell.array * np.array(copies)[:, None], atoms.pbc)
    return float(np.linalg.norm(reduced[atoms.pbc], axis=1).min())


def _copies(atoms: Atoms) -> tuple[int, ...]:
    """The smallest supercell whose images are `NEAR` apart, longer along its shortest vector first."""
    lengths = atoms.cell.lengths()
    copies = [1, 1, 1]
    while _image_distance(atoms, tuple(copies)) < NEAR:
        copies[min(np.flatnonzero(atoms.pbc), key=lambda k: copies[k] * lengths[k])] += 1
    return tuple(copies)


def vacancy_hop(atoms: Atoms, vacancy: int, to: int | None = None, where: str = "structure") -> tuple[Atoms, Atoms]:
    """The structure without an atom, and the same after another atom has moved into its place.

    Args:
        atoms: without a vacancy yet; its calculator, if any, is that of both ends.
        vacancy: number of the atom that is taken out, counted from 0.
        to: number of the atom that hops, so where the vacancy goes; None: the nearest one of the same element.
        where: named in errors.
    Raises:
        GeometryError: no such atom, none to hop, or atoms in each other before.
    """
    _require_apart(atoms, where)
    _require_atom(atoms, vacancy, where)
    if to is None:
        others = np.flatnonzero((atoms.numbers == atoms.numbers[vacancy]) & (np.arange(len(atoms)) != vacancy))
        if not len(others):
            name = f"atom {vacancy} ({atoms.symbols[vacancy]})"
            raise GeometryError(
                f"{where}: {name} is the only one of its element; repeat the cell or name the other atom"
            )
        to = int(others[np.argmin(atoms.get_distances(vacancy, others, mic=True))])
    _require_atom(atoms, to, where)
    if to == vacancy:
        raise GeometryError(f"{where}: atom {to} cannot hop into its own place; name two atoms")
    start, end = _copy(atoms), _copy(atoms)
    end.positions[to] += atoms.get_distance(to, vacancy, mic=True, vector=True)
    del start[vacancy], end[vacancy]
    return start, end


def hop_into(atoms: Atoms, atom: int, place: ArrayLike, where: str = "structure") -> tuple[Atoms, Atoms]:
    """The structure, and the same after one atom has hopped to an empty place.

    Args:
        atoms: with the empty place in it; its calculator, if any, is that of both ends.
        atom: number of the one that hops, counted from 0.
        place: (3,) in units of the lattice vectors.
        where: named in errors.
    Raises:
        GeometryError: no such atom, no cell, a place that is taken, or atoms in each other before.
    """
    _require_apart(atoms, where)
    _require_atom(atoms, atom, where)
    if abs(np.linalg.det(atoms.cell.array)) == 0:
        raise GeometryError(
            f"{where}: has no cell, so a place in units of lattice vectors means nothing; give two files"
        )
    start, end = _copy(atoms), _copy(atoms)
    step = np.asarray(place, dtype=np.float64) @ atoms.cell.array - atoms.positions[atom]
    end.positions[atom] += find_mic(step, atoms.cell, atoms.pbc)[0]
    if near := closest(end):
        raise GeometryError(f"{where}: the place is taken: there {near}")
    return start, end


def matched(start: Atoms, end: Atoms, names: tuple[str, str], as_ordered: bool = False) -> tuple[Atoms, Atoms]:
    """Copies of two ends of a path, the second in the cell of the first and with every atom at its nearest image.

    Args:
        start, end: the ends; not changed.
        names: of the two, for errors.
        as_ordered: atoms keep their numbers even where two of them look exchanged.
    Raises:
        GeometryError: other atoms, another order of atoms, another cell, or nothing that moves; the atom is named.
    """
    first, second = names
    _require_same_atoms(start, end, first, second)
    _require_same_cell(start, end, first, second)
    start, end = _copy(start), _copy(end)
    step = end.positions - start.positions
    if start.pbc.any():
        step = find_mic(step, start.cell, start.pbc)[0]
    length = np.linalg.norm(step, axis=1)
    if length.max() < SAME_PLACE:
        raise GeometryError(f"{second}: is the same structure as {first}; there is no path between them")
    if not as_ordered:
        _require_order(start, end, length, first, second)
    end.set_cell(start.cell)
    end.positions = start.positions + step
    return start, end


def closest(atoms: Atoms, below: float = COLLISION) -> str:
    """The pair of atoms that is closest for its radii, in words; empty where none is below the bound.

    - below: of the sum of the covalent radii
    """
    radii = covalent_radii[atoms.numbers]
    pairs = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, 2 * below * float(radii.max()))
    vectors = atoms.positions[pairs.neighbor] + pairs.shift @ atoms.cell.array - atoms.positions[pairs.center]
    length = np.linalg.norm(vectors, axis=1)
    ratio = length / (radii[pairs.center] + radii[pairs.neighbor])
    if not len(ratio) or ratio.min() >= below:
        return ""
    k = int(ratio.argmin())
    a, b = sorted((int(pairs.center[k]), int(pairs.neighbor[k])))
    return f"atoms {a} ({atoms.symbols[a]}) and {b} ({atoms.symbols[b]}) are {length[k]:.2f} Å apart"


def _copy(atoms: Atoms) -> Atoms:
    """With the same calculator."""
    copy = atoms.copy()
    copy.calc = atoms.calc
    return copy


def _require_apart(atoms: Atoms, where: str) -> None:
    """Before a hop: it is made from a structure without atoms in each other."""
    if near := closest(atoms):
        raise GeometryError(f"{where}: {near}, closer than any bond: an atom too many, or a wrong cell")


def _require_atom(atoms: Atoms, index: int, where: str) -> None:
    if not 0 <= index < len(atoms):
        raise GeometryError(f"{where}: has no atom {index}; its {len(atoms)} atoms are counted from 0")


def _require_same_atoms(start: Atoms, end: Atoms, first: str, second: str) -> None:
    """The same elements under the same numbers."""
    if sorted(start.numbers) != sorted(end.numbers):
        formulas = f"{first} is of {start.get_chemical_formula()}, {second} of {end.get_chemical_formula()}"
        raise GeometryError(f"{formulas}; both ends of a path have the same atoms")
    other = np.flatnonzero(start.numbers != end.numbers)
    if len(other):
        k = int(other[0])
        raise GeometryError(
            f"{second}: atom {k} is {end.symbols[k]}, in {first} it is {start.symbols[k]}; "
            "write the atoms of both ends in the same order"
        )


def _require_same_cell(start: Atoms, end: Atoms, first: str, second: str) -> None:
    if (start.pbc != end.pbc).any():
        raise GeometryError(f"{first} is periodic along {start.pbc.tolist()}, {second} along {end.pbc.tolist()}")
    for k in range(3):
        off = np.abs(start.cell[k] - end.cell[k]).max()
        if start.pbc[k] and off > SAME_CELL:
            raise GeometryError(
                f"{second}: its lattice vector {'abc'[k]} is {_vector(end.cell[k])} Å, "
                f"in {first} {_vector(start.cell[k])}; "
                "a path is computed in one cell: relax both ends in the same one"
            )


def _require_order(start: Atoms, end: Atoms, length: NDArray[np.float64], first: str, second: str) -> None:
    """No two atoms of an element that would have a much shorter way if their numbers were exchanged."""
    from scipy.optimize import linear_sum_assignment

    for number in np.unique(start.numbers):
        chosen = np.flatnonzero(start.numbers == number)
        ways = _ways(start, end, chosen) ** 2
        _, best = linear_sum_assignment(ways)
        if (length[chosen] ** 2).sum() - ways[np.arange(len(chosen)), best].sum() < SHORTER:
            continue
        k = int(np.argmax(np.where(best != np.arange(len(chosen)), length[chosen], -1)))
        raise GeometryError(
            f"{second}: atom {chosen[k]} ({start.symbols[chosen[k]]}) is {length[chosen[k]]:.2f} Å from its place in "
            f"{first}, where atom {chosen[best[k]]} of {second} would fit better ({np.sqrt(ways[k, best[k]]):.2f} Å); "
            "write the atoms in the same order, or say --as-ordered if they are to exchange places"
        )


def _ways(start: Atoms, end: Atoms, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, n) Å from each of the chosen atoms at the start to each at the end."""
    step = end.positions[None, chosen] - start.positions[chosen, None]
    if start.pbc.any():
        return find_mic(step.reshape(-1, 3), start.cell, start.pbc)[1].reshape(len(chosen), -1)
    return np.linalg.norm(step, axis=2)


def _vector(vector: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{component:.4g}" for component in vector) + ")"
