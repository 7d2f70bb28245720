"""Atoms and cell as one set of coordinates: ASE's `FrechetCellFilter`, with its matrix functions taken once a step."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase.filters import FrechetCellFilter
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from numpy.typing import NDArray
from scipy.linalg import expm, logm


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

    _known: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    """The cell that the last step has made, and L of it."""

    def get_positions(self) -> NDArray[np.float64]:
        """(N + 3, 3): R F⁻ᵀ Å, and N L."""
        deformation = self.deform_grad()
        inside = np.linalg.solve(deformation, self.atoms.positions.T).T
        return np.concatenate([inside, self._logarithm() * self.exp_cell_factor])

    def set_positions(self, new: NDArray[np.float64], **options: Any) -> None:  # type: ignore[override]  # as in ASE
        """Move atoms and cell to these coordinates, as far as the mask lets the cell."""
        n = len(self.atoms)
        logarithm = new[n:] / self.exp_cell_factor
        free = expm(logarithm) - np.eye(3)
        strain = free.T * self.mask
        wanted = self.orig_cell @ (np.eye(3) + strain)
        self.atoms.set_cell(wanted, scale_atoms=True)
        self.atoms.set_positions(new[:n] @ (np.eye(3) + strain), **options)
        made = self.atoms.cell.array.copy()  # a constraint may have changed it
        as_asked = np.array_equal(strain, free.T) and np.array_equal(made, wanted)
        self._known = (made, logarithm) if as_asked else None

    def get_forces(self, **options: Any) -> NDArray[np.float64]:
        """(N + 3, 3) eV/Å and eV: on the coordinates; `stress` becomes what the criterion looks at."""
        volume = self.atoms.cell.volume
        stress = voigt_6_to_full_3x3_stress(self.atoms.get_stress(**options))
        virial = -volume * (stress + self.scalar_pressure * np.eye(3))
        if self.hydrostatic_strain:
            virial = np.eye(3) * virial.trace() / 3
        virial = virial * self.mask
        deformation, transposed = self.deform_grad(), self._logarithm().T
        double = np.zeros((6, 6))
        double[:3, :3] = double[3:, 3:] = transposed
        double[:3, 3:] = virial @ np.linalg.inv(deformation.T)
        on_logarithm = expm(double)[:3, 3:]
        criterion = -virial / volume
        if self.constant_volume:
            on_logarithm = on_logarithm - np.eye(3) * on_logarithm.trace() / 3
            criterion = criterion - np.eye(3) * criterion.trace() / 3
        self.stress = full_3x3_to_voigt_6_stress(criterion)
        return np.concatenate([self.atoms.get_forces(**options) @ deformation, on_logarithm / self.exp_cell_factor])

    def _logarithm(self) -> NDArray[np.float64]:
        """L of the cell as it is, whoever has changed it."""
        cell = self.atoms.cell.array
        if self._known is None or not np.array_equal(self._known[0], cell):
            found = np.asarray(logm(self.deform_grad()), dtype=np.float64)
            self._known = cell.copy(), found
        return self._known[1]
