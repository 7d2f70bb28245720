"""The training loss over labelled entries, normalised so that any number of processes gives the same gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from mlanet.graph import AtomicGraph, Labels, Prediction
from mlanet.training.config import LossConfig

HUBER_DELTA = 0.01
"""Below it (eV/atom, eV/Å, eV/Å³ times the weight) the Huber loss is quadratic."""


class Residuals:
    """Differences prediction − label of one batch, 0 where there is no label.

    Both sides are set to 0 before they are subtracted: a difference that is masked afterwards would still carry NaN
    into the gradient (0 · NaN). Labelled entries are not gathered, because a GPU would be asked for their number.
    - energy (S,) eV/atom · forces (N, 3) eV/Å · stress (S, 3, 3) eV/Å³
    """

    def __init__(self, prediction: Prediction, labels: Labels, graph: AtomicGraph) -> None:
        stress = labels.stress.isfinite() & prediction.stress.detach().isfinite()
        self._known = labels.energy.isfinite(), labels.forces.isfinite(), stress
        self.energy = _difference(self._known[0], prediction.energy, labels.energy) / graph.atoms_per_structure()
        self.forces = _difference(self._known[1], prediction.forces, labels.forces)
        self.stress = _difference(self._known[2], prediction.stress, labels.stress)

    def counts(self) -> Tensor:
        """(3,) how many labelled entries there are, float64."""
        return torch.stack([one.sum() for one in self._known]).double()


def loss(residuals: Residuals, counts: Tensor, config: LossConfig, energy_factor: float | Tensor = 1.0) -> Tensor:
    """Σ_q λ_q / n_q Σ ρ(residual), n_q the counts of *all* processes; their losses then add up to the whole.

    - counts (3,): of energy, forces, stress entries over all processes
    """
    n = counts.clamp(min=1)
    energy = _penalty(residuals.energy, config.kind).sum() * (config.energy * energy_factor / n[0])
    forces = _penalty(residuals.forces, config.kind).sum() * (config.forces / n[1])
    stress = _penalty(residuals.stress, config.kind).sum() * (config.stress / n[2])
    return energy + forces.double() + stress.double()


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
