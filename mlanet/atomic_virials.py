"""Virials of single atoms, by torch: the gradient of the energy in strains of the pairs of each atom."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from mlanet.ambient import usual_torch
from mlanet.arrays import Floats
from mlanet.graph import AtomicGraph
from mlanet.potential import Potential, constants


@usual_torch()
def atomic_virials(potential: Potential, graph: AtomicGraph) -> Floats:
    """(N, 3, 3) eV, Σ_j r_ij ⊗ ∂E/∂r_ij: by the native engine where that answers, else by a gradient."""
    here = graph.ordinary().to(potential.device, potential.dtype)
    native = getattr(potential.answered_by, "atomic_virials", None)
    if native is not None and not potential.training:
        virials: Floats = native(here)
        return virials
    return np.asarray(_by_gradient(potential, here).double().cpu())


def _by_gradient(potential: Potential, graph: AtomicGraph) -> Tensor:
    shape = (graph.n_atoms, 3, 3)
    with constants(potential), torch.enable_grad():
        strain = torch.zeros(shape, dtype=graph.dtype, device=graph.positions.device, requires_grad=True)
        fields = {field.name: getattr(graph, field.name) for field in dataclasses.fields(graph)}
        energy = potential.model(_Pulled(**fields, pull=strain))
        total, _ = potential._energies(graph, energy)
        (gradient,) = torch.autograd.grad(total.sum(), strain)
    return gradient


@dataclasses.dataclass(frozen=True)
class _Pulled(AtomicGraph):
    """A graph whose pairs are strained, those of each atom by a strain (N, 3, 3) of their own."""

    pull: Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, 3, 3))

    def edge_vectors(self) -> Tensor:
        """(E, 3) Å, r_ij (1 + ε_i)."""
        vectors = super().edge_vectors()
        return vectors + torch.einsum("ea,eab->eb", vectors, self.pull[self.center])
