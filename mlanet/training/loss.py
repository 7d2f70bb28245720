"""The training loss over labelled entries, normalised so that any number of processes gives the same gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from mlanet.graph import AtomicGraph, Labels, Prediction
from mlanet.quantities import ENERGY, QUANTITIES
from mlanet.training.config import LossConfig

HUBER_DELTA = 0.01
"""Below it (eV/atom, eV/Å, eV/Å³ times the weight) the Huber loss is quadratic."""


class Residuals:
    """Differences prediction − label of one batch, 0 where there is no label, of every quantity that is predicted.

    Both sides are set to 0 before they are subtracted: a difference that is masked afterwards would still carry NaN
    into the gradient (0 · NaN). Labelled entries are not gathered, because a GPU would be asked for their number.
    Shapes and units are those of `mlanet.quantities`; the energy is that per atom, (S,) eV/atom.
    """

    def __init__(self, prediction: Prediction, labels: Labels, graph: AtomicGraph) -> None:
        self.quantities = tuple(quantity for quantity in QUANTITIES if getattr(prediction, quantity.name) is not None)
        self._known: list[Tensor] = []
        self._values: dict[str, Tensor] = {}
        for quantity in self.quantities:
            predicted, label = getattr(prediction, quantity.name), getattr(labels, quantity.name)
            known = label.isfinite()
            if quantity.where != "any":
                known = known & predicted.detach().isfinite()
            difference = _difference(known, predicted, label)
            self._known.append(known)
            self._values[quantity.name] = (
                difference / graph.atoms_per_structure() if quantity.of_each_atom else difference
            )

    def __getitem__(self, name: str) -> Tensor:
        """Of one quantity."""
        return self._values[name]

    def counts(self) -> Tensor:
        """(Q,) how many labelled entries there are of each quantity that is predicted, float64."""
        return torch.stack([mask.sum() for mask in self._known]).double()


def loss(residuals: Residuals, counts: Tensor, config: LossConfig, energy_factor: float | Tensor = 1.0) -> Tensor:
    """Σ_q λ_q / n_q Σ ρ(residual), n_q the counts of *all* processes; their losses then add up to the whole.

    - counts (Q,): entries of each quantity over all processes · energy_factor: times λ of the energy
    """
    n = counts.clamp(min=1)
    total: Tensor | float = 0.0
    for place, quantity in enumerate(residuals.quantities):
        weight = getattr(config, quantity.name) * (energy_factor if quantity is ENERGY else 1.0)
        total = total + (_penalty(residuals[quantity.name], config.kind).sum() * (weight / n[place])).double()
    assert isinstance(total, Tensor)
    return total


def _difference(known: Tensor, prediction: Tensor, label: Tensor) -> Tensor:
    """prediction − label where it is known, else 0, also in every derivative."""
    zero = torch.zeros_like(label)
    return torch.where(known, prediction, zero.to(prediction.dtype)) - torch.where(known, label, zero)


def _penalty(residual: Tensor, kind: str) -> Tensor:
    """ρ: |x|, Huber with slope 1 at large |x|, or x²."""
    if kind == "l1":
        return residual.abs()
    if kind == "mse":
        return residual.square()
    zero = torch.zeros_like(residual)
    return torch.nn.functional.huber_loss(residual, zero, reduction="none", delta=HUBER_DELTA) / HUBER_DELTA
