"""The same structure written differently gets the same answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from mlanet.data.atoms import to_graph
from mlanet.graph import batch_graphs
from mlanet.inference import split
from mlanet.laws.law import CHARGE, Asking, Law, answer, ask, difference, neutral, periodic, repeated, worst
from mlanet.potential import Potential

TOLERANCE = 1e-12
"""Networks reach some 10⁻¹⁵, sums over waves of turned wires 10⁻¹²."""
BASES = (
    [[1, 1, 0], [0, 1, 0], [0, -1, 1]],
    [[0, 1, 0], [1, 0, 0], [0, 0, 1]],
    [[-1, 0, 0], [0, 1, 0], [0, 2, 1]],
)
"""Unimodular: the same lattice with skewed vectors, and twice left-handed."""


def _turned(atoms: Atoms, matrices: Sequence[np.ndarray]) -> Asking:
    """Largest deviation of E, F and σ from E, F Qᵀ and Q σ Qᵀ, of dipole and polarizability from Q μ and Q α Qᵀ."""
    others = []
    for matrix in matrices:
        others.append(atoms.copy())
        others[-1].set_cell(atoms.cell.array @ matrix.T)
        others[-1].positions = atoms.positions @ matrix.T
    given, *answers = yield [atoms, *others]
    return worst(difference(given.rotated(q), one) for q, one in zip(matrices, answers, strict=True))


def _rewritten(atoms: Atoms, others: Sequence[Atoms]) -> Asking:
    """Largest deviation of what should be the same."""
    given, *answers = yield [atoms, *others]
    return worst(difference(given, other) for other in answers)


def rotation(potential: Potential, atoms: Atoms) -> Asking:
    """Proper rotations."""
    return _turned(atoms, list(Rotation.random(4, random_state=0).as_matrix()))


def inversion(potential: Potential, atoms: Atoms) -> Asking:
    """Inversion and a mirror: enantiomers have the same energy."""
    mirror = Rotation.random(random_state=1).as_matrix() @ np.diag([1.0, 1.0, -1.0])
    return _turned(atoms, [-np.eye(3), mirror])


def translation(potential: Potential, atoms: Atoms) -> Asking:
    """By a fraction of an Å, by 1000 Å, and by 100 lattice vectors."""
    moves = [np.array([0.3, -0.7, 0.2]), np.array([1000.0, -300.0, 70.0]), 100 * atoms.cell.array.sum(axis=0)]
    others = [atoms.copy() for _ in moves]
    for other, move in zip(others, moves, strict=True):
        other.positions += move
    given, *answers = yield [atoms, *others]
    charge = atoms.info.get(CHARGE, 0.0)
    moved = [dataclasses.replace(given, dipole=given.dipole + charge * move) for move in moves]
    return worst(difference(one, other) for one, other in zip(moved, answers, strict=True))


def permutation(potential: Potential, atoms: Atoms) -> Asking:
    """The order of atoms."""
    order = np.random.default_rng(0).permutation(len(atoms))
    before, after = yield [atoms, atoms[order]]
    return difference(dataclasses.replace(before, forces=before.forces[order], sites=before.sites[order]), after)


def wrapping(potential: Potential, atoms: Atoms) -> Asking:
    """Which image of an atom is written down."""
    if not periodic(atoms):
        return None
    shifts = np.random.default_rng(1).integers(-5, 6, (len(atoms), 3)) * atoms.pbc
    other = atoms.copy()
    other.positions += shifts @ atoms.cell.array
    return (yield from _rewritten(atoms, [other]))


def cell_choice(potential: Potential, atoms: Atoms) -> Asking:
    """Another basis of the same lattice, skewed, and a left-handed one."""
    if not atoms.pbc.all():
        return None
    others = [atoms.copy() for _ in BASES]
    for other, basis in zip(others, BASES, strict=True):
        other.set_cell(np.array(basis) @ atoms.cell.array)
    return (yield from _rewritten(atoms, others))


def batching(potential: Potential, atoms: Atoms) -> Asking:
    """Company in a batch changes nothing."""
    yield []  # the company is chosen here
    company = neutral(atoms.numbers[:1], [[0.0, 0.0, 0.0]])
    larger = repeated(atoms, [2, 1, 1]) if atoms.pbc[0] else atoms.copy()
    graphs = [to_graph(structure, potential.cutoff) for structure in (larger, company, atoms)]
    batch = batch_graphs(graphs)
    last = split(potential(batch), batch)[-1]
    return difference(ask(potential, atoms), answer(last))


def repetition(potential: Potential, atoms: Atoms) -> Asking:
    """Asked twice, the same to the last bit, and the structure is left as it was."""
    yield []  # of others it would be asked once
    positions, cell = atoms.positions.copy(), atoms.cell.array.copy()
    first, second = ask(potential, atoms), ask(potential, atoms)
    same = first.energy == second.energy and np.array_equal(first.forces, second.forces)
    untouched = np.array_equal(positions, atoms.positions) and np.array_equal(cell, atoms.cell.array)
    return 0.0 if same and untouched else 1.0


LAWS = (
    Law("rotation", "E is unchanged; F, σ and what else has directions turn with the structure", 1e-11, rotation),
    Law("inversion", "mirror images have the same energy", 1e-11, inversion),
    # 1000 Å away, positions have three digits less after the point.
    Law("translation", "only relative positions matter; the dipole of an ion moves by its charge", 1e-11, translation),
    Law("permutation", "the order of atoms does not matter", TOLERANCE, permutation),
    Law("wrapping", "any periodic image of an atom is the same atom", TOLERANCE, wrapping),
    Law("cell choice", "any basis of a lattice is the same lattice", TOLERANCE, cell_choice),
    Law("batching", "other structures in a batch change nothing", TOLERANCE, batching),
    Law("repetition", "deterministic, and inputs are left alone", 0.0, repetition),
)
