"""How a structure answers electric fields: its dipole moment and polarizability, sums of what each atom brings."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mlanet.graph import AtomicGraph
from mlanet.nn.heads import symmetric_basis
from mlanet.ops.segment import segment_sum


class AtomicDipoles(nn.Module):
    """μ_i = g(s_i) Σ_c w_c v_ic: the vectors of an atom, weighed by a network of its scalars.

    - vectors v (N, 3, C), scalars s (N, C) -> (N, 3) e Å. Turns with the structure, odd under inversion; 0 for an atom
      alone, whose vectors are 0
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels) / math.sqrt(channels))
        self.gate = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, 1))

    def forward(self, vectors: Tensor, scalars: Tensor) -> Tensor:
        """-> (N, 3) e Å."""
        return (vectors @ self.weight) * self.gate(scalars)


class AtomicPolarizabilities(nn.Module):
    """α_i = (a_Z + f(s_i)) 1 + g(s_i) Σ_c w_c T(t_ic): an isotropic part from scalars, the rest from degree 2.

    - features (N, (L+1)², C) with L ≥ 2: scalars s of degree 0, t of degree 2; T(t) the symmetric traceless matrix of t
    - species (N,) -> (N, 3, 3) Å³. a_Z, one for each element, starts at 1 Å³, the size of an atom
    """

    def __init__(self, channels: int, n_species: int) -> None:
        super().__init__()
        self.element = nn.Parameter(torch.ones(n_species))
        self.weight = nn.Parameter(torch.randn(channels) / math.sqrt(channels))
        self.network = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, 2))

    def forward(self, features: Tensor, species: Tensor) -> Tensor:
        """-> (N, 3, 3) Å³."""
        change, gate = self.network(features[:, 0]).unbind(1)
        isotropic = math.sqrt(3) * (self.element[species] + change)  # the basis has a trace of √3
        rest = (features[:, 4:9] @ self.weight) * gate[:, None]
        parts = torch.cat([isotropic[:, None], rest], dim=1)
        return (parts @ symmetric_basis(parts)).view(-1, 3, 3)


def dipole_moment(atomic: Tensor, charges: Tensor | None, graph: AtomicGraph) -> Tensor:
    """μ_s = Σ_i [μ_i + q_i (r_i − c_s)] + Q_s c_s, (S, 3) e Å from the origin; NaN where any direction is periodic.

    c = Σ Z r / Σ Z is the centre of the nuclear charges, Q the total charge. So a neutral structure has the same moment
    wherever it is, that of an ion moves by Q t, and latent charges need not add up to Q.

    - atomic μ_i (N, 3) e Å · charges q_i (N,) e, latent, or None
    """
    index, n = graph.structure, graph.n_structures
    z = graph.numbers.to(torch.float64)[:, None]
    center = segment_sum(z * graph.positions, index, n) / segment_sum(z, index, n)
    total = segment_sum(atomic.double(), index, n) + graph.charge.double()[:, None] * center
    if charges is not None:
        total = total + segment_sum(charges.double()[:, None] * (graph.positions - center[index]), index, n)
    periodic = graph.pbc.any(dim=1)[:, None]
    return torch.where(periodic, torch.full_like(total, torch.nan), total).to(atomic.dtype)


def polarizability(atomic: Tensor, graph: AtomicGraph) -> Tensor:
    """α_s = Σ_i α_i, (S, 3, 3) Å³; of a crystal that of its cell. - atomic (N, 3, 3) Å³"""
    return segment_sum(atomic.flatten(1), graph.structure, graph.n_structures).view(-1, 3, 3)
