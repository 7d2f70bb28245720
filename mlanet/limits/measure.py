"""What is measured of an atom or a structure, in the words of the network: distances from the training set.

Rigidity follows last-layer prediction rigidity, arXiv 2403.02251: an energy is linear in the weights of the last layer,
with the features f as its gradient, so its variance is α² fᵀ (FᵀF + ς²)⁻¹ f, F the features of the training set.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlanet.arrays import Floats, GraphArrays, Integers
from mlanet.domain import Domain

TINY = 1e-9
"""Below any distance or force that matters, so that logarithms exist."""
SMALL_FORCE = 0.03
"""eV/Å; how well a force is known does not follow its size below this."""


def distances(domain: Domain, features: NDArray[Any], species: Integers) -> tuple[Floats, Floats]:
    """|y|/√C and y of each atom, y = (x − mean) whiten: about 1 within the training set, (N,) and (N, C), float64.

    - features (N, C), any type · species (N,) int64, rows of `Domain`
    """
    centred = features - domain.mean[species]
    there = [0] if len(domain.whiten) == 1 else np.unique(species).tolist()
    if len(there) == 1:
        white = centred @ domain.whiten[there[0]]
    else:
        white = np.empty_like(centred)
        for row in there:  # a matrix product each, far cheaper than a matrix per atom
            chosen = species == row
            white[chosen] = centred[chosen] @ domain.whiten[row]
    return np.sqrt(np.einsum("nc,nc->n", white, white) / white.shape[1]), white


def rigidity(domain: Domain, features: NDArray[Any], scale: Floats | None = None) -> Floats:
    """√(fᵀ (FᵀF + ς²)⁻¹ f) of each row, f = scale · features, eV per unit of the weights' spread: (N,), float64."""
    f = features if scale is None else features * scale[:, None]
    return np.sqrt(np.maximum(np.einsum("nc,nc->n", f @ domain.rigidity, f), 0.0))


def structure_features(features: NDArray[Any], scale: Floats, graph: GraphArrays) -> Floats:
    """(S, C): mean over the atoms of each structure of scale · features, the gradient of its energy per atom."""
    total: Floats = graph.summed(features * scale[:, None])
    return total / graph.atoms_per_structure()[:, None]


def coordination(graph: GraphArrays, distance: Floats) -> Floats:
    """n_i = Σ_j (1 − d²/r_c²)², (N,): neighbours, counted less the farther they are."""
    weight = np.maximum(1 - np.square(distance / graph.cutoff), 0.0)
    return np.asarray(np.bincount(graph.center, weight * weight, graph.n_atoms), dtype=np.float64)


def force_columns(domain: Domain, species: Integers, force: Floats, distance: Floats, white: Floats) -> Floats:
    """(N, K) what the logarithm of a force's standard error is linear in: element, |F|, distance, and where it lies.

    - force (N,) eV/Å, sizes · distance (N,) and white (N, C), of `distances`
    """
    n_species = len(domain.reach)
    columns = np.zeros((len(species), n_species + 2 + white.shape[1]))
    columns[np.arange(len(species)), species] = 1.0
    columns[:, n_species] = np.log(force + SMALL_FORCE)
    columns[:, n_species + 1] = np.log(distance + TINY)
    columns[:, n_species + 2 :] = np.tanh(0.5 * white)
    return columns
