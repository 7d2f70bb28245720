"""Small structures with every kind of periodicity, for laws and models: H, C and O only, so one model serves all."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import molecule

SPECIES = (1, 6, 8)


def ethanol() -> Atoms:
    """A molecule without symmetry, far from the origin."""
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    atoms.positions += [7.0, -3.0, 11.0]
    return atoms


def triclinic() -> Atoms:
    """A skewed crystal, smaller than the cutoff in all directions, so that atoms see their own images."""
    cell = [[3.6, 0.0, 0.0], [0.9, 3.4, 0.0], [-0.6, 0.5, 3.8]]
    fractional = np.array([[0.02, 0.05, 0.0], [0.5, 0.45, 0.08], [0.48, 0.1, 0.55], [0.1, 0.55, 0.5]])
    return Atoms("COHC", scaled_positions=fractional, cell=cell, pbc=True)


def slab() -> Atoms:
    """A buckled bilayer, periodic in two directions, with vacuum."""
    lattice = [[2.46, 0.0, 0.0], [-1.23, 2.13, 0.0], [0.0, 0.0, 24.0]]
    positions = [[0.0, 0.0, 10.0], [1.23, 0.71, 10.2], [0.1, 0.0, 13.1], [1.2, 0.8, 13.4]]
    return Atoms("CCCO", positions, cell=lattice, pbc=[True, True, False])


def wire() -> Atoms:
    """A zigzag chain, periodic in one direction."""
    positions = [[0.0, 8.0, 8.0], [1.3, 8.5, 8.1], [2.3, 7.4, 8.6]]
    return Atoms("COH", positions, cell=[3.4, 20.0, 20.0], pbc=[True, False, False])


def lone() -> Atoms:
    """One atom, no edge."""
    return Atoms("O", [[1.0, 2.0, 3.0]])


def apart() -> Atoms:
    """Two atoms beyond any cutoff, no edge."""
    return Atoms("CO", [[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])


SYSTEMS = {make.__name__: make() for make in (ethanol, triclinic, slab, wire, lone, apart)}
