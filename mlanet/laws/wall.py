"""Atoms that are pushed into each other are driven apart, nearer than anything that was learnt.

The laws speak of trained models only: without a closest distance seen they say nothing.
"""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from mlanet.crowding import HALF_POWER, crowding
from mlanet.data.atoms import to_graph
from mlanet.laws.law import Asking, Law, neutral, worst
from mlanet.nn.floor import UNSEEN
from mlanet.nn.repulsion import closest_approach
from mlanet.potential import Potential

NEAREST = 0.2
"""Å; the smallest distance asked about."""
INSIDE = 0.94
"""Of the closest distance seen, and of the distances in the most crowded environment seen: from there on the network
sees no change (`mlanet.nn.floor`)."""
PLACES = 24
SMALLEST = 0.3
"""Of the lattice constant, as far as a crystal is compressed."""
STEPS = 8
MAX_ATOMS = 16
"""A crystal compressed to 0.3 of its size has 37 times the pairs; larger ones are not asked about."""


def closest(potential: Potential) -> NDArray[np.float64]:
    """(species, species) Å: nearer than that the model has learnt nothing."""
    return closest_approach(potential.statistics).numpy()  # type: ignore[no-any-return]


def wall(potential: Potential, atoms: Atoms) -> Asking:
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
    answers = yield dimers
    return worst([0.0, *(-float(answer.forces[1, 0]) for answer in answers)])


def compression(potential: Potential, atoms: Atoms) -> Asking:
    """The largest fall of the energy, eV/atom, as a crystal is compressed to 0.3 of its lattice constant.

    It is followed from where it is nearer or more crowded than anything seen, and compared with where it stands too.
    """
    if not potential.statistics.closest or not atoms.pbc.all() or len(atoms) > MAX_ATOMS:
        return None
    start = min(1.0, INSIDE * _limit(potential, atoms))
    factors = [1.0, *np.geomspace(max(start, SMALLEST), SMALLEST, STEPS)]
    squeezed = []
    for factor in factors:
        squeezed.append(atoms.copy())
        squeezed[-1].set_cell(factor * atoms.cell.array, scale_atoms=True)
    at_rest, *energies = (answer.energy / len(atoms) for answer in (yield squeezed))
    return max(0.0, at_rest - energies[-1], *(np.array(energies[:-1]) - np.array(energies[1:])))


def _limit(potential: Potential, atoms: Atoms) -> float:
    """The factor of the lattice constant at which a pair is at its closest distance, or an atom as crowded as any."""
    graph = to_graph(atoms, potential.cutoff)
    statistics, vectors = potential.statistics, graph.edge_vectors()
    index = torch.tensor([potential.species.index(number) for number in atoms.numbers.tolist()])
    reach = closest_approach(statistics)[index[graph.center], index[graph.neighbor]]
    factors = [float((reach / vectors.norm(dim=1)).max())] if graph.n_edges else []
    if statistics.crowding:
        rho = crowding(vectors, reach, graph.center, graph.n_atoms, potential.cutoff)
        factors.append(float((rho.max() / (max(statistics.crowding) or UNSEEN)) ** (0.5 / HALF_POWER)))
    return max(factors, default=0.0)


LAWS = (
    Law("wall", "two atoms repel at any distance well inside the closest one seen", 0.0, wall),
    Law("compression", "a crystal compressed to 0.3 of its lattice constant only gains energy", 0.0, compression),
)
