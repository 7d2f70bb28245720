"""Which atoms make a layer, and the same structure with its layers moved."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry.dimensionality import analyze_dimensionality
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from mlanet.errors import GeometryError

VACUUM = 9.0
"""Å between the atoms of neighbouring layers from which a gap is empty space, not the distance of two layers."""

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Layers:
    """A stack of layers, written so that the first two lattice vectors lie in them.

    - atoms: the structure, every layer whole; free along the third direction if the stack is finite
    - owner (N,): which layer an atom belongs to, 0 at the bottom · n_layers · normal (3,): upwards
    - finite: a few layers in empty space, or else a bulk crystal
    """

    atoms: Atoms
    owner: Integers
    n_layers: int
    normal: NDArray[np.float64]
    finite: bool

    @property
    def area(self) -> float:
        """Å², of one layer."""
        return float(np.linalg.norm(np.cross(self.atoms.cell[0], self.atoms.cell[1])))

    @property
    def interfaces(self) -> int:
        """How many pairs of layers face each other."""
        return self.n_layers - 1 if self.finite else self.n_layers

    @property
    def distance(self) -> float:
        """Å from one mid-plane to the next, on average."""
        if not self.finite:
            return float(abs(self.atoms.cell[2] @ self.normal)) / self.n_layers
        heights = self.heights()
        return float(heights[-1] - heights[0]) / (self.n_layers - 1)

    def heights(self) -> NDArray[np.float64]:
        """Å, of the mid-planes."""
        along = self.atoms.positions @ self.normal
        return np.array([along[self.owner == index].mean() for index in range(self.n_layers)])

    def at(self, distance: float) -> Atoms:
        """The structure with its layers rigidly moved to this average distance."""
        extra = distance - self.distance
        atoms = self.atoms.copy()
        atoms.positions += np.outer(self.owner, extra * self.normal)
        if not self.finite:
            atoms.set_cell(atoms.cell.array + np.outer([0, 0, self.n_layers], extra * self.normal))
        return atoms

    def alone(self, index: int) -> Atoms:
        """One layer in empty space, free along its normal."""
        atoms = self.atoms[self.owner == index]
        thickness = float(np.ptp(atoms.positions @ self.normal))
        atoms.set_cell([*atoms.cell.array[:2], (thickness + 20.0) * self.normal])
        atoms.pbc = [True, True, False]
        return atoms


def find_layers(atoms: Atoms) -> Layers:
    """Layers of a bulk crystal or of a few layers in empty space, whatever cell they are written in.

    Bonds are judged by covalent radii, at the scale at which the structure looks most clearly two-dimensional (P. M.
    Larsen et al., Phys. Rev. Materials 3, 034003, as in ASE). A gap of more than 9 Å counts as empty space.

    Raises:
        GeometryError: no layers, a single layer in empty space, or layers that are not parallel.
    """
    if atoms.pbc.sum() < 2:
        raise GeometryError("layers need a structure that is periodic in at least two directions")
    scale = _scale(atoms)
    owner, offset, shifts = _connected(atoms, scale)
    basis = _basis(atoms, shifts)
    whole = Atoms(atoms.numbers, atoms.positions + offset @ atoms.cell.array, cell=basis @ atoms.cell.array, pbc=True)
    normal = np.cross(whole.cell[0], whole.cell[1])
    normal /= np.linalg.norm(normal)
    return _stacked(whole, owner, normal, periodic=bool(atoms.pbc.all()))


def _scale(atoms: Atoms) -> float:
    """Factor on covalent radii at which all atoms belong to layers."""
    judged = _without_empty_space(atoms)
    if judged.pbc.sum() < 2:
        raise GeometryError("no layers found: empty space along more than one direction, as around a molecule or wire")
    components = analyze_dimensionality(judged, method="RDA")
    flat = [component for component in components if component.dimtype == "2D"]
    if not flat:
        best = components[0].dimtype
        raise GeometryError(f"no layers found: judged by covalent radii the bonds make this structure {best}")
    best = max(flat, key=lambda component: component.score)
    return float(best.a * 1.0001 + 0.1 * min(best.b - best.a, 0.2))


def _without_empty_space(atoms: Atoms) -> Atoms:
    """Not periodic across a gap, which the bonds judged would otherwise have to bridge: thousands of each atom."""
    judged = atoms.copy()
    fractional = atoms.get_scaled_positions()
    heights = 1.0 / np.linalg.norm(atoms.cell.complete().reciprocal().array, axis=1)  # Å, from face to face
    for axis in np.flatnonzero(atoms.pbc):
        along = np.sort(fractional[:, axis])
        gaps = np.diff(along, append=along[0] + 1.0)
        widest = int(gaps.argmax())
        if gaps[widest] * heights[axis] > VACUUM:
            fractional[:, axis] = (fractional[:, axis] - along[(widest + 1) % len(along)]) % 1.0
            judged.pbc[axis] = False
    judged.set_scaled_positions(fractional)
    return judged


def _connected(atoms: Atoms, scale: float) -> tuple[Integers, Integers, Integers]:
    """Layer of each atom, lattice offsets that make layers whole, and the lattice vectors inside layers."""
    radii = scale * covalent_radii[atoms.numbers]
    first, second, shift = neighbor_list("ijS", atoms, radii)
    order = np.argsort(first, kind="stable")
    first, second, shift = first[order], second[order], shift[order]
    start = np.searchsorted(first, np.arange(len(atoms) + 1))
    owner, offset = np.full(len(atoms), -1), np.zeros((len(atoms), 3), dtype=np.int64)
    for seed in range(len(atoms)):
        if owner[seed] >= 0:
            continue
        owner[seed] = owner.max() + 1
        waiting = [seed]
        while waiting:
            atom = waiting.pop()
            for edge in range(start[atom], start[atom + 1]):
                other = second[edge]
                if owner[other] < 0:
                    owner[other] = owner[seed]
                    offset[other] = offset[atom] + shift[edge]
                    waiting.append(other)
    inside = offset[first] + shift - offset[second]
    return owner, offset, np.unique(inside[(inside != 0).any(axis=1)], axis=0)


def _basis(atoms: Atoms, shifts: Integers) -> Integers:
    """Integer matrix, det 1: two short lattice vectors in the layers, and the shortest one to the next."""
    cell = np.where(atoms.pbc[:, None], atoms.cell.array, 0) + np.where(atoms.pbc[:, None], 0, _filled(atoms))
    crosses = np.array([np.cross(a, b) for a, b in itertools.combinations(shifts, 2)]).reshape(-1, 3)
    crosses = crosses[(crosses != 0).any(axis=1)]
    if not len(crosses):
        raise GeometryError("no layers found: the bonds connect atoms along one direction only")
    normal = crosses[0] // np.gcd.reduce(crosses[0])
    if (shifts @ normal).any():
        raise GeometryError("no layers found: they are not parallel, or bonds connect them")
    reach = range(-int(abs(normal).max()) - 1, int(abs(normal).max()) + 2)
    every = np.array(list(itertools.product(reach, repeat=3)))
    every = every[np.argsort(np.linalg.norm(every @ cell, axis=1), kind="stable")]
    plane = every[(every @ normal == 0) & (every != 0).any(axis=1)]
    for a, b in itertools.combinations(plane[:24], 2):
        if abs(np.cross(a, b) @ normal) == normal @ normal:
            break
    across = every[every @ normal == 1][0]
    return np.array([a, b, across] if np.cross(a, b) @ normal > 0 else [b, a, across])


def _filled(atoms: Atoms) -> NDArray[np.float64]:
    """Vectors for directions without a period."""
    return np.asarray(atoms.cell.complete().array, dtype=np.float64)


def _stacked(whole: Atoms, owner: Integers, normal: NDArray[np.float64], *, periodic: bool) -> Layers:
    """Layers in order of height; a large gap makes the stack finite, and goes to the outside."""
    height = whole.positions @ normal
    n_layers = int(owner.max()) + 1
    low, high, middle = (np.array([f(height[owner == k]) for k in range(n_layers)]) for f in (np.min, np.max, np.mean))
    period = float(whole.cell[2] @ normal)
    if not periodic:
        order = np.argsort(middle)
        if n_layers == 1:
            raise GeometryError("a single layer in empty space: there is nothing to pull it away from")
        whole.pbc = [True, True, False]
        return Layers(whole, np.argsort(order)[owner], n_layers, normal, finite=True)
    turns = np.floor(middle / period - 1e-9)
    middle, low, high = middle - turns * period, low - turns * period, high - turns * period
    order = np.argsort(middle)
    gaps = np.append(low[order][1:], low[order][0] + period) - high[order]
    # Layers that are all far apart are a stretched crystal.
    finite = bool(gaps.max() >= VACUUM and (n_layers == 1 or gaps.min() < VACUUM))
    if finite and n_layers == 1:
        raise GeometryError("a single layer in empty space: there is nothing to pull it away from")
    lowest = (int(gaps.argmax()) + 1) % n_layers if finite else 0
    turns = turns - np.where(np.argsort(order) < lowest, 1, 0)
    whole.positions -= np.outer(turns[owner], whole.cell[2])
    if finite:
        whole.pbc = [True, True, False]
    return Layers(whole, (np.argsort(order)[owner] - lowest) % n_layers, n_layers, normal, finite)
