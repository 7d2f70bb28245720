"""How stiff bonds are, by element: the absolute scale that tells eV from kcal/mol where both labels are in one unit.

The universal force field gives a bond of length d between elements a, b the force constant

    k = 664.12 kcal/mol/Å² · Z*_a Z*_b / (d / Å)³        (A. K. Rappé et al., J. Am. Chem. Soc. 114, 10024 (1992))

with one effective charge Z* for each element. Measured against the curvature of labels it is right within a factor of
about two for bonds between nonmetals; bonds of metals are softer by a factor that hardly varies (`SOFTER`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from mlanet.data.samples import Sample
from mlanet.units import KCAL_PER_MOL_IN_EV

BONDED = 1.3
"""Atoms nearer than this times the sum of their covalent radii are taken as bonded."""

SOFTER = (1.0, 0.37, 0.2)
"""True over universal force constant with no, one and two metals in the bond: medians over real sets."""
_NONMETALS = (1, 2, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 32, 33, 34, 35, 36, 52, 53, 54, 85, 86)

# fmt: off
_CHARGES = np.array([
    0.000,
    0.712, 0.098, 1.026, 1.565, 1.755, 1.912, 2.544, 2.300, 1.735, 0.194, 1.081, 1.787, 1.792, 2.323, 2.863,
    2.703, 2.348, 0.300, 1.165, 2.141, 2.592, 2.659, 2.679, 2.463, 2.430, 2.430, 2.430, 2.430, 1.756, 1.308,
    1.821, 2.789, 2.864, 2.764, 2.519, 0.452, 1.592, 2.449, 3.257, 3.667, 3.618, 3.400, 3.400, 3.400, 3.500,
    3.210, 1.956, 1.650, 2.070, 2.961, 2.704, 2.882, 2.650, 0.556, 1.573, 2.727, 3.300, 3.300, 3.300, 3.300,
    3.300, 3.300, 3.300, 3.300, 3.300, 3.300, 3.416, 3.300, 3.300, 2.618, 3.271, 3.921, 4.075, 3.700, 3.700,
    3.700, 3.731, 3.382, 2.625, 1.750, 2.068, 2.846, 2.470, 2.330, 2.240, 0.583, 1.847, 2.920, 3.900, 4.202,
    3.900, 3.900, 3.900, 3.900, 3.900, 3.900, 3.900, 3.900, 3.900, 3.900, 3.900, 3.900, 3.900,
])
# fmt: on
NOBLE = (2, 10, 18, 36, 54, 86)
"""Elements whose neighbours are no bonds."""


class Bonds(NamedTuple):
    """The bonds of one frame, each from both of its ends.

    - first, second: atoms · along: (B, 3) unit vectors from first to second · constant: eV/Å²
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    along: NDArray[np.float64]
    constant: NDArray[np.float64]

    def energy(self, displacement: NDArray[np.float64]) -> float:
        """½ Σ k (Δ_ij · r̂_ij)², each bond once, eV."""
        stretch = ((displacement[self.second] - displacement[self.first]) * self.along).sum(axis=1)
        return 0.25 * float((self.constant * stretch**2).sum())


def bonds_of(sample: Sample) -> Bonds:
    """Bonds among the edges of a graph; those of noble gases are none."""
    graph = sample.graph
    first, second, numbers = graph.center.numpy(), graph.neighbor.numpy(), graph.numbers.numpy()
    vectors = graph.edge_vectors().numpy()
    distance = np.linalg.norm(vectors, axis=1)
    bonded = distance < BONDED * (covalent_radii[numbers[first]] + covalent_radii[numbers[second]])
    bonded &= ~np.isin(numbers[first], NOBLE) & ~np.isin(numbers[second], NOBLE)
    first, second, distance = first[bonded], second[bonded], distance[bonded]
    charges = _CHARGES[np.minimum(numbers, len(_CHARGES) - 1)]
    metals = (~np.isin(numbers, _NONMETALS)).astype(int)
    softer = np.array(SOFTER)[metals[first] + metals[second]]
    constant = 664.12 * KCAL_PER_MOL_IN_EV * softer * charges[first] * charges[second] / distance**3
    return Bonds(first, second, vectors[bonded] / distance[:, None], constant)
