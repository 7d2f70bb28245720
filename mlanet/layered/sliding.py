"""Energy of layers slid over each other: the map over all stackings (generalised stacking-fault energy)."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from scipy.optimize import minimize_scalar

from mlanet.layered.find import Layers

SEARCH = 0.6
"""Å on either side, when every stacking finds its own distance."""


class Stacking(NamedTuple):
    """A shift as fractions of the two lattice vectors, its distance (Å), and energy in eV per atom."""

    first: float
    second: float
    distance: float
    energy: float


def slid(layers: Layers, first: float, second: float, distance: float) -> Atoms:
    """Every second layer shifted by fractions of the lattice vectors; a bulk with one layer per cell shears."""
    atoms = layers.at(distance)
    shift = first * atoms.cell[0] + second * atoms.cell[1]
    if layers.n_layers == 1:
        atoms.set_cell([atoms.cell[0], atoms.cell[1], atoms.cell[2] + shift])
    else:
        atoms.positions[layers.owner % 2 == 1] += shift
    return atoms


def sliding_map(
    layers: Layers, calculator: Calculator, points: int, *, distance: float | None = None, relax: bool = False
) -> Iterator[Stacking]:
    """Energies on a grid of points × points shifts, the first lattice vector slowest.

    Args:
        layers: the stack.
        calculator: of ASE.
        points: per lattice vector.
        distance: Å; the present one if None.
        relax: every stacking finds the distance of lowest energy, layers rigid.
    """
    held = layers.distance if distance is None else distance

    def energy(first: float, second: float, at: float) -> float:
        atoms = slid(layers, first, second, at)
        atoms.calc = calculator
        return float(atoms.get_potential_energy()) / len(atoms)

    for first in np.arange(points) / points:
        for second in np.arange(points) / points:
            at = held
            if relax:
                at = minimize_scalar(
                    functools.partial(energy, first, second),
                    bounds=(held - SEARCH, held + SEARCH),
                    method="bounded",
                    options={"xatol": 1e-3},
                ).x
            yield Stacking(float(first), float(second), float(at), energy(first, second, at))
