"""Energy of a stack of layers against their distance: binding, equilibrium distance, and a reference beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.constraints import FixSubsetCom
from ase.optimize.fire import FIRE
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from mlanet.errors import ConfigError
from mlanet.layered.find import Layers

RELAXED, STEPS = 0.01, 300
"""eV/Å, and the largest number of steps, of relaxations at a given distance."""


class Point(NamedTuple):
    """One distance: Å, and energy per atom less that of the layers alone, eV; steps of a relaxation."""

    distance: float
    energy: float
    steps: int = 0


class Well(NamedTuple):
    """Where layers like to be: Å; the energy to separate them, eV per atom and eV/Å² of interface.

    inside: whether the minimum lies within the distances looked at; if not, these are the values at its edge.
    """

    distance: float
    per_atom: float
    per_area: float
    inside: bool


def default_distances(layers: Layers) -> NDArray[np.float64]:
    """Å: dense around the present distance, wider out to 10 Å beyond."""
    d = layers.distance
    return np.concatenate([np.linspace(d - 0.8, d + 2.0, 29), np.linspace(d + 2.0, d + 10.0, 17)[1:]])


def energy_apart(layers: Layers, calculator: Calculator) -> float:
    """eV per atom of the layers, each alone in empty space."""
    total = 0.0
    for index in range(layers.n_layers):
        layer = layers.alone(index)
        layer.calc = calculator
        total += layer.get_potential_energy()
    return total / len(layers.atoms)


def interlayer_curve(
    layers: Layers, calculator: Calculator, distances: Iterable[float], *, relax: bool = False
) -> Iterator[Point]:
    """Energies at the distances, relative to the layers alone as they are.

    Args:
        layers: the stack.
        calculator: of ASE.
        distances: Å, positive.
        relax: let atoms move, with the mid-plane (centre of mass) of each layer and the cell held.
    Raises:
        ConfigError: a distance that is not positive.
    """
    apart = energy_apart(layers, calculator)
    for distance in distances:
        if not distance > 0:
            raise ConfigError(f"interlayer distances must be positive, got {distance} Å")
        atoms, steps = layers.at(float(distance)), 0
        atoms.calc = calculator
        if relax:
            atoms.set_constraint([FixSubsetCom(np.flatnonzero(layers.owner == k)) for k in range(layers.n_layers)])
            optimizer = FIRE(atoms, logfile=None)
            optimizer.run(fmax=RELAXED, steps=STEPS)
            steps = int(optimizer.get_number_of_steps())
        yield Point(float(distance), atoms.get_potential_energy() / len(atoms) - apart, steps)


def well(layers: Layers, points: Iterable[Point]) -> Well:
    """The lowest point of a cubic spline through the curve."""
    ordered = sorted(points)
    distance = np.array([point.distance for point in ordered])
    energy = np.array([point.energy for point in ordered])
    best = int(energy.argmin())
    lowest, depth, inside = distance[best], energy[best], 0 < best < len(ordered) - 1
    if inside and len(ordered) >= 4:
        spline = CubicSpline(distance, energy)
        roots = spline.derivative().roots(extrapolate=False)
        near = roots[(roots >= distance[best - 1]) & (roots <= distance[best + 1])]
        if len(near):
            lowest = near[np.argmin(spline(near))]
            depth = spline(lowest)
    per_area = -float(depth) * len(layers.atoms) / (layers.area * layers.interfaces)
    return Well(float(lowest), -float(depth), per_area, inside)


def energies(frames: Iterable[Atoms], calculator: Calculator) -> NDArray[np.float64]:
    """eV per atom of given structures."""
    result = []
    for frame in frames:
        atoms = frame.copy()
        atoms.calc = calculator
        result.append(atoms.get_potential_energy() / len(atoms))
    return np.array(result)
