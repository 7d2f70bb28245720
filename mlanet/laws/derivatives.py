"""Forces and stress are derivatives of one energy, and what follows from that."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms

from mlanet.laws.law import Asking, Law, periodic
from mlanet.potential import Potential
from mlanet.units import VOIGT

STEPS = (3e-4, 6e-5, 1.2e-5)
"""Å or strain; fourth-order differences err by h⁴/30 of the fifth derivative, and by some 10⁻¹⁵ |E|/h from rounding.

Smaller ones are tried where the first says no: far from its training data a network has huge higher derivatives, and
a pair that crosses the cutoff within a step errs more, since third derivatives jump there."""
TOLERANCE = 1e-6


def _refined(
    measure: Callable[[Potential, Atoms, float], Asking],
) -> Callable[[Potential, Atoms], Asking]:
    """The smallest deviation by steps that become smaller until one tells that the law holds; a true one is in all."""

    def run(potential: Potential, atoms: Atoms) -> Asking:
        deviations: list[float] = []
        for step in STEPS:
            deviation = yield from measure(potential, atoms, step)
            if deviation is None or deviation <= TOLERANCE:
                return deviation
            deviations.append(deviation)
        return min(deviations)

    return run


def _displaced(atoms: Atoms, atom: int, axis: int, h: float) -> list[Atoms]:
    """With one atom at −2h, −h, h and 2h along an axis."""
    structures = []
    for step in (-2, -1, 1, 2):
        structures.append(atoms.copy())
        structures[-1].positions[atom, axis] += step * h
    return structures


def _strained(atoms: Atoms, a: int, b: int, h: float) -> list[Atoms]:
    """Under strains of −2h, −h, h and 2h, half in each of ab and ba."""
    structures = []
    for step in (-2, -1, 1, 2):
        strain = np.eye(3)
        strain[a, b] += 0.5 * step * h
        strain[b, a] += 0.5 * step * h
        structures.append(atoms.copy())
        structures[-1].set_cell(atoms.cell.array @ strain)
        structures[-1].positions = atoms.positions @ strain
    return structures


def _fourth_order(values: np.ndarray, h: float) -> np.ndarray:
    """d/dx of each row (…, 4) of values at −2h, −h, h and 2h."""
    slopes: np.ndarray = values @ np.array([1.0, -8.0, 8.0, -1.0]) / (12 * h)
    return slopes


def forces(potential: Potential, atoms: Atoms, h: float) -> Asking:
    """|F + ∂E/∂R| / max(1, |F|) on up to four atoms, all directions."""
    chosen = np.random.default_rng(0).permutation(len(atoms))[:4]
    moved = [structure for atom in chosen for axis in range(3) for structure in _displaced(atoms, atom, axis, h)]
    at_rest, *answers = yield [atoms, *moved]
    given, energies = at_rest.forces, np.array([answer.energy for answer in answers])
    slopes = _fourth_order(energies.reshape(-1, 3, 4), h)
    return float(np.abs(given[chosen] + slopes).max(initial=0.0)) / max(1.0, float(np.abs(given).max(initial=0.0)))


def stress(potential: Potential, atoms: Atoms, h: float) -> Asking:
    """|σ V − ∂E/∂ε| / max(1, |σ V|), six strains, V of the cell as given."""
    if not periodic(atoms):
        return None
    rows, columns = VOIGT
    deformed = [structure for a, b in zip(rows, columns, strict=True) for structure in _strained(atoms, a, b, h)]
    at_rest, *answers = yield [atoms, *deformed]
    virial = at_rest.stress * abs(np.linalg.det(atoms.cell.array))
    energies = np.array([answer.energy for answer in answers])
    slopes = _fourth_order(energies.reshape(-1, 4), h)
    return float(np.abs(virial[rows, columns] - slopes).max()) / max(1.0, float(np.abs(virial).max()))


def net_force(potential: Potential, atoms: Atoms) -> Asking:
    """|ΣF| over the largest force."""
    (answer,) = yield [atoms]
    given = answer.forces
    return float(np.abs(given.sum(axis=0)).max()) / max(1.0, float(np.abs(given).max(initial=0.0)))


def net_torque(potential: Potential, atoms: Atoms) -> Asking:
    """|Σ r × F| of a molecule, over the largest force and distance."""
    if atoms.pbc.any():
        return None
    (answer,) = yield [atoms]
    given, arms = answer.forces, atoms.positions - atoms.positions.mean(axis=0)
    size = max(1.0, float(np.abs(given).max(initial=0.0)) * float(np.abs(arms).max(initial=0.0)))
    return float(np.abs(np.cross(arms, given).sum(axis=0)).max()) / size


def stress_symmetry(potential: Potential, atoms: Atoms) -> Asking:
    """|σ − σᵀ|."""
    if not periodic(atoms):
        return None
    (answer,) = yield [atoms]
    given = answer.stress
    return float(np.abs(given - given.T).max())


def site_energies(potential: Potential, atoms: Atoms) -> Asking:
    """|E − Σ E_i|, relative."""
    (given,) = yield [atoms]
    return abs(given.energy - float(given.sites.sum())) / max(1.0, abs(given.energy))


def reciprocity(potential: Potential, atoms: Atoms, h: float) -> Asking:
    """∂F_i/∂R_j = ∂F_j/∂R_i on a pair of atoms: the Hessian is symmetric, over its largest entry."""
    if len(atoms) < 2:
        return None
    moved = [structure for atom in (0, 1) for axis in range(3) for structure in _displaced(atoms, atom, axis, h)]
    answers = yield moved
    ends = np.array([answer.forces[:2].ravel() for answer in answers])
    hessian = _fourth_order(ends.reshape(6, 4, 6).swapaxes(1, 2), h)
    return float(np.abs(hessian - hessian.T).max()) / max(1.0, float(np.abs(hessian).max()))


LAWS = (
    # Fifth derivatives of a random network at compressed distances reach 10⁸, hence not tighter.
    Law("forces", "F = −∂E/∂R", TOLERANCE, _refined(forces)),
    Law("stress", "σ = (1/V) ∂E/∂ε with V of the cell as given", TOLERANCE, _refined(stress)),
    Law("net force", "ΣF = 0", 1e-12, net_force),
    Law("net torque", "a molecule does not spin itself up", 1e-12, net_torque),
    Law("stress symmetry", "σ = σᵀ", 1e-12, stress_symmetry),
    Law("site energies", "E = Σ E_i", 1e-12, site_energies),
    Law("reciprocity", "the Hessian is symmetric", TOLERANCE, _refined(reciprocity)),
)
