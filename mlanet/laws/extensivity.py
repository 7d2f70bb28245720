"""Energy grows with the system, and far things do not feel each other."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlanet.laws.law import CHARGE, Asking, Law, joined, neutral, repeated, worst
from mlanet.potential import Potential


def supercell(potential: Potential, atoms: Atoms) -> Asking:
    """|E(n copies) − n E| / (n max(1, |E|)) along every periodic direction."""
    if not atoms.pbc.any():
        return None
    larger, sizes = [], []
    for copies in (2, 3):
        repeats = np.where(atoms.pbc, [copies, 1, 1], 1)
        if repeats.prod() == 1:
            repeats = np.where(atoms.pbc, copies, 1)
        larger.append(repeated(atoms, repeats.tolist()))
        sizes.append(int(repeats.prod()))
    one, *many = (answer.energy for answer in (yield [atoms, *larger]))
    return worst(abs(energy - n * one) / (n * max(1.0, abs(one))) for n, energy in zip(sizes, many, strict=True))


FAR, FARTHER = 40.0, 4000.0
"""Å; at the second distance even dispersion, some 10⁻⁷ eV at the first, is below 10⁻¹⁸ eV."""


def far_fragments(potential: Potential, atoms: Atoms) -> Asking:
    """|E(A + B) − E(A) − E(B)| of two different molecules, 40 Å apart, or 4000 Å with a long-range term.

    The same of dipoles (of neutral ones: that of an ion depends on where the other stands) and polarizabilities.
    """
    if atoms.pbc.any():
        return None
    # Another molecule, and another mean over the atoms: the first one turned, stretched, and without its last atom.
    other = atoms[: max(1, len(atoms) - 1)]
    other.rotate(40, "x")
    other.positions *= 1.05
    apart = np.ptp(atoms.positions, axis=0).max() + np.ptp(other.positions, axis=0).max()
    apart += FARTHER if potential.model.config.beyond_cutoff else FAR
    other.positions += [apart, 0.0, 0.0]
    one, two, both = yield [atoms, other, joined(atoms, other)]
    parts = one.energy + two.energy
    deviations = [abs(both.energy - parts) / max(1.0, abs(parts))]
    if not atoms.info.get(CHARGE, 0.0):
        deviations.append(_largest(both.dipole - one.dipole - two.dipole))
    deviations.append(_largest(both.polarizability - one.polarizability - two.polarizability))
    return worst(deviations)


def _largest(values: NDArray[np.float64]) -> float:
    """0 where there is no such answer."""
    return 0.0 if np.isnan(values).all() else float(np.abs(values).max())


def vacuum(potential: Potential, atoms: Atoms) -> Asking:
    """A slab or wire does not know how much empty space its cell has; needs more vacuum than the cutoff."""
    if atoms.pbc.all() or not atoms.pbc.any():
        return None
    free = ~atoms.pbc
    larger = atoms.copy()
    larger.set_cell(atoms.cell.array * np.where(free, 3.0, 1.0)[:, None])
    given, spacious = (answer.energy for answer in (yield [atoms, larger]))
    return abs(spacious - given) / max(1.0, abs(given))


def lone_atom(potential: Potential, atoms: Atoms) -> Asking:
    """|E − E₀| and |F| of each element's lone atom."""
    statistics = potential.statistics
    numbers = sorted(set(atoms.numbers.tolist()))
    answers = yield [neutral([number], [[0.0, 0.0, 0.0]]) for number in numbers]
    return worst(
        deviation
        for number, prediction in zip(numbers, answers, strict=True)
        for deviation in (
            abs(prediction.energy - statistics.references[statistics.species.index(number)]),
            float(np.abs(prediction.forces).max()),
        )
    )


LAWS = (
    Law("supercell", "n copies of a crystal have n times its energy", 1e-12, supercell),
    Law("far fragments", "molecules far apart do not feel each other", 1e-12, far_fragments),
    Law("vacuum", "empty space costs nothing", 1e-12, vacuum),
    # Energies of lone atoms are differences of two equal rows of one matrix product, which may round differently.
    Law("lone atom", "an isolated neutral atom has its reference energy and no force", 1e-10, lone_atom),
)
