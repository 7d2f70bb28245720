"""Errors of predictions against labels: sums that grow batch by batch and add up over processes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mlanet.graph import AtomicGraph, Labels, Prediction
from mlanet.potential import defined
from mlanet.quantities import ALWAYS, FORCES, NAMES, QUANTITIES
from mlanet.units import MAX_ATOMIC_NUMBER


class Deviation(NamedTuple):
    """Errors of one element's forces, or of one quantity: MAE and RMSE over so many `components`."""

    mae: float
    rmse: float
    components: int


class Errors:
    """Mean absolute and root-mean-square errors of every row of `mlanet.quantities` that is predicted and labelled.

    - energy: (E_predicted − E_label) / N_atoms, one per structure, eV/atom
    - all others: every component, where the quantity is defined, in its unit; forces also by element

    Labels that are NaN are left out by selection. Sums are float64, so the order of batches does not matter
    beyond the 15th digit, and `tensor()` of several processes may be added (all-reduce).

    >>> Errors().mae()
    {}
    """

    def __init__(self) -> None:
        # Rows: the quantities, then one per atomic number. Columns: count, Σ|d|, Σd².
        self._sums = torch.zeros(len(QUANTITIES) + MAX_ATOMIC_NUMBER + 1, 3, dtype=torch.float64)

    def add(self, prediction: Prediction, labels: Labels, graph: AtomicGraph) -> None:
        """Count one batch.

        - prediction, labels: S structures, N atoms, in the order of the graph, on any device
        - graph: sizes, elements, periodicity
        """
        graph, labels = graph.to("cpu"), labels.to("cpu")
        for row, quantity in enumerate(QUANTITIES):
            predicted, label = getattr(prediction, quantity.name), getattr(labels, quantity.name)
            if predicted is None:
                continue
            difference, known = _difference(predicted, label), torch.isfinite(label)
            if quantity.of_each_atom:
                difference = difference / graph.atoms_per_structure()
            if quantity.where != "any":
                has = defined(quantity, graph)
                if quantity.where == "periodic":
                    # A model without a stress says NaN for all of it; a number that is not finite beside finite ones
                    # is an error.
                    has = has & ~_without_stress(prediction)
                known = known & has.view(-1, *[1] * len(quantity.shape))
            self._sums[row] += _moments(difference[known]).sum(dim=0)
            if quantity is FORCES:
                numbers = graph.numbers[:, None].expand_as(known)[known]
                self._sums.index_add_(0, len(QUANTITIES) + numbers, _moments(difference[known]))

    def mae(self) -> dict[str, float]:
        """Mean absolute errors of what was labelled, in units of `mlanet.quantities`, of the energy per atom."""
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
        """How many numbers were compared of each quantity, of those that are optional only where there were any."""
        return {name: sums.components for name, sums in self._quantities().items() if sums.components or name in ALWAYS}

    def tensor(self) -> Tensor:
        """All sums as one flat float64 tensor; those of several processes may be added. A copy."""
        return self._sums.flatten().clone()

    def load_tensor(self, sums: Tensor) -> None:
        """Take over what `tensor()` gave, here or summed over processes."""
        if sums.numel() != self._sums.numel():
            raise ValueError(f"expected {self._sums.numel()} sums, got {sums.numel()}")
        self._sums = sums.detach().to("cpu", torch.float64).reshape(self._sums.shape).clone()

    def _quantities(self) -> dict[str, Deviation]:
        return {name: _errors(row) for name, row in zip(NAMES, self._sums, strict=False)}


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
