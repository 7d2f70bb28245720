"""Atoms that are pushed into each other are driven apart, nearer than anything that was learnt.

The laws speak of trained models only: without a closest distance seen they say nothing.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlanet.data.neighbors import neighbor_list
from mlanet.laws.law import Law, ask_all, neutral
from mlanet.nn.repulsion import closest_approach
from mlanet.potential import Potential

NEAREST = 0.2
"""Å; the smallest distance asked about."""
INSIDE = 0.8
"""Of the closest distance seen: the wall starts from nothing there, and what was learnt still speaks within."""
PLACES = 24
SMALLEST = 0.3
"""Of the lattice constant, as far as a crystal is compressed."""
STEPS = 8
MAX_ATOMS = 16
"""A crystal compressed to 0.3 of its size has 37 times the pairs; larger ones are not asked about."""


def closest(potential: Potential) -> NDArray[np.float64]:
    """(species, species) Å: nearer than that the model has learnt nothing."""
    return closest_approach(potential.statistics).numpy()  # type: ignore[no-any-return]


def wall(potential: Potential, atoms: Atoms) -> float | None:
    """The largest attraction, eV/Å, in dimers of every two of the structure's elements within the closest distance."""
    if not potential.statistics.closest:
        return None
    species, reach = potential.species, closest(potential)
    numbers = sorted(set(atoms.numbers.tolist()))
    pairs = [(a, b) for place, a in enumerate(numbers) for b in numbers[place:]]
    dimers = []
    for a, b in pairs:
        inside = INSIDE * reach[species.index(a), species.index(b)]
        distances = np.linspace(min(NEAREST, 0.5 * inside), inside, PLACES)
        dimers += [neutral([a, b], [[0.0, 0.0, 0.0], [distance, 0.0, 0.0]]) for distance in distances]
    return max(0.0, *(-float(one.forces[1, 0]) for one in ask_all(potential, dimers)))


def compression(potential: Potential, atoms: Atoms) -> float | None:
    """The largest fall of the energy, eV/atom, as a crystal is compressed to 0.3 of its lattice constant.

    It is followed from where a pair first comes within the closest distance, and compared with where it stands too.
    """
    if not potential.statistics.closest or not atoms.pbc.all() or len(atoms) > MAX_ATOMS:
        return None
    start = min(1.0, INSIDE * _nearest_pair(potential, atoms))
    factors = [1.0, *np.geomspace(max(start, SMALLEST), SMALLEST, STEPS)]
    squeezed = []
    for factor in factors:
        squeezed.append(atoms.copy())
        squeezed[-1].set_cell(factor * atoms.cell.array, scale_atoms=True)
    at_rest, *energies = (one.energy / len(atoms) for one in ask_all(potential, squeezed))
    return max(0.0, at_rest - energies[-1], *(np.array(energies[:-1]) - np.array(energies[1:])))


def _nearest_pair(potential: Potential, atoms: Atoms) -> float:
    """The factor of the lattice constant at which some pair is at its closest distance."""
    pairs = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, potential.cutoff)
    vectors = atoms.positions[pairs.neighbor] + pairs.shift @ atoms.cell.array - atoms.positions[pairs.center]
    index = np.array([potential.species.index(number) for number in atoms.numbers.tolist()])
    reach = closest(potential)[index[pairs.center], index[pairs.neighbor]]
    return float((reach / np.linalg.norm(vectors, axis=1)).max(initial=0.0))


LAWS = (
    Law("wall", "two atoms repel at any distance well inside the closest one seen", 0.0, wall),
    Law("compression", "a crystal compressed to 0.3 of its lattice constant only gains energy", 0.0, compression),
)
