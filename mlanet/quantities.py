"""What models predict and are trained on, one row each: all that reading, training, scoring and printing ask of it.

A further quantity is a row here, a field of `Labels` and of `Prediction`, a weight in `LossConfig`, a key in
`LabelKeys`, a word in `Name`, and a head that gives it. The tests hold these together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mlanet.units import EV_PER_CUBIC_ANGSTROM_IN_GPA

Name = Literal["energy", "forces", "stress", "dipole", "polarizability", "atomic_energies"]
"""What may be asked of data: the names of all rows."""
Output = Literal["dipole", "polarizability"]
"""What a model may give beside energy, forces and stress."""

DEGREE_READ: dict[Output, int] = {"dipole": 1, "polarizability": 2}
"""Highest degree l of the features that an output is read from."""


@dataclass(frozen=True)
class Quantity:
    """One row.

    - name: of the field, key and column · singular: in "force error" · symbol: in one line of text
    - unit: of labels, predictions and the loss · shape: of one value, of each atom if `per_atom`, else of a structure
    - where: "any" structure has it, one with a "periodic" direction and a volume, or one that is "open" in all three
    - compared: the unit of errors for people, `factor` of them to one `unit`, with so many `digits` in one line;
      `column`: that unit in the name of a column · of_each_atom: compared, and learnt, over the number of atoms
    - reference, results, aliases: names in files, in lower case, in the order of the search: data written on purpose,
      what ASE's readers put into a calculator's results, what other packages write · words: that speak of it in a key
    - same_below: two entries of a file are the same below this, in `unit`
    """

    name: Name
    singular: str
    symbol: str
    unit: str
    shape: tuple[int, ...]
    compared: str
    factor: float
    column: str
    reference: tuple[str, ...]
    aliases: tuple[str, ...]
    words: tuple[str, ...]
    same_below: float
    digits: int = 3
    results: tuple[str, ...] = ()
    per_atom: bool = False
    of_each_atom: bool = False
    where: Literal["any", "periodic", "open"] = "any"
    optional: bool = False
    """Whether only those models give it that are asked to (`outputs`)."""
    of_teachers: bool = False
    """Whether only another potential can label it; data of first principles have none."""

    @property
    def components(self) -> int:
        """Numbers of one value, a symmetric tensor written out in full."""
        return math.prod(self.shape)

    @property
    def symmetric(self) -> bool:
        """Whether it is a symmetric tensor, which files may hold as six numbers, xx yy zz yz xz xy."""
        return self.shape == (3, 3)

    @property
    def label(self) -> str:
        """What stands at an axis of a picture: the name and the unit of the values."""
        return f"{self.name}, {self.drawn}"

    @property
    def drawn(self) -> str:
        """The unit of values in pictures."""
        unit = f"{self.unit}/atom" if self.of_each_atom else self.unit
        return self.compared if self.symmetric else unit

    @property
    def drawn_factor(self) -> float:
        """To one `unit`."""
        return self.factor if self.symmetric else 1.0


ENERGY = Quantity(
    name="energy",
    singular="energy",
    symbol="E",
    unit="eV",
    shape=(),
    compared="meV/atom",
    factor=1e3,
    column="meV_per_atom",
    digits=2,
    reference=("ref_energy",),
    results=("energy", "free_energy"),
    aliases=("y_energy", "dft_energy", "total_energy", "energy"),
    words=("energy",),
    same_below=1e-5,
    of_each_atom=True,
)
FORCES = Quantity(
    name="forces",
    singular="force",
    symbol="F",
    unit="eV/Å",
    shape=(3,),
    compared="meV/Å",
    factor=1e3,
    column="meV_per_A",
    digits=1,
    reference=("ref_forces", "ref_force"),
    results=("forces",),
    aliases=("y_force", "y_forces", "dft_forces", "forces", "force"),
    words=("force",),
    same_below=1e-4,
    per_atom=True,
)
STRESS = Quantity(
    name="stress",
    singular="stress",
    symbol="σ",
    unit="eV/Å³",
    shape=(3, 3),
    compared="GPa",
    factor=EV_PER_CUBIC_ANGSTROM_IN_GPA,
    column="GPa",
    reference=("ref_stress", "ref_virial", "ref_virials"),
    results=("stress",),
    aliases=("dft_stress", "stress", "virial", "virials", "dft_virial", "dft_virials"),
    words=("stress", "virial"),
    same_below=1e-5,
    where="periodic",
)
DIPOLE = Quantity(
    name="dipole",
    singular="dipole",
    symbol="μ",
    unit="e Å",
    shape=(3,),
    compared="me Å",
    factor=1e3,
    column="me_A",
    digits=1,
    reference=("ref_dipole", "ref_dipoles"),
    results=("dipole",),
    aliases=("dft_dipole", "dipole", "dipole_moment", "total_dipole"),
    words=("dipole",),
    same_below=1e-4,
    where="open",
    optional=True,
)
POLARIZABILITY = Quantity(
    name="polarizability",
    singular="polarizability",
    symbol="α",
    unit="Å³",
    shape=(3, 3),
    compared="Å³",
    factor=1.0,
    column="A3",
    reference=("ref_polarizability", "ref_polarisability"),
    aliases=("dft_polarizability", "polarizability", "polarisability", "polarizability_tensor"),
    words=("polarizab", "polarisab"),
    same_below=1e-4,
    optional=True,
)
ATOMIC_ENERGIES = Quantity(
    name="atomic_energies",
    singular="atomic energy",
    symbol="e",
    unit="eV",
    shape=(),
    compared="meV",
    factor=1e3,
    column="meV",
    digits=1,
    reference=("ref_atomic_energies",),
    aliases=("atomic_energies",),
    words=("atomic_energ",),
    same_below=1e-5,
    per_atom=True,
    of_teachers=True,
)

QUANTITIES = (ENERGY, FORCES, STRESS, DIPOLE, POLARIZABILITY, ATOMIC_ENERGIES)
NAMES: tuple[str, ...] = tuple(quantity.name for quantity in QUANTITIES)
BY_NAME: dict[str, Quantity] = {quantity.name: quantity for quantity in QUANTITIES}
ALWAYS: tuple[str, ...] = tuple(
    quantity.name for quantity in QUANTITIES if not (quantity.optional or quantity.of_teachers)
)
"""What every model gives and any data may hold."""
