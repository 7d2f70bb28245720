"""What a law is: a number that should be zero, measured on a potential and a structure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from mlanet.data.atoms import to_graph
from mlanet.graph import Prediction, batch_graphs
from mlanet.inference import split
from mlanet.potential import Potential

ATOMS_TOGETHER = 256
"""Atoms of a batch of small changes to one structure: enough to keep a core busy, little to keep in memory."""


@dataclass(frozen=True)
class Law:
    """A physical law and how to measure its violation.

    - name, meaning: one or two words, and one sentence for people
    - tolerance: the largest deviation in float64, in the law's own unit
    - measure(potential, atoms): the deviation, or None where the law says nothing about such a structure
    """

    name: str
    meaning: str
    tolerance: float
    measure: Callable[[Potential, Atoms], float | None]


@dataclass(frozen=True)
class LawResult:
    """The outcome of one law on one structure."""

    law: str
    holds: bool
    deviation: float
    tolerance: float
    detail: str
    promised: bool


@dataclass(frozen=True)
class Answer:
    """A potential's answer for one structure, as numpy: energy eV, forces (N, 3), stress (3, 3), site energies (N,)."""

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]
    sites: NDArray[np.float64]


def ask(potential: Potential, atoms: Atoms) -> Answer:
    """Evaluate one structure."""
    return answer(potential(to_graph(atoms, potential.cutoff)))


def ask_all(potential: Potential, structures: Sequence[Atoms]) -> list[Answer]:
    """Evaluate many structures, `ATOMS_TOGETHER` atoms or one structure at a time."""
    answers: list[Answer] = []
    together = max(1, ATOMS_TOGETHER // max(map(len, structures), default=1))
    for first in range(0, len(structures), together):
        batch = batch_graphs([to_graph(one, potential.cutoff) for one in structures[first : first + together]])
        answers += map(answer, split(potential(batch), batch))
    return answers


def answer(prediction: Prediction) -> Answer:
    """A prediction for one structure, from any device."""
    prediction = prediction.map(Tensor.cpu)
    return Answer(
        float(prediction.energy[0]),
        prediction.forces.double().numpy(),
        prediction.stress[0].double().numpy(),
        prediction.atomic_energies.numpy(),
    )


def difference(a: Answer, b: Answer) -> float:
    """Largest difference of energy per √N, forces and stress, relative to their size where that is above 1."""
    size = max(1.0, abs(a.energy), float(np.abs(a.forces).max(initial=0.0)))
    parts = [abs(a.energy - b.energy), float(np.abs(a.forces - b.forces).max(initial=0.0))]
    if np.isfinite(a.stress).all():
        parts.append(float(np.abs(a.stress - b.stress).max()))
    return max(parts) / size


def periodic(atoms: Atoms) -> bool:
    """Whether a stress is defined."""
    return bool(atoms.pbc.any()) and abs(np.linalg.det(atoms.cell.array)) > 0
