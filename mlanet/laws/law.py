"""What a law is: a number that should be zero, measured on a potential and a structure."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mlanet.data.atoms import to_graph
from mlanet.graph import Prediction, batch_graphs
from mlanet.inference import split
from mlanet.potential import Potential

ATOMS_TOGETHER = 256
"""Atoms of a batch of small changes to one structure: enough to keep a core busy, little to keep in memory."""

Asking = Generator[Sequence[Atoms], "list[Answer]", float | None]
"""A law at work: it yields structures, is sent their answers, and returns the deviation, or None (see `Law`)."""

CHARGE = "total_charge"
"""Key of `atoms.info`, e."""


@dataclass(frozen=True)
class Law:
    """A physical law and how to measure its violation.

    - name, meaning: one or two words, and one sentence for people
    - tolerance: the largest deviation in float64, in the law's own unit
    - asks(potential, atoms): finds the deviation, or None where the law says nothing about such a structure
    """

    name: str
    meaning: str
    tolerance: float
    asks: Callable[[Potential, Atoms], Asking]

    def measure(self, potential: Potential, atoms: Atoms) -> float | None:
        """The deviation, or None where the law says nothing about such a structure."""
        return side_by_side(potential, [self.asks(potential, atoms)])[0]


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
    """A potential's answer for one structure, as numpy: energy eV, forces (N, 3), stress (3, 3), site energies (N,).

    Dipole (3,) e Å and polarizability (3, 3) Å³ are NaN where there is none.
    """

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]
    sites: NDArray[np.float64]
    dipole: NDArray[np.float64]
    polarizability: NDArray[np.float64]

    def rotated(self, q: NDArray[np.float64]) -> Answer:
        """What it should be for a structure whose vectors v are q v."""
        return dataclasses.replace(
            self,
            forces=self.forces @ q.T,
            stress=q @ self.stress @ q.T,
            dipole=q @ self.dipole,
            polarizability=q @ self.polarizability @ q.T,
        )


def neutral(numbers: Sequence[int], positions: ArrayLike) -> Atoms:
    """A molecule without charge, said of each atom too, for models that read per-atom charges."""
    atoms = Atoms(numbers, positions)
    atoms.set_initial_charges(np.zeros(len(atoms)))
    return atoms


def repeated(atoms: Atoms, copies: Sequence[int]) -> Atoms:
    """A supercell, the total charge multiplied too."""
    many = make_supercell(atoms, np.diag(copies))
    many.info = dict(atoms.info)
    if CHARGE in many.info:
        many.info[CHARGE] *= int(np.prod(copies))
    return many


def joined(one: Atoms, other: Atoms) -> Atoms:
    """Two structures as one, their total charges added."""
    both = one + other
    if CHARGE in one.info or CHARGE in other.info:
        both.info[CHARGE] = one.info.get(CHARGE, 0.0) + other.info.get(CHARGE, 0.0)
    return both


def with_charges(potential: Potential, systems: Mapping[str, Atoms]) -> dict[str, Atoms]:
    """The systems, and for a model that reads charge charged ones, without which nothing would show of it."""
    config = potential.model.config
    if getattr(config, "charge", "none") == "atomic":
        given = {f"{name}, charged atoms": atoms.copy() for name, atoms in systems.items()}
        for atoms in given.values():
            atoms.set_initial_charges(0.1 + 0.3 * np.cos(np.arange(len(atoms))))
        return given
    given = dict(systems)
    if getattr(config, "reads_total_charge", False):
        for name, atoms in systems.items():
            given[f"{name}, charge +2"] = atoms.copy()
            given[f"{name}, charge +2"].info[CHARGE] = 2.0
    return given


def ask(potential: Potential, atoms: Atoms) -> Answer:
    """Evaluate one structure."""
    return answer(potential(to_graph(atoms, potential.cutoff)))


def ask_all(potential: Potential, structures: Sequence[Atoms]) -> list[Answer]:
    """Evaluate many structures, those of a size together, `ATOMS_TOGETHER` atoms or one structure at a time."""
    answers: dict[int, Answer] = {}
    waiting = sorted(range(len(structures)), key=lambda place: len(structures[place]))
    while waiting:
        sizes = itertools.accumulate(len(structures[place]) for place in waiting)
        count = max(1, sum(size <= ATOMS_TOGETHER for size in sizes))
        places, waiting = waiting[:count], waiting[count:]
        batch = batch_graphs([to_graph(structures[place], potential.cutoff) for place in places])
        answers.update(zip(places, map(answer, split(potential(batch), batch)), strict=True))
    return [answers[place] for place in range(len(structures))]


def side_by_side(potential: Potential, laws: Sequence[Asking]) -> list[float | None]:
    """The deviations of laws at work: what they ask at the same time is asked together, and of a structure once."""
    deviations: list[float | None] = [None] * len(laws)
    sent: dict[int, list[Answer] | None] = dict.fromkeys(range(len(laws)))
    while sent:
        asked: dict[int, Sequence[Atoms]] = {}
        for place, answers in sent.items():
            try:
                asked[place] = laws[place].send(answers)  # type: ignore[arg-type]  # None starts it
            except StopIteration as end:
                deviations[place] = end.value
        structures = {id(atoms): atoms for wanted in asked.values() for atoms in wanted}
        known = dict(zip(structures, ask_all(potential, list(structures.values())), strict=True))
        sent = {place: [known[id(atoms)] for atoms in wanted] for place, wanted in asked.items()}
    return deviations


def answer(prediction: Prediction) -> Answer:
    """A prediction for one structure, from any device."""
    prediction = prediction.map(Tensor.cpu)
    return Answer(
        float(prediction.energy[0]),
        prediction.forces.double().numpy(),
        prediction.stress[0].double().numpy(),
        prediction.atomic_energies.numpy(),
        np.full(3, np.nan) if prediction.dipole is None else prediction.dipole[0].double().numpy(),
        np.full((3, 3), np.nan) if prediction.polarizability is None else prediction.polarizability[0].double().numpy(),
    )


def difference(a: Answer, b: Answer) -> float:
    """Largest difference of energy, forces, stress and what else there is, relative to their size where above 1."""
    size = max(1.0, abs(a.energy), float(np.abs(a.forces).max(initial=0.0)))
    parts = [abs(a.energy - b.energy), float(np.abs(a.forces - b.forces).max(initial=0.0))]
    for one, other in ((a.stress, b.stress), (a.dipole, b.dipole), (a.polarizability, b.polarizability)):
        if np.isfinite(one).all():
            parts.append(float(np.abs(one - other).max()))
    return worst(parts) / size


def worst(deviations: Iterable[float]) -> float:
    """The largest, or NaN if there is one: Python's `max` loses a NaN that is not the first.

    >>> worst([0.1, float("nan"), 0.2]), worst([0.1, 0.2])
    (nan, 0.2)
    """
    return float(np.max([*deviations]))


def periodic(atoms: Atoms) -> bool:
    """Whether a stress is defined."""
    return bool(atoms.pbc.any()) and abs(np.linalg.det(atoms.cell.array)) > 0
