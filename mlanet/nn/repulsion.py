"""Screened nuclear repulsion (ZBL), so that atoms pushed into each other are driven apart whatever was learnt."""

from __future__ import annotations

import torch
from ase.data import covalent_radii
from torch import Tensor, nn

from mlanet.graph import AtomicGraph
from mlanet.nn.radial import polynomial_envelope
from mlanet.ops.segment import segment_sum

COULOMB = 14.399645
"""e²/(4πε₀), eV Å."""
SCREENING = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
"""φ(x) = Σ c e^{−k x}."""


class ScreenedRepulsion(nn.Module):
    """E_i = ½ Σ_j (e²/4πε₀) Z_i Z_j / r · φ(r/a) · u(r / r_ij),  a = 0.4685 Å / (Z_i^0.23 + Z_j^0.23).

    u is the polynomial envelope that ends, with two derivatives, at the sum r_ij of the covalent radii: bonds keep what
    the network learns of them. Nothing is trained. Source: Ziegler, Biersack, Littmark (1985).
    """

    radii: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("radii", torch.tensor(covalent_radii, dtype=torch.float64), persistent=False)

    def forward(self, graph: AtomicGraph) -> Tensor:
        """(N,) eV."""
        vectors = graph.edge_vectors()
        radii = self.radii.to(vectors.dtype)
        one, other = graph.numbers[graph.center], graph.numbers[graph.neighbor]
        reach = radii[one] + radii[other]
        distance = torch.sqrt((vectors * vectors).sum(1))
        z, y = one.to(vectors.dtype), other.to(vectors.dtype)
        x = distance * (z**0.23 + y**0.23) / 0.4685
        screened = sum(c * torch.exp(-k * x) for c, k in SCREENING)
        pair = 0.5 * COULOMB * z * y / distance * screened * polynomial_envelope(distance / reach, 1.0)
        return segment_sum(pair, graph.center, graph.n_atoms)
