"""Atoms and cell as one set of coordinates: ASE's `FrechetCellFilter`, with its matrix functions taken once a step."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from ase.filters import FrechetCellFilter
from numpy.typing import NDArray
from scipy.linalg import expm, logm

from mlanet.units import VOIGT

_ONE = np.eye(3)
_FULL = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
"""Of Voigt's order, what a (3, 3) takes."""


class _Made(NamedTuple):
    """A cell (3, 3) Å, F that made it from the one that was given, and L = log F."""

    cell: NDArray[np.float64]
    deformation: NDArray[np.float64]
    logarithm: NDArray[np.float64]


class CellFilter(FrechetCellFilter):
    """The coordinates, forces and criterion of ASE's filter, to rounding, for a fiftieth of the time.

    Coordinates are the positions in the cell as given, and L = log F of the deformation F from that cell, times the
    number of atoms. The force on L is the adjoint derivative of the exponential,

        G = D exp(Lᵀ)[A],   A = W F⁻ᵀ,   W = −V (σ + p),

    since ⟨D exp(L)[E], A⟩ = ⟨E, D exp(Lᵀ)[A]⟩ for every E. That is a corner of one exponential of twice the size,
    exp [[Lᵀ, A], [0, Lᵀ]], where ASE takes nine derivatives; and L is known from the step that led there, where ASE
    takes the logarithm of F twice. With a cell of some atoms that was half of a step.
    Source: Al-Mohy and Higham, SIAM J. Matrix Anal. Appl. 30, 1639 (2009).
    """

    _made: _Made | None = None
    """The last step."""

    def get_positions(self) -> NDArray[np.float64]:
        """(N + 3, 3): R F⁻ᵀ Å, and N L."""
        deformation, logarithm = self._deformation()
        inside = self.atoms.positions @ np.linalg.inv(deformation.T)
        return np.concatenate([inside, logarithm * self.exp_cell_factor])

    def set_positions(self, new: NDArray[np.float64], **options: Any) -> None:  # type: ignore[override]  # as in ASE
        """Move atoms and cell to these coordinates, as far as the mask lets the cell."""
        n, atoms = len(self.atoms), self.atoms
        logarithm = new[n:] / self.exp_cell_factor
        deformation = expm(logarithm)
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
        on_logarithm = expm(double)[:3, 3:]
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
            deformation = np.asarray(self.deform_grad(), dtype=np.float64)
            logarithm = np.asarray(logm(deformation), dtype=np.float64)
            self._made = _Made(cell.copy(), deformation, logarithm)
        return self._made.deformation, self._made.logarithm
