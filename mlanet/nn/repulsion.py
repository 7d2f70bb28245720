"""Screened nuclear repulsion (ZBL), so that atoms pushed into each other are driven apart whatever was learnt."""

from __future__ import annotations

import torch
from ase.data import covalent_radii
from torch import Tensor

from mlanet.graph import AtomicGraph
from mlanet.nn.exact import ExactConstants
from mlanet.nn.radial import polynomial_envelope
from mlanet.ops.segment import segment_sum
from mlanet.ops.traced import is_tracing
from mlanet.statistics import Statistics
from mlanet.units import COULOMB_CONSTANT

SCREENING = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
"""φ(x) = Σ c e^{−k x}."""

WALL_LAWS = frozenset({"wall", "compression"})
"""Laws that hold because of it."""


class ScreenedRepulsion(ExactConstants):
    """E_i = ½ Σ_j (e²/4πε₀) Z_i Z_j / r · φ(r/a) · u(r / r_ij),  a = 0.4685 Å / (Z_i^0.23 + Z_j^0.23).

    u is the polynomial envelope that ends, with two derivatives, at r_ij (`closest_approach`): the smallest distance of
    the two elements in the training set, or less where the set hardly has the pair. So nothing that was learnt is
    changed, and nearer than any data atoms repel. Nothing is trained. Source: Ziegler, Biersack, Littmark (1985).

    Args:
        statistics: of the training set.
    """

    atoms: Tensor
    screening: Tensor
    reach: Tensor
    species_index: Tensor

    def __init__(self, statistics: Statistics) -> None:
        super().__init__()
        number = torch.arange(len(covalent_radii), dtype=torch.float64)
        # Of each element: Z, its 0.23rd power over 0.4685 Å.
        self.register_buffer("atoms", torch.stack([number, number**0.23 / 0.4685], dim=1), persistent=False)
        self.register_buffer("screening", torch.tensor(SCREENING, dtype=torch.float64), persistent=False)
        index = torch.zeros(256, dtype=torch.int64)
        index[list(statistics.species)] = torch.arange(len(statistics.species))
        self.register_buffer("species_index", index, persistent=False)
        self.register_buffer("reach", closest_approach(statistics), persistent=False)

    def forward(self, graph: AtomicGraph, vectors: Tensor) -> Tensor:
        """The graph and its edge vectors (E, 3) Å -> (N,) eV."""
        species = self.species_index[graph.numbers]
        reach = self.reach.to(vectors.dtype)[species[graph.center], species[graph.neighbor]]
        square = (vectors * vectors).sum(1)
        if vectors.device.type == "cpu" and not is_tracing() and not bool((square.detach() < reach * reach).any()):
            return vectors.new_zeros(graph.n_atoms)
        atoms = self.atoms.to(vectors.dtype).index_select(0, graph.numbers)
        one, other = atoms.index_select(0, graph.center), atoms.index_select(0, graph.neighbor)
        distance = torch.sqrt(square)
        share, decay = self.screening.to(vectors.dtype).unbind(1)
        screened = torch.exp((distance * (one + other)[:, 1])[:, None] * -decay) @ share
        pair = screened * polynomial_envelope(distance / reach, 1.0) / distance
        return segment_sum(0.5 * COULOMB_CONSTANT * one[:, 0] * other[:, 0] * pair, graph.center, graph.n_atoms)


def closest_approach(statistics: Statistics) -> Tensor:
    """(species, species) Å, float64: where nothing was learnt any more (`Statistics.wall`).

    In models from before that was recorded: the smallest distance in training, or the sum of the covalent radii.
    """
    if statistics.wall:
        return torch.tensor(statistics.wall, dtype=torch.float64)
    radius = torch.tensor(covalent_radii, dtype=torch.float64)[list(statistics.species)]
    reach = radius[:, None] + radius[None, :]
    if not statistics.closest:
        return reach
    closest = torch.tensor(statistics.closest, dtype=torch.float64)
    return torch.where(closest > 0, closest, reach)
