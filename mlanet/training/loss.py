"""The training loss over labelled entries, normalised so that any number of processes gives the same gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from mlanet.graph import AtomicGraph, Labels, Prediction
from mlanet.training.config import LossConfig

HUBER_DELTA = 0.01
"""Below it (eV/atom, eV/Å, eV/Å³ times the weight) the Huber loss is quadratic."""


class Residuals:
    """Differences prediction − label of one batch, selected by isfinite before subtracting.

    A masked difference would still carry NaN into the gradient (0 · NaN); a selected one does not.
    - energy (n,) eV/atom · forces (n,) eV/Å · stress (n,) eV/Å³: flat, labelled entries only
    """

    def __init__(self, prediction: Prediction, labels: Labels, graph: AtomicGraph) -> None:
        atoms = graph.atoms_per_structure()
        has_energy, has_forces = labels.energy.isfinite(), labels.forces.isfinite()
        has_stress = labels.stress.isfinite() & prediction.stress.detach().isfinite()
        self.energy = (prediction.energy[has_energy] - labels.energy[has_energy]) / atoms[has_energy]
        self.forces = prediction.forces[has_forces] - labels.forces[has_forces]
        self.stress = prediction.stress[has_stress] - labels.stress[has_stress]

    def counts(self) -> Tensor:
        """(3,) how many labelled entries there are."""
        return torch.tensor([len(self.energy), len(self.forces), len(self.stress)], dtype=torch.float64)


def loss(residuals: Residuals, counts: Tensor, config: LossConfig, energy_factor: float = 1.0) -> Tensor:
    """Σ_q λ_q / n_q Σ ρ(residual), n_q the counts of *all* processes; their losses then add up to the whole.

    - counts (3,): of energy, forces, stress entries over all processes
    """
    n = counts.clamp(min=1).tolist()
    energy = _penalty(residuals.energy, config.kind).sum() * (config.energy * energy_factor / n[0])
    forces = _penalty(residuals.forces, config.kind).sum() * (config.forces / n[1])
    stress = _penalty(residuals.stress, config.kind).sum() * (config.stress / n[2])
    return energy + forces.double() + stress.double()


def _penalty(residual: Tensor, kind: str) -> Tensor:
    """ρ: |x|, Huber with slope 1 at large |x|, or x²."""
    if kind == "l1":
        return residual.abs()
    if kind == "mse":
        return residual.square()
    zero = torch.zeros_like(residual)
    return torch.nn.functional.huber_loss(residual, zero, reduction="none", delta=HUBER_DELTA) / HUBER_DELTA
