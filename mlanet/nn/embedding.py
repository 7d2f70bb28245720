"""What an atom is before it has met its neighbours: its element, its charge, and one look at the directions around."""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import torch
from torch import Tensor, nn

from mlanet.errors import GeometryError
from mlanet.graph import AtomicGraph
from mlanet.irreps import o3
from mlanet.nn.edges import Edges
from mlanet.nn.radial import RadialMLP
from mlanet.ops.dispatch import edge_degree
from mlanet.ops.edge_degree.reference import DirectionInputs


class ChargeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of what a network sees of charge, the same for every model."""

    charge: Literal["none", "total", "atomic"] = "none"
    """What charge the network sees: nothing, the structure's total, or given per-atom charges."""
    total_charge: Literal["per_atom", "whole"] = "per_atom"
    """With `charge: total`: Q/N, so that n cells of charge nQ have n times the energy; or, as models from before this
    key, Q itself as well, which is not extensive."""

    @property
    def charge_broken(self) -> set[str]:
        """Laws that the charge gives up: Q is spread over all atoms, however far apart (docs/physics.md)."""
        if self.charge != "total":
            return set()
        return {"far fragments"} | ({"supercell"} if self.total_charge == "whole" else set())


class ChargeEmbedding(nn.Module):
    """Charge directly into the scalars: W (q, |q|), zero for neutral systems.

    `total`: q = Q/N of the atom's structure, the same for n copies of charge nQ; `atomic`: q = q_i. No bias, so no
    charge means no change. `total_charge: whole` is W (Q, Q/N), which is not extensive.
    """

    def __init__(self, channels: int, settings: ChargeSettings) -> None:
        super().__init__()
        self.settings = settings
        self.weight = nn.Parameter(torch.randn(2, channels) / math.sqrt(2))

    def forward(self, graph: AtomicGraph) -> Tensor:
        """-> (N, C).

        Raises:
            GeometryError: `charge: atomic`, and a structure without per-atom charges.
        """
        return self._charges(graph) @ self.weight

    def _charges(self, graph: AtomicGraph) -> Tensor:
        """(N, 2) e."""
        if self.settings.charge == "atomic":
            if graph.atomic_charges is None:
                raise GeometryError("this model reads per-atom charges (`charge: atomic`), and the structure has none")
            return torch.stack([graph.atomic_charges, graph.atomic_charges.abs()], dim=1)
        shared = graph.charge / graph.atoms_per_structure().to(graph.dtype)
        other = (graph.charge, shared) if self.settings.total_charge == "whole" else (shared, shared.abs())
        return torch.stack(other, dim=1)[graph.structure]


class EdgeDegreeEmbedding(nn.Module):
    """Starts the l > 0 features from one pass over the neighbours ("edge-degree embedding" after arXiv 2206.11990).

    h_i^{0,l} = n̄^{-1/2} Σ_j u(r) φ_l(RBF(r)) W_{Z_j} Y_l(r̂), l > 0

    - sender (N, C), W_{Z_j} already looked up · -> (N, (L+1)² − 1, C), degrees 1 … L
    """

    def __init__(self, irreps_out: o3.Irreps, functions: int, hidden: tuple[int, ...], mean_neighbors: float) -> None:
        super().__init__()
        self.irreps_out = irreps_out
        self.channels, self.l_max = irreps_out[0].mul, irreps_out.lmax
        self.factor = mean_neighbors**-0.5
        self.radial = RadialMLP(functions, hidden, self.channels * self.l_max)

    def forward(self, sender: Tensor, edges: Edges) -> Tensor:
        """(N, C) -> (N, (L+1)² − 1, C)."""
        inputs = DirectionInputs(sender, edges.envelope, edges.radial, edges.harmonics)
        layers = tuple(self.radial.weights)
        return edge_degree(self.factor, edges.around, edges.neighbor, edges.rows, inputs, layers)
