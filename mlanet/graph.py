"""The nouns that cross borders: `AtomicGraph` in, `Prediction` out, `Labels` beside them.

Legend of shapes, used in every docstring of the package: S structures, N atoms, E edges, C channels,
D `irreps.dim`, H heads, L `l_max`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlanet.arrays import AnswerArrays, GraphArrays, Size, joined_fields
from mlanet.quantities import QUANTITIES

__all__ = [
    "AtomicGraph",
    "Labels",
    "ModelOutput",
    "Prediction",
    "Size",
    "batch_graphs",
    "batch_labels",
    "split_graph",
]

T = TypeVar("T", "AtomicGraph", "Labels")

_ARRAYS = [field.name for field in dataclasses.fields(GraphArrays) if field.name not in ("n_structures", "cutoff")]


@dataclass(frozen=True)
class AtomicGraph:
    """One batch of structures and every pair of atoms closer than `cutoff`, as the models see it.

    Edges run from `neighbor` (j, sends) to `center` (i, receives) and are sorted by center. The edge vector is
    r_ij = R_j + shift · cell − R_i; each ordered pair stands once, so (i, j, shift) and (j, i, −shift) both appear.

    - positions (N, 3) Å, not wrapped, float64 · numbers (N,) int64, atomic numbers
    - cell (S, 3, 3) Å, float64, rows are the lattice vectors (zeros where not periodic) · pbc (S, 3) bool
    - center (E,) int64 ascending · neighbor (E,) int64 · shift (E, 3) int64, integer lattice images
    - structure (N,) int64 ascending, which structure an atom belongs to · n_structures S, a Python int
    - cutoff Å, the radius within which the list is complete (a model with a larger one refuses the graph)
    - charge (S,) e, total charge · atomic_charges (N,) e, or None where no per-atom charges were given
    - dtype: of what models compute with. Positions and cells stay in float64 whatever it is, and differences are taken
      before rounding: far from the origin float32 has no digits left to tell one atom from the next
    """

    positions: Tensor
    numbers: Tensor
    cell: Tensor
    pbc: Tensor
    center: Tensor
    neighbor: Tensor
    shift: Tensor
    structure: Tensor
    n_structures: int
    cutoff: float
    charge: Tensor
    atomic_charges: Tensor | None = None
    dtype: torch.dtype = torch.float64

    @property
    def n_atoms(self) -> int:
        """N, the number of atoms of all structures together."""
        return self.positions.shape[0]

    @property
    def n_edges(self) -> int:
        """E, the number of directed pairs."""
        return self.center.shape[0]

    def edge_vectors(self) -> Tensor:
        """r_ij = R_j + shift · cell − R_i, (E, 3) Å in `dtype`, differentiable in positions and cell."""
        shift = self.shift.to(self.cell.dtype)
        if self.n_structures == 1:
            image = shift @ self.cell[0]
        else:
            image = torch.einsum("ea,eab->eb", shift, self.cell[self.structure[self.center]])
        there, here = (self.positions.index_select(0, index) for index in (self.neighbor, self.center))
        return (there + image - here).to(self.dtype)

    def atoms_per_structure(self) -> Tensor:
        """(S,) int64, how many atoms each structure has."""
        zeros = torch.zeros(self.n_structures, dtype=torch.int64, device=self.structure.device)
        return zeros.index_add(0, self.structure, torch.ones_like(self.structure))

    def volume(self) -> Tensor:
        """(S,) Å³, float64, |a · (b × c)| of the cell as given (zero for a molecule)."""
        a, b, c = self.cell.unbind(1)
        return (a * torch.linalg.cross(b, c)).sum(1).abs()

    @classmethod
    def of(cls, arrays: GraphArrays) -> AtomicGraph:
        """The same as tensors, which share their memory."""
        named = {name: getattr(arrays, name) for name in _ARRAYS}
        tensors: dict[str, Any] = {
            name: None if array is None else torch.from_numpy(array) for name, array in named.items()
        }
        return cls(**tensors, n_structures=arrays.n_structures, cutoff=arrays.cutoff)

    def arrays(self) -> GraphArrays:
        """The same in numpy, on the CPU; numbers that are there already are not copied."""
        named = {
            name: tensor.detach().cpu().numpy() for name, tensor in vars(self).items() if isinstance(tensor, Tensor)
        }
        return GraphArrays(**named, n_structures=self.n_structures, cutoff=self.cutoff)

    def placed(self, positions: NDArray[np.float64], cell: NDArray[np.float64] | None = None) -> AtomicGraph:
        """The same pairs with the atoms elsewhere, in another cell (3, 3) if one is given; of one structure."""
        given = torch.tensor(positions, dtype=torch.float64, device=self.positions.device)
        box = self.cell if cell is None else torch.tensor(cell, dtype=torch.float64, device=self.cell.device)[None]
        return dataclasses.replace(self, positions=given, cell=box)

    def within(self, cutoff: float) -> AtomicGraph:
        """The graph without pairs that are at or beyond a cutoff, Å."""
        near = self.edge_vectors().square().sum(dim=1) < cutoff**2
        center, neighbor, shift = self.center[near], self.neighbor[near], self.shift[near]
        return dataclasses.replace(self, center=center, neighbor=neighbor, shift=shift, cutoff=cutoff)

    def nearest(self) -> tuple[float, int]:
        """Å² and place of the shortest pair; there is one."""
        squared, place = self.edge_vectors().square().sum(1).min(0)
        return float(squared), int(place)

    def without_neighbors(self) -> list[int]:
        """Atoms that have none."""
        alone: list[int] = (torch.bincount(self.center, minlength=self.n_atoms) == 0).nonzero().flatten().tolist()
        return alone

    @staticmethod
    def joined(graphs: Sequence[AtomicGraph]) -> AtomicGraph:
        """As `batch_graphs`."""
        return batch_graphs(graphs)

    def size(self) -> Size:
        """What time and memory follow."""
        degree = int(torch.bincount(self.center).max()) if self.n_edges else 0
        return Size(self.n_atoms, self.n_edges, degree)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> AtomicGraph:
        """The same graph on another device, or for models of another precision (geometry stays in float64)."""
        moved = _moved(self, device, None)
        if dtype is None or dtype == self.dtype:
            return moved
        atomic = None if moved.atomic_charges is None else moved.atomic_charges.to(dtype)
        return dataclasses.replace(moved, charge=moved.charge.to(dtype), atomic_charges=atomic, dtype=dtype)

    def ordinary(self) -> AtomicGraph:
        """The same graph of tensors that gradients may pass: those made in inference mode are copied."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        barred: dict[str, Any] = {name: value.clone() for name, value in tensors.items() if value.is_inference()}
        return dataclasses.replace(self, **barred) if barred else self


class ModelOutput(NamedTuple):
    """What a model returns: site energies, and forces and stress only where they are direct heads.

    - atomic_energies (N,) network units, without per-element references · forces (N, 3) network units or None
    - stress (S, 3, 3) network units or None · baseline (N,) eV, physics that is not scaled, or None
    - charges (N,) e, latent charges of a Coulomb term, or None
    - dipoles (N, 3) e Å, polarizabilities (N, 3, 3) Å³: parts of atoms, or None where there is no such head
    """

    atomic_energies: Tensor
    forces: Tensor | None = None
    stress: Tensor | None = None
    baseline: Tensor | None = None
    charges: Tensor | None = None
    dipoles: Tensor | None = None
    polarizabilities: Tensor | None = None


@dataclass(frozen=True)
class Prediction:
    """What a potential says of a batch.

    - energy (S,) eV, float64, references included · forces (N, 3) eV/Å, F = −∂E/∂R for a conservative model
    - stress (S, 3, 3) eV/Å³, σ = (1/V) ∂E/∂ε, tension positive, V of the given cell; NaN where no direction is
      periodic or the cell has no volume · atomic_energies (N,) eV, float64, summing to `energy`
    - charges (N,) e, the latent charges of a model with a Coulomb term, or None
    - dipole (S, 3) e Å, from the origin of the positions, NaN where any direction is periodic, and polarizability
      (S, 3, 3) Å³, symmetric: of models with such `outputs`, else None
    - features (N, C), what the network makes of each atom before its last linear layer, less the same of a lone atom;
      only of potentials that are watched (`Potential.domain`)
    - atomic_virials (N, 3, 3) eV, Σ_j r_ij ⊗ ∂E/∂r_ij of the pairs of each atom; only where they come with the forces,
      as from the native engine
    """

    energy: Tensor
    forces: Tensor
    stress: Tensor
    atomic_energies: Tensor
    charges: Tensor | None = None
    dipole: Tensor | None = None
    polarizability: Tensor | None = None
    features: Tensor | None = None
    atomic_virials: Tensor | None = None

    def detach(self) -> Prediction:
        """The same numbers without their history."""
        return self.map(Tensor.detach)

    def map(self, change: Callable[[Tensor], Tensor]) -> Prediction:
        """Every tensor changed by a function."""
        changed: dict[str, Any] = {name: change(value) for name, value in self.tensors().items()}
        return Prediction(**changed)

    def arrays(self) -> AnswerArrays:
        """The same in numpy, on the CPU."""
        return AnswerArrays(**{name: tensor.detach().cpu().numpy() for name, tensor in self.tensors().items()})

    @classmethod
    def of(cls, answer: AnswerArrays) -> Prediction:
        """The same as tensors, which share their memory."""
        return cls(**{name: torch.from_numpy(one) for name, one in vars(answer).items() if one is not None})

    def tensors(self) -> dict[str, Tensor]:
        """All that is said, by name."""
        named = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class Labels:
    """Reference values of a batch; NaN means *not labelled* and is left out by selection, never by masking.

    - energy (S,) eV, float64 · forces (N, 3) eV/Å · stress (S, 3, 3) eV/Å³, ASE's sign
    - dipole (S, 3) e Å · polarizability (S, 3, 3) Å³ · atomic_energies (N,) eV, of a teacher that has them, for DFT
      gives none; not labelled where they are not given
    """

    energy: Tensor
    forces: Tensor
    stress: Tensor
    dipole: Tensor = None  # type: ignore[assignment]
    polarizability: Tensor = None  # type: ignore[assignment]
    atomic_energies: Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        for quantity in QUANTITIES:
            if getattr(self, quantity.name) is None:
                count = len(self.forces if quantity.per_atom else self.energy)
                nothing = self.forces.new_full((count, *quantity.shape), torch.nan)
                object.__setattr__(self, quantity.name, nothing)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Labels:
        """The same labels elsewhere; `energy` stays float64, since totals can be −10⁵ eV."""
        moved = _moved(self, device, dtype)
        return dataclasses.replace(moved, energy=self.energy.to(device=device))


def batch_graphs(graphs: Sequence[AtomicGraph]) -> AtomicGraph:
    """Join graphs into one; atoms and structures keep their order, so edges stay sorted by center."""
    return AtomicGraph(**joined_fields(graphs, torch.cat), dtype=graphs[0].dtype)


def split_graph(batch: AtomicGraph) -> list[AtomicGraph]:
    """The structures of a batch as graphs of their own: what `batch_graphs` joined."""
    counts = batch.atoms_per_structure()
    pairs = torch.bincount(batch.structure[batch.center], minlength=batch.n_structures).tolist()
    starts = [0, *itertools.accumulate(counts.tolist())]
    center, neighbor, shift = (tensor.split(pairs) for tensor in (batch.center, batch.neighbor, batch.shift))
    atomic = batch.atomic_charges
    graphs = []
    for index, (start, end) in enumerate(itertools.pairwise(starts)):
        graphs.append(
            dataclasses.replace(
                batch,
                positions=batch.positions[start:end],
                numbers=batch.numbers[start:end],
                cell=batch.cell[index : index + 1],
                pbc=batch.pbc[index : index + 1],
                center=center[index] - start,
                neighbor=neighbor[index] - start,
                shift=shift[index],
                structure=torch.zeros_like(batch.structure[start:end]),
                n_structures=1,
                charge=batch.charge[index : index + 1],
                atomic_charges=None if atomic is None else atomic[start:end],
            )
        )
    return graphs


def batch_labels(labels: Sequence[Labels]) -> Labels:
    """Join labels in the order of their graphs."""
    return Labels(**{each.name: torch.cat([getattr(label, each.name) for label in labels]) for each in QUANTITIES})


def _moved(thing: T, device: torch.device | str | None, dtype: torch.dtype | None) -> T:
    """Copy with every tensor on `device` and every floating-point tensor as `dtype`."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(thing):
        value = getattr(thing, field.name)
        if isinstance(value, Tensor):
            changes[field.name] = value.to(device=device, dtype=dtype if value.is_floating_point() else None)
    return dataclasses.replace(thing, **changes)
