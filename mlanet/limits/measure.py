"""What is measured of an atom or a structure, in the words of the network: distances from the training set.

Rigidity follows last-layer prediction rigidity, arXiv 2403.02251: an energy is linear in the weights of the last layer,
with the features f as its gradient, so its variance is α² fᵀ (FᵀF + ς²)⁻¹ f, F the features of the training set.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mlanet.domain import Domain
from mlanet.graph import AtomicGraph

TINY = 1e-9
"""Below any distance or force that matters, so that logarithms exist."""
SMALL_FORCE = 0.03
"""eV/Å; how well a force is known does not follow its size below this."""


def distances(domain: Domain, features: Tensor, species: Tensor) -> tuple[Tensor, Tensor]:
    """|y|/√C and y of each atom, y = (x − mean) whiten: about 1 within the training set, (N,) and (N, C), float64.

    - features (N, C), any type · species (N,) int64, rows of `Domain`
    """
    centred = features.double() - domain.mean[species]
    there = [0] if len(domain.whiten) == 1 else species.unique().tolist()
    if len(there) == 1:
        white = centred @ domain.whiten[there[0]]
    else:
        white = torch.empty_like(centred)
        for row in there:  # a matrix product each, far cheaper than a matrix per atom
            chosen = species == row
            white[chosen] = centred[chosen] @ domain.whiten[row]
    return white.square().mean(dim=1).sqrt(), white


def rigidity(domain: Domain, features: Tensor, scale: Tensor) -> Tensor:
    """√(fᵀ (FᵀF + ς²)⁻¹ f) of each row, f = scale · features, eV per unit of the weights' spread: (N,), float64."""
    f = features.double() * scale[:, None]
    return ((f @ domain.rigidity) * f).sum(dim=1).clamp(min=0).sqrt()


def structure_features(features: Tensor, scale: Tensor, graph: AtomicGraph) -> Tensor:
    """(S, C): mean over the atoms of each structure of scale · features, the gradient of its energy per atom."""
    total = torch.zeros(graph.n_structures, features.shape[1], dtype=torch.float64)
    total = total.index_add(0, graph.structure, features.double() * scale[:, None])
    return total / graph.atoms_per_structure()[:, None]


def coordination(graph: AtomicGraph, distance: Tensor) -> Tensor:
    """n_i = Σ_j (1 − d²/r_c²)², (N,): neighbours, counted less the farther they are."""
    weight = (1 - (distance / graph.cutoff).square()).clamp(min=0).square()
    return torch.zeros(graph.n_atoms, dtype=weight.dtype).index_add(0, graph.center, weight)


def force_columns(domain: Domain, species: Tensor, force: Tensor, distance: Tensor, white: Tensor) -> Tensor:
    """(N, K) what the logarithm of a force's standard error is linear in: element, |F|, distance, and where it lies.

    - force (N,) eV/Å, sizes · distance (N,) and white (N, C), of `distances`
    """
    element = torch.eye(len(domain.reach), dtype=torch.float64)[species]
    size = torch.log(force.double() + SMALL_FORCE)
    away = torch.log(distance + TINY)
    return torch.cat([element, size[:, None], away[:, None], torch.tanh(0.5 * white)], dim=1)
