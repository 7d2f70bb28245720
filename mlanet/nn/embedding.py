"""What an atom is before it has met its neighbours: its element, its charge, and one look at the directions around."""

from __future__ import annotations

import math

import torch
from e3nn import o3
from torch import Tensor, nn

from mlanet.nn.edges import Edges
from mlanet.nn.radial import RadialMLP
from mlanet.ops.attention import Kernels, first_directions
from mlanet.ops.directions import DirectionInputs


class ChargeEmbedding(nn.Module):
    """Charge directly into the scalars: W (q₁, q₂), zero for neutral systems.

    `total`: (Q, Q/N) of the atom's structure; `atomic`: (q_i, |q_i|). No bias, so no charge means no change.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, channels) / math.sqrt(2))

    def forward(self, charges: Tensor) -> Tensor:
        """(N, 2) e -> (N, C)."""
        return charges @ self.weight


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
        self.kernels: Kernels = "plain"

    def forward(self, sender: Tensor, edges: Edges) -> Tensor:
        """(N, C) -> (N, (L+1)² − 1, C)."""
        inputs = DirectionInputs(sender, edges.envelope, edges.radial, edges.harmonics)
        layers = tuple(self.radial.weights)
        return first_directions(self.kernels, self.factor, edges.around, edges.rows, inputs, layers)
