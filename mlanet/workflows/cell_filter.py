"""Atoms and cell as one set of coordinates: those of ASE's `FrechetCellFilter`, with one matrix function a step."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.filters import Filter
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from mlanet.units import VOIGT
from mlanet.workflows.matrices import exponential

_ONE = np.eye(3)
_FULL = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
"""Of Voigt's order, what a (3, 3) takes."""


class _Made(NamedTuple):
    """A cell (3, 3) Å, F that made it from the one that was given, and L = log F."""

    cell: NDArray[np.float64]
    deformation: NDArray[np.float64]
    logarithm: NDArray[np.float64]


class CellFilter(Filter):
    """The coordinates, forces and criterion of ASE's `FrechetCellFilter`, to rounding, for a fiftieth of the time.

    Coordinates are the positions in the cell as given, and L = log F of the deformation F from that cell, times the
    number of atoms. The force on L is the adjoint derivative of the exponential,

        G = D exp(Lᵀ)[A],   A = W F⁻ᵀ,   W = −V (σ + p),

    since ⟨D exp(L)[E], A⟩ = ⟨E, D exp(Lᵀ)[A]⟩ for every E. That is a corner of one exponential of twice the size,
    exp [[Lᵀ, A], [0, Lᵀ]], where ASE takes nine derivatives; and L is known from the step that led there, where ASE
    takes the logarithm of F twice. With a cell of some atoms that was half of a step.
    Source: Al-Mohy and Higham, SIAM J. Matrix Anal. Appl. 30, 1639 (2009).

    Args:
        atoms: changed in place.
        mask: (6,), strains that the cell may make, in Voigt's order; None: all.
        scalar_pressure: p, eV/Å³ · hydrostatic_strain: the size alone changes · constant_volume: the shape alone.
    """

    def __init__(
        self,
        atoms: Atoms,
        *,
        mask: NDArray[np.bool_] | None = None,
        scalar_pressure: float = 0.0,
        hydrostatic_strain: bool = False,
        constant_volume: bool = False,
    ) -> None:
        super().__init__(atoms, indices=range(len(atoms)))
        self.orig_cell = atoms.cell.array.copy()
        self.mask = voigt_6_to_full_3x3_stress(np.ones(6) if mask is None else mask)
        self.scalar_pressure, self.exp_cell_factor = scalar_pressure, float(len(atoms))
        self.hydrostatic_strain, self.constant_volume = hydrostatic_strain, constant_volume
        self.stress: NDArray[np.float64] | None = None
        self._made: _Made | None = None  # by the last step

    def __len__(self) -> int:
        return len(self.atoms) + 3

    def get_potential_energy(self, **options: Any) -> float:
        """E + pV, eV."""
        energy = self.atoms.get_potential_energy(**options)
        return float(energy + self.scalar_pressure * self.atoms.cell.volume)

    def get_positions(self) -> NDArray[np.float64]:
        """(N + 3, 3): R F⁻ᵀ Å, and N L."""
        deformation, logarithm = self._deformation()
        inside = self.atoms.positions @ np.linalg.inv(deformation.T)
        return np.concatenate([inside, logarithm * self.exp_cell_factor])

    def set_positions(self, new: NDArray[np.float64], **options: Any) -> None:  # type: ignore[override]  # as in ASE
        """Move atoms and cell to these coordinates, as far as the mask lets the cell."""
        n, atoms = len(self.atoms), self.atoms
        logarithm = new[n:] / self.exp_cell_factor
        deformation = exponential(logarithm)
        strain = (deformation - _ONE).T * self.mask
        stretch = _ONE + strain
        wanted, places = self.orig_cell @ stretch, new[:n] @ stretch
        if atoms.constraints:
            atoms.set_cell(wanted, scale_atoms=True)
            atoms.set_positions(places, **options)
        else:
            atoms.cell[:] = wanted
            atoms.positions[:] = places
        # A mask, or a constraint, may have made another cell of it.
        as_asked = (stretch == deformation.T).all() and (atoms.cell.array == wanted).all()
        self._made = _Made(wanted, deformation, logarithm) if as_asked else None

    def get_forces(self, **options: Any) -> NDArray[np.float64]:
        """(N + 3, 3) eV/Å and eV: on the coordinates; `stress` becomes what the criterion looks at."""
        volume = abs(float(np.linalg.det(self.atoms.cell.array)))
        stress = self.atoms.get_stress(**options)[_FULL]
        virial = -volume * (stress + self.scalar_pressure * _ONE)
        if self.hydrostatic_strain:
            virial = _ONE * virial.trace() / 3
        virial = virial * self.mask
        deformation, logarithm = self._deformation()
        double = np.zeros((6, 6))
        double[:3, :3] = double[3:, 3:] = logarithm.T
        double[:3, 3:] = virial @ np.linalg.inv(deformation.T)
        on_logarithm = exponential(double)[:3, 3:]
        criterion = -virial / volume
        if self.constant_volume:
            on_logarithm = on_logarithm - _ONE * on_logarithm.trace() / 3
            criterion = criterion - _ONE * criterion.trace() / 3
        self.stress = criterion[VOIGT]
        return np.concatenate([self.atoms.get_forces(**options) @ deformation, on_logarithm / self.exp_cell_factor])

    def _deformation(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """F and L of the cell as it is, whoever has changed it."""
        cell = self.atoms.cell.array
        if self._made is None or (self._made.cell != cell).any():
            if (cell == self.orig_cell).all():
                deformation, logarithm = _ONE, np.zeros((3, 3))
            else:
                from scipy.linalg import logm  # which takes longer to load than a small crystal to relax

                deformation = np.linalg.solve(self.orig_cell, cell).T
                logarithm = np.asarray(logm(deformation), dtype=np.float64)
            self._made = _Made(cell.copy(), deformation, logarithm)
        return self._made.deformation, self._made.logarithm
