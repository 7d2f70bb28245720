"""Curves of two atoms: whether energy and force are one smooth well, in the measures of MLIP Arena.

Y. Chiang et al., "MLIP Arena", 2025: a curve should fall, turn once and rise, and its force be its slope.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers, chemical_symbols, covalent_radii
from numpy.typing import NDArray

from mlanet.errors import ConfigError
from mlanet.laws.law import ask_all, neutral
from mlanet.potential import Potential

Array = NDArray[np.float64]
STEP = 0.01
"""Å between points."""
NEAREST = 0.45
"""Of the sum of the covalent radii: the first distance, 0.9 of the radius for two equal atoms."""
STILL = 1e-4
"""eV and eV/Å below which a change or a force counts as none: rounding turns no curve."""


@dataclass(frozen=True)
class Curve:
    """Two atoms at growing distances.

    - pair: such as Li-O · r (P,) Å, evenly spaced · energy (P,) eV less that of the farthest
    - force (P,) eV/Å along the bond, positive where the atoms repel
    """

    pair: str
    r: Array
    energy: Array
    force: Array

    @property
    def flips(self) -> int:
        """How often the force changes its sign; 1 for a well."""
        signs = np.sign(self.force[np.abs(self.force) > STILL])
        return int((signs[1:] != signs[:-1]).sum())

    @property
    def jump(self) -> float:
        """eV: Σ (|ΔE_i| + |ΔE_{i+1}|) over the points at which the energy turns, but for its lowest; 0 for a well."""
        change = np.diff(self.energy)
        change = np.where(np.abs(change) > STILL * STEP, change, 0.0)
        turns = np.sign(change[1:]) * np.sign(change[:-1]) < 0
        turns[max(0, int(self.energy.argmin()) - 1)] = False
        return float((np.abs(change[1:]) + np.abs(change[:-1]))[turns].sum())

    @property
    def tortuosity(self) -> float:
        """Σ |ΔE| over the way down to the minimum and up again; 1 for a well."""
        least = self.energy.min()
        direct = float(self.energy[0] + self.energy[-1] - 2 * least)
        return float(np.abs(np.diff(self.energy)).sum()) / direct if direct > 0 else float("nan")

    @property
    def deviation(self) -> float:
        """eV/Å: mean |F + dE/dr|, by differences of fourth order, where the force is below 100 eV/Å."""
        e, h = self.energy, self.r[1] - self.r[0]
        slope = (e[:-4] - 8 * e[1:-3] + 8 * e[3:-1] - e[4:]) / (12 * h)
        mild = np.abs(self.force[2:-2]) < 100
        return float(np.abs(self.force[2:-2] + slope)[mild].mean()) if mild.any() else float("nan")

    @property
    def numbers(self) -> dict[str, object]:
        """With units in the names."""
        k = int(self.energy.argmin())
        return {
            "pair": self.pair,
            "force_flips": self.flips,
            "energy_jump_eV": self.jump,
            "tortuosity": self.tortuosity,
            "conservation_deviation_eV_per_A": self.deviation,
            "distance_A": float(self.r[k]),
            "depth_eV": -float(self.energy[k]),
        }


def diatomic(potential: Potential, first: int, second: int) -> Curve:
    """The curve of two elements (atomic numbers), from overlapping cores to where the model sees no bond.

    Args:
        potential: any; float64 for smooth differences.
        first, second: elements that it knows.
    """
    start = NEAREST * float(covalent_radii[first] + covalent_radii[second])
    r = np.arange(start, max(potential.cutoff, start + 1.0) + 2 * STEP, STEP)
    answers = ask_all(potential, [neutral([first, second], np.array([[0, 0, 0], [x, 0, 0]])) for x in r])
    energy = np.array([prediction.energy for prediction in answers])
    force = np.array([0.5 * (prediction.forces[1, 0] - prediction.forces[0, 0]) for prediction in answers])
    return Curve(f"{chemical_symbols[first]}-{chemical_symbols[second]}", r, energy - energy[-1], force)


def pairs_of(text: str, species: tuple[int, ...]) -> list[tuple[int, int]]:
    """What names pairs: Li-O,Si-Si; an element stands for two of it, `all` for every element of the model with itself.

    Raises:
        ConfigError: no elements, or such as the model does not know.
    """
    if text == "all":
        return [(z, z) for z in species]
    pairs = []
    for word in text.split(","):
        names = [name.strip() for name in word.split("-")]
        numbers = [atomic_numbers.get(name, 0) for name in (names * 2 if len(names) == 1 else names)]
        if len(numbers) != 2 or 0 in numbers:
            raise ConfigError(f"pairs: '{word}' names no pair of elements; write Li-O,Si or all")
        if missing := [number for number in numbers if number not in species]:
            raise ConfigError(
                f"pairs: the model was not trained on {chemical_symbols[missing[0]]}; mlanet info lists more"
            )
        pairs.append((numbers[0], numbers[1]))
    return pairs
