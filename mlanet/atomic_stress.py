"""Stress of single atoms: the share of each atom in the virial of its structure, over the volume of the whole cell."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from mlanet.ambient import usual_torch
from mlanet.errors import ConfigError, GeometryError
from mlanet.graph import AtomicGraph
from mlanet.potential import Potential, constants, has_stress


def atomic_stresses(potential: Potential, graph: AtomicGraph) -> Tensor:
    """σ_i = (1/V) · sym(Σ_j r_ij ⊗ ∂E/∂r_ij) over the pairs that send to atom i, so that Σ_i σ_i = σ.

    V is the volume of the whole cell, as in ASE's own calculators. With V_i the share of an atom in the volume, by
    whatever construction, its local stress is σ_i V / V_i. As with site energies, the division among atoms is one of
    many; a strain ε_i of the pairs of atom i alone defines this one, σ_i = (1/V) ∂E/∂ε_i. It costs one more step.

    Returns:
        (N, 3, 3) eV/Å³, symmetric, tension positive, in the order of the atoms; of a batch too.
    Raises:
        ConfigError: direct forces, or a long-range term, which is no sum over neighbours.
        GeometryError: without a periodic direction or a volume.
    """
    if obstacle := stresses_obstacle(potential):
        raise ConfigError(obstacle)
    if not bool(has_stress(graph).all()):
        raise GeometryError("stress needs a periodic direction and a cell with a volume")
    potential.require_supported(graph)
    with usual_torch():
        here = graph.ordinary().to(potential.device, potential.dtype)
        virials = _virials(potential, here).double().cpu()
    symmetric = 0.5 * (virials + virials.transpose(1, 2))
    return symmetric / graph.volume().double().cpu()[graph.structure.cpu()][:, None, None]


def stresses_obstacle(potential: Potential) -> str:
    """Why a model has no stress of single atoms, or nothing."""
    if not potential.conservative:
        return "direct forces are the gradient of no energy, so that atoms have no share in a virial"
    if potential.model.config.beyond_cutoff:
        return "the long-range term of this model is no sum over neighbours, so that atoms have no share in its virial"
    return ""


def _virials(potential: Potential, graph: AtomicGraph) -> Tensor:
    """(N, 3, 3) eV: by the native engine where that answers, else by a gradient in strains of single atoms."""
    native = getattr(potential.answered_by, "atomic_virials", None)
    if native is not None and not potential.training:
        found: Tensor = native(graph)
        return found
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
