"""Structures of ASE and pymatgen to graphs and labels of tensors; `mlanet.data.structures` is behind both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from ase import Atoms

from mlanet.ambient import usual_torch
from mlanet.data.labels import FoundLabels, LabelKeys, find_labels
from mlanet.data.neighbor_tensors import neighbor_tensors
from mlanet.data.structures import (
    as_atoms,
    as_pymatgen,
    ase_results,
    require_apart,
    require_sound,
    sound,
    to_arrays,
    with_prediction,
)
from mlanet.errors import GeometryError
from mlanet.graph import AtomicGraph, Labels
from mlanet.quantities import QUANTITIES

if TYPE_CHECKING:
    from pymatgen.core import Molecule, Structure

__all__ = [
    "LabelKeys",
    "as_atoms",
    "as_labels",
    "as_pymatgen",
    "ase_results",
    "require_apart",
    "require_sound",
    "to_graph",
    "to_labels",
    "with_prediction",
]


@usual_torch()
def to_graph(
    structure: Atoms | Structure | Molecule,
    cutoff: float,
    *,
    where: str = "structure",
    charge: float | None = None,
    keys: LabelKeys = LabelKeys(),  # noqa: B008 - frozen
    device: torch.device | str = "cpu",
) -> AtomicGraph:
    """One structure as a float64 graph with every pair within `cutoff`; the structure itself is left alone.

    Args:
        structure: of ASE or pymatgen.
        cutoff: Å.
        where: named in errors, usually file and frame.
        charge: total charge in e; else `keys.charge` of the structure's info, else its `total_charge` or `charge`,
            else 0.
        keys: where charges are found.
        device: of the graph; on a GPU the neighbours of a large structure are looked up there.
    Raises:
        GeometryError: no atoms, NaN or infinity, positions or cells beyond 1e7 Å, a singular cell in a periodic
            direction, atoms nearer than 0.1 Å, impossible charges, more pairs than memory holds.
        UnsupportedElementError: a dummy atom or an impossible atomic number.
        DataError: a charge that is no number, or a structure that is neither ASE's nor pymatgen's.

    >>> to_graph(Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.74]]), cutoff=3.0).n_edges
    2
    """
    there = torch.device(device)
    if there.type == "cpu":
        return AtomicGraph.of(to_arrays(structure, cutoff, where=where, charge=charge, keys=keys))
    atoms, cell, total, atomic = sound(structure, cutoff, where, charge, keys)
    try:
        center, neighbor, shift = neighbor_tensors(atoms.positions, cell, atoms.pbc, cutoff, there)
    except GeometryError as error:
        raise GeometryError(f"{where}: {error}") from None
    graph = AtomicGraph(
        positions=torch.tensor(atoms.positions, dtype=torch.float64, device=device),
        numbers=torch.tensor(atoms.numbers, dtype=torch.int64, device=device),
        cell=torch.tensor(cell[None], device=device),
        pbc=torch.tensor(atoms.pbc, dtype=torch.bool, device=device)[None],
        center=center,
        neighbor=neighbor,
        shift=shift,
        structure=torch.zeros(len(atoms), dtype=torch.int64, device=device),
        n_structures=1,
        cutoff=float(cutoff),
        charge=torch.tensor([total], dtype=torch.float64, device=device),
        atomic_charges=None if atomic is None else torch.tensor(atomic, device=device),
    )
    require_apart(graph, where)
    return graph


@usual_torch()
def to_labels(atoms: Atoms, keys: LabelKeys = LabelKeys(), where: str = "structure") -> Labels:  # noqa: B008 - frozen
    """Reference values of one structure, float64, NaN where it has none.

    Energy eV, forces (N, 3) eV/Å, stress (3, 3) eV/Å³ with tension positive, dipole (3,) e Å, polarizability (3, 3) Å³.
    Stress is not labelled where it has no meaning (no periodic direction, or a cell without volume), a dipole not
    where any direction is periodic. See `LabelKeys` for where values are looked for.

    Raises:
        DataError: a value that is no number (a Fortran `-1.5D0`), infinite, or of the wrong shape.
    """
    return as_labels(find_labels(atoms, keys, where))


def as_labels(labels: FoundLabels) -> Labels:
    """Reference values as tensors of one structure."""
    values = {
        quantity.name: torch.tensor(getattr(labels, quantity.name), dtype=torch.float64) for quantity in QUANTITIES
    }
    return Labels(
        **{
            quantity.name: values[quantity.name] if quantity.per_atom else values[quantity.name][None]
            for quantity in QUANTITIES
        }
    )
