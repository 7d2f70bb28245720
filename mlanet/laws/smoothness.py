"""Energy and forces stay continuous as neighbours come and go."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from mlanet.laws.law import Answer, Asking, Law, joined, neutral
from mlanet.potential import Potential

WINDOW = 1e-7
"""Å on either side of the cutoff."""


def _jump(before: Answer, after: Answer, moved: int, direction: np.ndarray) -> float:
    """What a step of 2·WINDOW changes beyond what the force explains, in E (eV)."""
    work = -0.5 * float((before.forces[moved] + after.forces[moved]) @ direction) * 2 * WINDOW
    return abs(after.energy - before.energy - work)


def last_neighbour(potential: Potential, atoms: Atoms) -> Asking:
    """A dimer pulled across the cutoff: |ΔE| beyond what the force explains, eV, or |ΔF| in units of 10⁻³ eV/Å."""
    numbers = [int(atoms.numbers[0]), int(atoms.numbers[-1])]
    places = [np.array([[0, 0, 0], [potential.cutoff + side * WINDOW, 0, 0]]) for side in (-1, 1)]
    inside, outside = yield [neutral(numbers, place) for place in places]
    step = _jump(inside, outside, 1, np.array([1.0, 0.0, 0.0]))
    return max(step, 1e-3 * float(np.abs(inside.forces - outside.forces).max()))


def leaving_neighbour(potential: Potential, atoms: Atoms) -> Asking:
    """A probe atom crosses the cutoff of an atom that has other neighbours."""
    probe, cluster = neutral(atoms.numbers[:1], [[0.0, 0.0, 0.0]]), atoms.copy()
    cluster.set_cell(np.zeros((3, 3)))
    cluster.set_pbc(False)
    centre = int(np.argmax(cluster.positions @ [0.6, 0.8, 0.0]))
    direction = np.array([0.6, 0.8, 0.0])
    ends = []
    for side in (-1, 1):
        probe.positions[0] = cluster.positions[centre] + direction * (potential.cutoff + side * WINDOW)
        ends.append(joined(cluster, probe))
    before, after = yield ends
    return _jump(before, after, len(cluster), direction)


LAWS = (
    # A C² envelope leaves forces of order 56 (WINDOW / r_c)² / r_c times the network's slope: some 10⁻⁸ eV/Å.
    Law("last neighbour", "a dimer fades to nothing at the cutoff", 1e-10, last_neighbour),
    Law("leaving neighbour", "E has no step as an atom crosses the cutoff", 1e-10, leaving_neighbour),
)
