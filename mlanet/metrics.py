"""Errors of predictions against labels: sums that grow batch by batch and add up over processes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mlanet.graph import AtomicGraph, Labels, Prediction
from mlanet.units import MAX_ATOMIC_NUMBER

QUANTITIES = ("energy", "forces", "stress")
"""eV/atom, eV/Å per component, eV/Å³ per component."""


class Deviation(NamedTuple):
    """Errors of one element's forces, or of one quantity: MAE and RMSE over so many `components`."""

    mae: float
    rmse: float
    components: int


class Errors:
    """Mean absolute and root-mean-square errors of energy, forces and stress.

    - energy: (E_predicted − E_label) / N_atoms, one per structure, eV/atom
    - forces: every Cartesian component, eV/Å, also by element
    - stress: all nine components, eV/Å³, where stress is defined (a periodic direction and a volume)

    Labels that are NaN are left out by selection. Sums are float64, so the order of batches does not matter
    beyond the 15th digit, and `tensor()` of several processes may be added (all-reduce).

    >>> Errors().mae()
    {}
    """

    def __init__(self) -> None:
        # Rows: the three quantities, then one per atomic number. Columns: count, Σ|d|, Σd².
        self._sums = torch.zeros(len(QUANTITIES) + MAX_ATOMIC_NUMBER + 1, 3, dtype=torch.float64)

    def add(self, prediction: Prediction, labels: Labels, graph: AtomicGraph) -> None:
        """Count one batch.

        - prediction, labels: S structures, N atoms, in the order of the graph, on any device
        - graph: sizes, elements, periodicity
        """
        graph, labels = graph.to("cpu"), labels.to("cpu")
        energy = _difference(prediction.energy, labels.energy) / graph.atoms_per_structure()
        forces = _difference(prediction.forces, labels.forces)
        stress = _difference(prediction.stress, labels.stress)
        # A model without a stress says NaN for all of it; a number that is not finite beside finite ones is an error.
        defined = graph.pbc.any(dim=1) & (graph.volume() > 0) & ~_without_stress(prediction)
        has_force = torch.isfinite(labels.forces)
        self._sums[0] += _moments(energy[torch.isfinite(labels.energy)]).sum(dim=0)
        self._sums[1] += _moments(forces[has_force]).sum(dim=0)
        self._sums[2] += _moments(stress[torch.isfinite(labels.stress) & defined[:, None, None]]).sum(dim=0)
        numbers = graph.numbers[:, None].expand_as(has_force)[has_force]
        self._sums.index_add_(0, len(QUANTITIES) + numbers, _moments(forces[has_force]))

    def mae(self) -> dict[str, float]:
        """Mean absolute errors of the quantities that were labelled: energy eV/atom, forces eV/Å, stress eV/Å³."""
        return {name: mae for name, (mae, _, count) in self._quantities().items() if count}

    def rmse(self) -> dict[str, float]:
        """Root-mean-square errors of the quantities that were labelled, in the units of `mae`."""
        return {name: rmse for name, (_, rmse, count) in self._quantities().items() if count}

    def by_element(self) -> dict[str, Deviation]:
        """Force errors of each element that had labelled forces, in the order of the periodic table."""
        from ase.data import chemical_symbols

        rows = self._sums[len(QUANTITIES) :]
        return {chemical_symbols[z]: _errors(row) for z, row in enumerate(rows) if row[0] > 0}

    @property
    def counts(self) -> dict[str, int]:
        """How many numbers were compared for each quantity."""
        return {name: count for name, (_, _, count) in self._quantities().items()}

    def tensor(self) -> Tensor:
        """All sums as one flat float64 tensor; those of several processes may be added. A copy."""
        return self._sums.flatten().clone()

    def load_tensor(self, sums: Tensor) -> None:
        """Take over what `tensor()` gave, here or summed over processes."""
        if sums.numel() != self._sums.numel():
            raise ValueError(f"expected {self._sums.numel()} sums, got {sums.numel()}")
        self._sums = sums.detach().to("cpu", torch.float64).reshape(self._sums.shape).clone()

    def _quantities(self) -> dict[str, Deviation]:
        return {name: _errors(row) for name, row in zip(QUANTITIES, self._sums, strict=False)}


def _without_stress(prediction: Prediction) -> Tensor:
    """(S,) bool: no stress at all, though the energy is a number."""
    missing = prediction.stress.isnan().flatten(1).all(dim=1) & prediction.energy.isfinite()
    return missing.detach().cpu()


def _difference(predicted: Tensor, label: Tensor) -> Tensor:
    """In float64 on the CPU: totals of −10⁶ eV differ by 10⁻³ eV."""
    return predicted.detach().to("cpu", torch.float64) - label.double()


def _moments(difference: Tensor) -> Tensor:
    """(n,) -> (n, 3): 1, |d|, d²."""
    return torch.stack([torch.ones_like(difference), difference.abs(), difference.square()], dim=1)


def _errors(row: Tensor) -> Deviation:
    count, absolute, square = row.tolist()
    return Deviation(absolute / count, (square / count) ** 0.5, int(count)) if count else Deviation(0.0, 0.0, 0)
