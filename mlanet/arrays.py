"""A batch of structures, and what is said of it, in numpy: `AtomicGraph` and `Prediction` where no torch is."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlanet.quantities import Quantity

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_NEXT, _LAST = [1, 2, 0], [2, 0, 1]
"""Axes, for b × c."""


class Size(NamedTuple):
    """How large a batch is: atoms, directed pairs, and the most neighbours that one of its atoms has."""

    atoms: int
    edges: int
    degree: int

    def with_(self, other: Size) -> Size:
        """Of both in one batch."""
        return Size(self.atoms + other.atoms, self.edges + other.edges, max(self.degree, other.degree))


@dataclass(frozen=True)
class GraphArrays:
    """One batch of structures and every pair of atoms closer than `cutoff`; fields as those of `AtomicGraph`.

    Arrays are not written to once they are here: what follows from them is kept.
    """

    positions: Floats
    numbers: Integers
    cell: Floats
    pbc: NDArray[np.bool_]
    center: Integers
    neighbor: Integers
    shift: Integers
    structure: Integers
    n_structures: int
    cutoff: float
    charge: Floats
    atomic_charges: Floats | None = None

    @property
    def n_atoms(self) -> int:
        """N, the number of atoms of all structures together."""
        return len(self.positions)

    @property
    def n_edges(self) -> int:
        """E, the number of directed pairs."""
        return len(self.center)

    def arrays(self) -> GraphArrays:
        """Itself; other graphs become one."""
        return self

    @functools.cached_property
    def vectors(self) -> Floats:
        """r_ij = R_j + shift · cell − R_i, (E, 3) Å."""
        shift = self.shift.astype(np.float64)
        if self.n_structures == 1:
            image = shift @ self.cell[0]
        else:
            image = np.einsum("ea,eab->eb", shift, self.cell[self.structure[self.center]])
        return self.positions[self.neighbor] + image - self.positions[self.center]

    @functools.cached_property
    def starts(self) -> Integers:
        """(S + 1,): atoms of structure s are starts[s] … starts[s + 1] − 1."""
        if self.n_structures == 1:
            return np.array([0, self.n_atoms])
        return np.searchsorted(self.structure, np.arange(self.n_structures + 1))

    @functools.cached_property
    def counts(self) -> Integers:
        """(S,): how many atoms each structure has."""
        return self.starts[1:] - self.starts[:-1]

    def atoms_per_structure(self) -> Integers:
        """The same, as of other graphs."""
        return self.counts

    @functools.cached_property
    def volumes(self) -> Floats:
        """(S,) Å³, |det| of the cell as given (zero for a molecule)."""
        a, b, c = self.cell[:, 0], self.cell[:, 1], self.cell[:, 2]
        across = b[:, _NEXT] * c[:, _LAST] - b[:, _LAST] * c[:, _NEXT]
        return np.abs((a * across).sum(axis=1))

    def has_stress(self) -> NDArray[np.bool_]:
        """(S,): whether stress has a meaning, with a periodic direction and a volume."""
        return np.array([any(pbc) and size > 0 for pbc, size in zip(self.pbc.tolist(), self.volumes, strict=True)])

    def defined(self, quantity: Quantity) -> NDArray[np.bool_]:
        """(S,): whether a quantity has a meaning for a structure."""
        if quantity.where == "periodic":
            return self.has_stress()
        return np.array([quantity.where != "open" or not any(periodic) for periodic in self.pbc.tolist()])

    def size(self) -> Size:
        """What time and memory follow."""
        return Size(self.n_atoms, self.n_edges, int(np.bincount(self.center).max()) if self.n_edges else 0)

    def without_neighbors(self) -> list[int]:
        """Atoms that have none."""
        alone: list[int] = np.flatnonzero(np.bincount(self.center, minlength=self.n_atoms) == 0).tolist()
        return alone

    def nearest(self) -> tuple[float, int]:
        """Å² and place of the shortest pair; there is one."""
        squared = (self.vectors * self.vectors).sum(axis=1)
        place = int(squared.argmin())
        return float(squared[place]), place

    def summed(self, values: NDArray[Any]) -> NDArray[Any]:
        """Of each structure, (S, …), from values of atoms (N, …)."""
        return np.add.reduceat(values, self.starts[:-1], axis=0)

    def placed(self, positions: Floats, cell: Floats | None = None) -> GraphArrays:
        """The same pairs with the atoms elsewhere, in another cell (3, 3) if one is given; of one structure."""
        given = np.array(positions, dtype=np.float64)
        box = self.cell if cell is None else np.array(cell, dtype=np.float64)[None]
        return dataclasses.replace(self, positions=given, cell=box)

    def within(self, cutoff: float) -> GraphArrays:
        """The graph without pairs that are at or beyond a cutoff, Å."""
        near = (self.vectors * self.vectors).sum(axis=1) < cutoff**2
        center, neighbor, shift = self.center[near], self.neighbor[near], self.shift[near]
        graph = dataclasses.replace(self, center=center, neighbor=neighbor, shift=shift, cutoff=cutoff)
        vars(graph)["vectors"] = self.vectors[near]  # which are known
        return graph

    @staticmethod
    def joined(graphs: Sequence[GraphArrays]) -> GraphArrays:
        """Graphs in one; atoms and structures keep their order, so edges stay sorted by center."""
        return graphs[0] if len(graphs) == 1 else GraphArrays(**joined_fields(graphs, np.concatenate))

    def alone(self, index: int) -> GraphArrays:
        """One structure of the batch."""
        first, last = self.starts[index : index + 2]
        begin, end = np.searchsorted(self.center, (first, last))
        return GraphArrays(
            positions=self.positions[first:last],
            numbers=self.numbers[first:last],
            cell=self.cell[index : index + 1],
            pbc=self.pbc[index : index + 1],
            center=self.center[begin:end] - first,
            neighbor=self.neighbor[begin:end] - first,
            shift=self.shift[begin:end],
            structure=np.zeros(last - first, dtype=np.int64),
            n_structures=1,
            cutoff=self.cutoff,
            charge=self.charge[index : index + 1],
            atomic_charges=None if self.atomic_charges is None else self.atomic_charges[first:last],
        )


def joined_fields(graphs: Sequence[Any], concatenate: Callable[[list[Any]], Any]) -> dict[str, Any]:
    """Fields of a batch of graphs, in arrays or in tensors; there are charges of atoms only if every graph has them."""
    atoms = [0, *itertools.accumulate(graph.n_atoms for graph in graphs)]
    structures = [0, *itertools.accumulate(graph.n_structures for graph in graphs)]
    charges = [graph.atomic_charges for graph in graphs if graph.atomic_charges is not None]

    def shifted(name: str, starts: list[int]) -> Any:
        return concatenate([getattr(graph, name) + start for graph, start in zip(graphs, starts, strict=False)])

    whole = ("positions", "numbers", "cell", "pbc", "shift", "charge")
    return {
        **{name: concatenate([getattr(graph, name) for graph in graphs]) for name in whole},
        "center": shifted("center", atoms),
        "neighbor": shifted("neighbor", atoms),
        "structure": shifted("structure", structures),
        "n_structures": structures[-1],
        "cutoff": min(graph.cutoff for graph in graphs),
        "atomic_charges": concatenate(charges) if len(charges) == len(graphs) else None,
    }


@dataclass(frozen=True)
class AnswerArrays:
    """What a potential says of a batch; fields as those of `Prediction`."""

    energy: Floats
    forces: NDArray[Any]
    stress: NDArray[Any]
    atomic_energies: Floats
    charges: NDArray[Any] | None = None
    dipole: NDArray[Any] | None = None
    polarizability: NDArray[Any] | None = None
    features: NDArray[Any] | None = None
    atomic_virials: Floats | None = None

    def arrays(self) -> AnswerArrays:
        """Itself; other predictions become one."""
        return self
