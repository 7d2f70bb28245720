"""The shape of the energy: zero modes, jumps of the force and its slope, stretched bonds, digits of float32."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import molecule
from systems import SYSTEMS, ethanol

from mlanet.laws.law import ask, ask_all
from mlanet.laws.smoothness import WINDOW
from mlanet.potential import Potential
from reliability.check import Outcome, within
from reliability.laws import DOUBLE, SINGLE, potentials


def conservative(dtype: str = DOUBLE) -> list[Potential]:
    """Presets whose forces are the gradient of a smooth energy."""
    return [one for one in potentials(dtype) if not getattr(one.model.config, "broken_laws", ())]


def zero_modes() -> Outcome:
    """Largest |Σ_j H_ij| of a molecule (translations), eV/Å²: central differences of forces over all atoms moved."""
    worst, h = 0.0, 1e-3
    for potential in conservative():
        moved = []
        for axis in range(3):
            for sign in (-1, 1):
                moved.append(ethanol())
                moved[-1].positions[:, axis] += sign * h
        forces = [one.forces for one in ask_all(potential, moved)]
        worst = max(worst, *(float(np.abs(forces[2 * a + 1] - forces[2 * a]).max()) / (2 * h) for a in range(3)))
    return within({"": 1e-5}, {"": worst})


def at_the_cutoff() -> Outcome:
    """Jumps of E, of F and of dF/dr of a dimer across the cutoff; F may be of order (WINDOW/r_c)² at its inner side."""
    energy = force = slope = 0.0
    for potential in conservative():
        # Charges and dispersion reach beyond the cutoff by design.
        if getattr(potential.model.config, "long_range", "none") != "none":
            continue
        places = potential.cutoff + WINDOW * np.array([-3.0, -1.0, 1.0, 3.0])
        dimers = [Atoms("CO", [[0, 0, 0], [place, 0, 0]]) for place in places]
        answers = ask_all(potential, dimers)
        pulls = np.array([one.forces[1, 0] for one in answers])
        energy = max(energy, abs(answers[2].energy - answers[1].energy))
        force = max(force, abs(pulls[2] - pulls[1]))
        slope = max(slope, abs((pulls[1] - pulls[0]) - (pulls[3] - pulls[2])) / (2 * WINDOW))
    limits = {"E, eV": 1e-13, "F, eV/Å": 1e-9, "dF/dr, eV/Å²": 1e-3}
    return within(limits, {"E, eV": energy, "F, eV/Å": force, "dF/dr, eV/Å²": slope})


def stretched_bond() -> Outcome:
    """A bond of ethanol from 0.8 to 2 times its length: largest step of the energy that its forces do not explain."""
    given = molecule("CH3CH2OH")
    axis = given.positions[1] - given.positions[0]
    moving = [index for index in range(len(given)) if (given.positions[index] - given.positions[0]) @ axis > 0]
    stretch = np.linspace(-0.2, 1.0, 401)
    worst = 0.0
    for potential in conservative():
        structures = []
        for part in stretch:
            structures.append(given.copy())
            structures[-1].positions[moving] += part * axis
        answers = ask_all(potential, structures)
        energies = np.array([one.energy for one in answers])
        pull = -np.array([(one.forces[moving] @ axis).sum() for one in answers])
        h = stretch[1] - stretch[0]
        # Simpson's rule over two steps errs by h⁵/90 of the fifth derivative; the median step measures that.
        work = h / 3 * (pull[:-2] + 4 * pull[1:-1] + pull[2:])
        steps = np.abs(energies[2:] - energies[:-2] - work)
        worst = max(worst, float(steps.max()))
    return within({"eV": 1e-6}, {"eV": worst})


def single_precision() -> Outcome:
    """Largest differences of float32 from float64 on structures of every periodicity."""
    energy = force = 0.0
    for single, double in zip(potentials(SINGLE), potentials(DOUBLE), strict=True):
        for atoms in SYSTEMS.values():
            a, b = ask(single, atoms), ask(double, atoms)
            energy = max(energy, 1e3 * abs(a.energy - b.energy) / len(atoms))
            force = max(force, 1e3 * float(np.abs(a.forces - b.forces).max()))
    limits = {"meV/atom": 0.1, "meV/Å": 1.0}
    return within(limits, {"meV/atom": energy, "meV/Å": force})
