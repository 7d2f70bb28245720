"""What labels may mean: units, signs and orders that files come in, and the words for them."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from mlanet.data.finite_work import Array
from mlanet.units import (
    BOHR_IN_ANGSTROM,
    EV_PER_CUBIC_ANGSTROM_IN_GPA,
    EV_PER_CUBIC_ANGSTROM_IN_KBAR,
    HARTREE_IN_EV,
    KCAL_PER_MOL_IN_EV,
)

UNLIKELY = 4.0
"""Nats against every departure from eV, eV/Å, eV/Å³ and ASE's sign and order."""
ORDER_ODD = 3.0
"""How many departures an order of the stress weighs: components of a crystal are often alike by symmetry."""
KJ_PER_MOL_IN_EV = KCAL_PER_MOL_IN_EV / 4.184
RYDBERG_IN_EV = HARTREE_IN_EV / 2


class Unit(NamedTuple):
    """A unit: its name, its size in ours, the system it belongs to, and how rare it is (nats)."""

    name: str
    size: float
    system: str
    rare: float = 0.0


ENERGY_UNITS = (
    Unit("eV", 1.0, "eV"),
    Unit("hartree", HARTREE_IN_EV, "hartree"),
    Unit("Ry", RYDBERG_IN_EV, "Ry", 0.5),
    Unit("kcal/mol", KCAL_PER_MOL_IN_EV, "kcal"),
    Unit("kJ/mol", KJ_PER_MOL_IN_EV, "kJ", 0.5),
)
FORCE_UNITS = (
    Unit("eV/Å", 1.0, "eV"),
    Unit("hartree/bohr", HARTREE_IN_EV / BOHR_IN_ANGSTROM, "hartree"),
    Unit("hartree/Å", HARTREE_IN_EV, "hartree", 1.0),
    Unit("Ry/bohr", RYDBERG_IN_EV / BOHR_IN_ANGSTROM, "Ry", 0.5),
    Unit("eV/bohr", 1 / BOHR_IN_ANGSTROM, "eV", 3.0),
    Unit("kcal/mol/Å", KCAL_PER_MOL_IN_EV, "kcal"),
    Unit("kJ/mol/Å", KJ_PER_MOL_IN_EV, "kJ", 0.5),
    Unit("kJ/mol/nm", KJ_PER_MOL_IN_EV / 10, "kJ", 0.5),
)
STRESS_UNITS = (
    Unit("eV/Å³", 1.0, "eV"),
    Unit("GPa", 1 / EV_PER_CUBIC_ANGSTROM_IN_GPA, "GPa"),
    Unit("kbar", 1 / EV_PER_CUBIC_ANGSTROM_IN_KBAR, "GPa"),
    Unit("MPa", 1e-3 / EV_PER_CUBIC_ANGSTROM_IN_GPA, "GPa", 1.0),
    Unit("hartree/bohr³", HARTREE_IN_EV / BOHR_IN_ANGSTROM**3, "hartree", 1.0),
    Unit("Ry/bohr³", RYDBERG_IN_EV / BOHR_IN_ANGSTROM**3, "Ry", 1.0),
)
_PLACES = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
ORDERS = {
    "xx yy zz yz xz xy (ASE)": (0, 1, 2, 3, 4, 5),
    "xx yy zz xy yz zx (VASP)": (0, 1, 2, 4, 5, 3),
    "xx yy zz xy xz yz (LAMMPS)": (0, 1, 2, 5, 4, 3),
    "xx xy xz yy yz zz": (0, 3, 5, 4, 2, 1),
}
"""For each order of six numbers, where our xx yy zz yz xz xy stand in it."""


class Reading(NamedTuple):
    """One way to read energies and forces: true value = sign × size × label."""

    energy: Unit
    force: Unit
    energy_sign: int = 1
    force_sign: int = 1
    per_atom: bool = False

    @property
    def factor(self) -> float:
        """Force over energy: ΔE of the labels is this times the work of the labels (over N for energies per atom)."""
        return self.energy_sign * self.force_sign * self.force.size / self.energy.size

    @property
    def cost(self) -> float:
        """Nats against this reading before any data are seen."""
        departures = self.energy.system != "eV" or self.per_atom
        odd = float(self.energy.system != "eV") + float(self.energy_sign < 0) * 1.5
        odd += float(self.force_sign < 0) + float(self.per_atom)
        if self.force.size != 1.0:
            same = self.energy.system == self.force.system and departures
            odd += 0.25 if same else 1.0
        return UNLIKELY * odd + self.energy.rare + self.force.rare

    @property
    def departures(self) -> int:
        """In how many ways this reading differs from ours."""
        odd = (
            self.energy.size != 1.0,
            self.force.size != 1.0,
            self.energy_sign < 0,
            self.force_sign < 0,
            self.per_atom,
        )
        return sum(odd)

    def faults(self) -> list[str]:
        """What is wrong with the labels if this reading is right."""
        energy = [f"in {self.energy.name}"] if self.energy.size != 1.0 else []
        energy += ["per atom"] if self.per_atom else []
        energy += ["of opposite sign"] if self.energy_sign < 0 else []
        if self.force_sign < 0 and self.force.size == 1.0:
            force = ["the forces have the opposite sign (they look like the gradient)"]
        elif self.force.size != 1.0:
            turned = ", with the opposite sign" if self.force_sign < 0 else ""
            force = [f"the forces seem to be in {self.force.name}{turned}"]
        else:
            force = []
        return [f"the energies seem to be {' and '.join(energy)}"] * bool(energy) + force


class StressReading(NamedTuple):
    """One way to read the stress."""

    unit: Unit
    sign: int = 1
    order: str = "xx yy zz yz xz xy (ASE)"

    @property
    def cost(self) -> float:
        """Nats against this reading before any data are seen; VASP's kbar come with the opposite sign."""
        odd = float(self.unit.size != 1.0) + float(self.sign < 0) * (0.25 if self.unit.name == "kbar" else 1.0)
        order = 0.0 if self.order.endswith("(ASE)") else ORDER_ODD
        if "VASP" in self.order and self.unit.name == "kbar":
            order = 0.25 * ORDER_ODD
        return UNLIKELY * (odd + order) + self.unit.rare

    @property
    def departures(self) -> int:
        """In how many ways this reading differs from ours."""
        return (self.unit.size != 1.0) + (self.sign < 0) + (not self.order.endswith("(ASE)"))

    def faults(self) -> list[str]:
        """What is wrong with the labels if this reading is right."""
        faults = []
        if self.unit.size != 1.0:
            turned = (
                " with the opposite sign (as VASP prints it)" if self.unit.name == "kbar" else " with the opposite sign"
            )
            faults.append(f"the stress seems to be in {self.unit.name}{turned if self.sign < 0 else ''}")
        elif self.sign < 0:
            faults.append("the stress has the opposite sign (tension must be positive)")
        if not self.order.endswith("(ASE)"):
            faults.append(f"the stress seems to stand in another order, {self.order}, not in ASE's xx yy zz yz xz xy")
        return faults


READINGS = tuple(
    Reading(*choice) for choice in itertools.product(ENERGY_UNITS, FORCE_UNITS, (1, -1), (1, -1), (False, True))
)
STRESS_READINGS = tuple(StressReading(*choice) for choice in itertools.product(STRESS_UNITS, (1, -1), ORDERS))


def reordered(tensors: Array, order: str) -> Array:
    """(..., 3, 3) stress that was taken as ASE's order, as it reads in another."""
    six = np.stack([tensors[..., a, b] for a, b in _PLACES], axis=-1)[..., list(ORDERS[order])]
    out = np.empty_like(tensors)
    for place, (a, b) in enumerate(_PLACES):
        out[..., a, b] = out[..., b, a] = six[..., place]
    return out
