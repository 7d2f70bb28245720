"""Equation of state: energy against volume, and what compresses a crystal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from mlanet.errors import GeometryError
from mlanet.properties.rest import Rest, all_at_rest, all_computed, at_rest, require_crystal
from mlanet.units import EV_PER_CUBIC_ANGSTROM_IN_GPA

ROUNDING = 1e-6
"""eV per atom; energies in float32 that differ by less are alike."""


@dataclass(frozen=True)
class EquationOfState:
    """E(V) of Birch and Murnaghan, third order, through computed points.

    - volumes Å³ and energies eV (P,), of the cell as given · n_atoms
    - volume V₀ Å³, energy E₀ eV, bulk_modulus B₀ GPa, derivative B₀′ · misfit: root mean square, eV/atom
    """

    volumes: NDArray[np.float64]
    energies: NDArray[np.float64]
    n_atoms: int
    volume: float
    energy: float
    bulk_modulus: float
    derivative: float
    misfit: float

    def at(self, volumes: NDArray[np.float64]) -> NDArray[np.float64]:
        """The fitted energies, eV, at volumes, Å³: with η = (V₀/V)^(2/3),

        E = E₀ + (9/16) V₀ B₀ (η − 1)² [(η − 1) B₀′ + 6 − 4η].
        """
        stiffness = self.bulk_modulus / EV_PER_CUBIC_ANGSTROM_IN_GPA
        eta = (self.volume / np.asarray(volumes)) ** (2 / 3)
        shape = (eta - 1) ** 2 * ((eta - 1) * self.derivative + 6 - 4 * eta)
        found: NDArray[np.float64] = self.energy + 9 / 16 * self.volume * stiffness * shape
        return found

    @property
    def numbers(self) -> dict[str, float]:
        """Per atom, with units in the names."""
        return {
            "volume_A3_per_atom": self.volume / self.n_atoms,
            "energy_eV_per_atom": self.energy / self.n_atoms,
            "bulk_modulus_GPa": self.bulk_modulus,
            "bulk_modulus_derivative": self.derivative,
            "misfit_meV_per_atom": 1e3 * self.misfit,
        }


def equation_of_state(
    atoms: Atoms,
    *,
    span: float = 0.06,
    points: int = 9,
    relax: bool = True,
    rest: Rest = Rest(),  # noqa: B008 - frozen
    where: str = "structure",
) -> EquationOfState:
    """Energies at volumes around the minimum, and the fit of Birch and Murnaghan (third order).

    Args:
        atoms: a crystal with a calculator; not changed.
        span: largest relative change of the volume, both ways.
        points: volumes.
        relax: relax the crystal first, and atoms and shape of the cell at each volume; else the structure is scaled.
        rest: when it counts as relaxed.
        where: named in errors.
    Raises:
        GeometryError: no crystal, no rest, or no minimum among the volumes.
        ConfigError: a model whose forces are no gradient.
    """
    if not 0 < span < 0.5 or points < 5:
        raise ValueError(f"span must lie between 0 and 0.5 and points be at least 5, got {span} and {points}")
    require_crystal(atoms, "an equation of state", where, solid=True)
    base = at_rest(atoms, "full", rest, where) if relax else atoms
    copies, places = [], []
    for factor in np.linspace(1 - span, 1 + span, points):
        scaled = base.copy()
        scaled.calc = atoms.calc
        scaled.set_cell(base.cell * factor ** (1 / 3), scale_atoms=True)
        copies.append(scaled)
        places.append(f"{where}, at {factor:.3f} of its volume")
    copies = all_at_rest(copies, "shape", rest, places) if relax else all_computed(copies)
    volumes, energies = np.array([(copy.cell.volume, copy.get_potential_energy()) for copy in copies]).T
    return fitted(volumes, energies, len(atoms), where)


def fitted(
    volumes: NDArray[np.float64], energies: NDArray[np.float64], n_atoms: int, where: str = "structure"
) -> EquationOfState:
    """The fit through given points, Å³ and eV of one cell.

    The equation is a cubic polynomial in x = V^(−2/3), so that least squares have one solution. At its minimum V₀,
    B₀ = V₀ E″ and B₀′ = −1 − V₀ E‴/E″, derivatives by V.
    Source: Alchagirov, Perdew, Boettger, Albers and Fiolhais, Phys. Rev. B 63, 224115 (2001).

    Raises:
        GeometryError: no minimum among them.
    """
    if (differ := float(np.ptp(energies)) / n_atoms) < ROUNDING:
        raise GeometryError(
            f"{where}: the energies at all volumes differ by {differ:.1g} eV/atom, no more than rounding: nothing "
            "resists a change of the volume (a molecule in a box?), so there is no minimum to fit"
        )
    least = int(np.argmin(energies))
    if least in (0, len(energies) - 1):
        side = "smallest" if least == 0 else "largest"
        raise GeometryError(
            f"{where}: the energy is lowest at the {side} volume, so there is no minimum to fit; "
            "relax the crystal first or take a wider span"
        )
    shift = float(energies.min())
    cubic = Polynomial.fit(volumes ** (-2 / 3), energies - shift, 3)
    slope, curvature, third = (cubic.deriv(order) for order in (1, 2, 3))
    places = slope.roots()
    found = [float(x) for x in places[np.isreal(places)].real if x > 0 and curvature(x) > 0]
    found = [x for x in found if volumes.min() < x**-1.5 < volumes.max()]
    if not found:
        raise GeometryError(f"{where}: no equation of Birch and Murnaghan fits these energies")
    x = found[0]
    volume = x**-1.5
    by_volume, second = -2 * x / (3 * volume), 10 * x / (9 * volume**2)  # of x: its derivatives by V
    two = curvature(x) * by_volume**2
    three = third(x) * by_volume**3 + 3 * curvature(x) * by_volume * second
    misfit = float(np.sqrt(np.mean((cubic(volumes ** (-2 / 3)) + shift - energies) ** 2))) / n_atoms
    return EquationOfState(
        volumes,
        energies,
        n_atoms,
        volume=volume,
        energy=float(cubic(x)) + shift,
        bulk_modulus=float(volume * two) * EV_PER_CUBIC_ANGSTROM_IN_GPA,
        derivative=float(-1 - volume * three / two),
        misfit=misfit,
    )
