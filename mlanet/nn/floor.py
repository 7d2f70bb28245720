"""What a network sees of distances that are smaller, and atoms that are more crowded, than any it learnt from.

A network's answer there is arbitrary. It is therefore shown the environment as if it were stretched until it is
no denser than the densest of the training set, and no pair of atoms nearer than the closest one. What happens inside is
left to the screened repulsion and to an energy that grows with the stretch.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mlanet.crowding import HALF_POWER, crowding
from mlanet.graph import AtomicGraph
from mlanet.nn.exact import ExactConstants
from mlanet.nn.repulsion import closest_approach
from mlanet.ops.traced import is_tracing
from mlanet.statistics import Statistics

SLACK = 0.01
"""Natural logarithm of a factor of distance: so far beyond the training set a network is still believed."""
WIDTH = 0.05
"""The same: over this much more, what it sees comes to a stop. Pairs stand still from exp(−0.06) = 0.94 on."""
STIFFNESS = 100.0
"""eV per squared logarithm of the stretch: the resistance of a solid with 200 GPa and 18 Å³ per atom."""
UNSEEN = 12.0
"""Crowding, of a training set without neighbours: twelve at the closest distance."""


class Seen(NamedTuple):
    """Pairs as the network sees them.

    - vectors (E, 3) Å · energy (N,) eV, of being crowded beyond the training set; None where nobody is
    """

    vectors: Tensor
    energy: Tensor | None


class DistanceFloor(ExactConstants):
    """r_ij → r_ij exp(c + ramp(ln(d/r) − c)), c = (h_i + h_j)/2, h_i = ramp(ln(ρ_i/ρ_max)/12); energy K h_i².

    d is the distance of the two elements where nothing was learnt any more (`Statistics.wall`), ρ the crowding
    (`mlanet.crowding`), ρ_max the largest one in training, of any element: it is a number of the same kind for all, and
    of a rare one the training set does not show the most. And ramp(t) is 0 up to `SLACK`, with two continuous
    derivatives, and of slope 1 from `WIDTH` further on. Directions do not change. Within the training set nothing
    changes, to the last digit; a crystal compressed uniformly beyond it looks nearly the same at any density.
    Nothing is trained.

    Args:
        statistics: of the training set, with `wall` and `crowding`.
        cutoff: Å, of the model.
    """

    species_index: Tensor
    closest: Tensor
    most: Tensor

    def __init__(self, statistics: Statistics, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        index = torch.zeros(256, dtype=torch.int64)
        index[list(statistics.species)] = torch.arange(len(statistics.species))
        self.register_buffer("species_index", index, persistent=False)
        self.register_buffer("closest", closest_approach(statistics), persistent=False)
        most = torch.tensor(max(statistics.crowding) or UNSEEN, dtype=torch.float64)
        self.register_buffer("most", most, persistent=False)

    def forward(self, graph: AtomicGraph, vectors: Tensor) -> Seen:
        """(E, 3) Å as they are -> as they are seen."""
        species = self.species_index[graph.numbers]
        closest = self.closest.to(vectors.dtype)[species[graph.center], species[graph.neighbor]]
        most = self.most.to(vectors.dtype)
        if vectors.device.type == "cpu" and not is_tracing() and self._familiar(graph, vectors.detach(), closest, most):
            return Seen(vectors, None)
        rho = crowding(vectors, closest, graph.center, graph.n_atoms, self.cutoff)
        stretch = ramp(torch.log((rho / most).clamp(min=1.0)) / (2 * HALF_POWER))
        shared = 0.5 * (stretch[graph.center] + stretch[graph.neighbor])
        square = (vectors * vectors).sum(1).clamp(min=1e-6)
        pair = ramp(0.5 * torch.log(closest * closest / square) - shared)
        return Seen(vectors * torch.exp(shared + pair)[:, None], STIFFNESS * stretch * stretch)

    def _familiar(self, graph: AtomicGraph, vectors: Tensor, closest: Tensor, most: Tensor) -> bool:
        """Whether nothing is nearer or more crowded than where the ramp begins, so that nothing would change."""
        square = (vectors * vectors).sum(1)
        if bool((square < closest * closest * math.exp(-2 * SLACK)).any()):
            return False
        rho = crowding(vectors, closest, graph.center, graph.n_atoms, self.cutoff)
        return not bool((rho > most * math.exp(2 * HALF_POWER * SLACK)).any())


def distance_floor(statistics: Statistics, cutoff: float) -> DistanceFloor | None:
    """None where nothing is known of the training set, as in models from before this was recorded."""
    return DistanceFloor(statistics, cutoff) if statistics.crowding else None


def ramp(t: Tensor) -> Tensor:
    """0 up to `SLACK`, then `WIDTH` (y³ − y⁴/2), y = (t − SLACK)/WIDTH, up to y = 1, and of slope 1 from there on."""
    y = ((t - SLACK) / WIDTH).clamp(min=0.0)
    inside = y.clamp(max=1.0)
    return WIDTH * (inside**3 * (1 - 0.5 * inside) + (y - inside))
