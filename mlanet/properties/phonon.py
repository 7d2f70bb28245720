"""Phonons by phonopy: bands, density of states, thermal properties, and modes that should not be there."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.units import _Nav, kB, kJ
from numpy.typing import NDArray

from mlanet.errors import ConfigError, GeometryError
from mlanet.files import whole_file
from mlanet.properties.rest import Rest, at_rest, require_crystal

IMAGINARY = -0.1
"""THz; modes below are no rounding."""
NEGATIVE = -0.01
"""THz; frequencies below are worth a word."""
NEAR = 0.25
"""Of a reciprocal vector: nearer to Γ, force constants that are cut off by the supercell show first."""
MESH = 50.0
"""Å; points per reciprocal vector times the length of the lattice vector, about."""
SYMPREC = 0.01
"""Å."""
SIZE = 12.0
"""Å; with 10 Å the flexural branch of LiCoO₂, which starts as q², dips to −0.04 THz beside Γ."""
FINEST = 20
"""Repeats along a lattice vector, at most, of a supercell that is proposed, and"""
LARGEST = 2000
"""its atoms."""
RIGID = 1e-6
"""eV/Å²; the largest force constant of a crystal is a million times as large."""
TEMPERATURES = np.arange(0.0, 1001.0, 10.0)
"""K."""


class Holding(NamedTuple):
    """A supercell that holds a wave vector: in it force constants are folded, and frequencies there are exact.

    - repeats: along each lattice vector of the cell · wave_vector: in reciprocal vectors of the primitive cell
    """

    repeats: tuple[int, int, int]
    wave_vector: tuple[float, float, float]


def _shown(wave_vector: tuple[float, float, float]) -> str:
    """In two digits; none is −0.00."""
    return f"({', '.join(f'{round(component, 2) + 0.0:.2f}' for component in wave_vector)})"


@dataclass(frozen=True)
class Phonons:
    """What phonopy makes of the forces in displaced supercells.

    - phonopy: the object itself, with force constants, bands, density of states · n_atoms: of the cell as given
    - temperatures K, free_energy eV, entropy eV/K, heat_capacity eV/K: per atom, harmonic
    - lowest: THz, negative for an imaginary frequency, on mesh and bands · lowest_at: its wave vector, in reciprocal
      vectors of the primitive cell · imaginary: share of modes on the mesh below −0.1 THz
    """

    phonopy: Any
    n_atoms: int
    temperatures: NDArray[np.float64]
    free_energy: NDArray[np.float64]
    entropy: NDArray[np.float64]
    heat_capacity: NDArray[np.float64]
    lowest: float
    lowest_at: tuple[float, float, float]
    highest: float
    imaginary: float

    @property
    def stable(self) -> bool:
        """No imaginary mode."""
        return self.imaginary == 0

    @property
    def numbers(self) -> dict[str, object]:
        """With units in the names; thermal properties at 300 K."""
        at = int(np.argmin(np.abs(self.temperatures - 300)))
        return {
            "stable": self.stable,
            "lowest_THz": self.lowest,
            "lowest_at": list(self.lowest_at),
            "lowest_interpolated": not self.held,
            "highest_THz": self.highest,
            "imaginary_share": self.imaginary,
            "supercell": np.diag(self.phonopy.supercell_matrix).tolist(),
            "zero_point_meV_per_atom": 1e3 * float(self.free_energy[0]),
            "free_energy_300K_meV_per_atom": 1e3 * float(self.free_energy[at]),
            "entropy_300K_kB_per_atom": float(self.entropy[at]) / kB,
            "heat_capacity_300K_kB_per_atom": float(self.heat_capacity[at]) / kB,
        }

    @property
    def remarks(self) -> list[str]:
        """What a reader of the numbers should know."""
        if self.lowest > NEGATIVE:
            return []
        at = _shown(self.lowest_at)
        said = f"frequencies fall to {self.lowest:.2g} THz at q = {at}"
        if self.imaginary:
            share = f"{said}, and {100 * self.imaginary:.2g} % of the modes are imaginary"
            return [
                f"{share}: moved along such a mode the crystal loses energy. It is not stable as it stands, or the "
                f"model's curvature is wrong there, or the calculation is too coarse. {self._how_to_tell()}"
            ]
        if np.linalg.norm(np.subtract(self.lowest_at, np.round(self.lowest_at))) < NEAR:
            return [f"{said}, close to Γ: a supercell that is too small does that; compare with a larger --size"]
        return [said]

    @property
    def held(self) -> bool:
        """Whether the supercell holds the wave vector of the lowest mode, so that it is not interpolated."""
        turns = self._in_cell(self.lowest_at) * np.diag(self.phonopy.supercell_matrix)
        return bool(np.abs(turns - np.round(turns)).max() < 1e-4)

    @property
    def holding(self) -> Holding | None:
        """The smallest supercell that holds the wave vector of the lowest mode, or one beside it; None: too large."""
        parts = [Fraction(float(turns)).limit_denominator(FINEST) for turns in self._in_cell(self.lowest_at)]
        a, b, c = (part.denominator for part in parts)
        if a * b * c == 1 or a * b * c * self.n_atoms > LARGEST:
            return None
        x, y, z = map(float, np.array(parts, float) @ self.phonopy.primitive_matrix)
        return Holding((a, b, c), (x, y, z))

    def _in_cell(self, wave_vector: tuple[float, float, float]) -> NDArray[np.float64]:
        """In reciprocal vectors of the cell as given."""
        return np.array(wave_vector) @ np.linalg.inv(self.phonopy.primitive_matrix)

    def _how_to_tell(self) -> str:
        """What to try, in words."""
        stays = "a mode that stays with --displacement 0.02 and a tenth of --fmax is the model's or the crystal's"
        if self.held:
            return f"This supercell holds that wave vector, so it is not interpolated; {stays}"
        if (holding := self.holding) is None:
            return f"That wave vector is interpolated: compare with a larger --size; {stays}"
        at = _shown(holding.wave_vector)
        shape, atoms = ",".join(map(str, holding.repeats)), int(np.prod(holding.repeats)) * self.n_atoms
        return (
            f"That wave vector is interpolated: --supercell {shape} ({atoms} atoms) holds q = {at}, so that "
            f"nothing is interpolated; {stays}"
        )

    @property
    def thermal(self) -> dict[str, NDArray[np.float64]]:
        """Columns of a table, units in the names."""
        return {
            "temperature_K": self.temperatures,
            "free_energy_eV_per_atom": self.free_energy,
            "entropy_kB_per_atom": self.entropy / kB,
            "heat_capacity_kB_per_atom": self.heat_capacity / kB,
        }

    def save(self, path: Path) -> None:
        """Cells, displacements, forces and force constants as a YAML that `phonopy-load` reads."""
        with whole_file(path, ".yaml") as partial:
            self.phonopy.save(partial, settings={"force_constants": True})


def phonons(
    atoms: Atoms,
    *,
    size: float = SIZE,
    supercell: tuple[int, int, int] | None = None,
    displacement: float = 0.01,
    relax: bool = True,
    rest: Rest = Rest(fmax=0.001),  # noqa: B008 - frozen
    where: str = "structure",
) -> Phonons:
    """Harmonic phonons by finite displacements.

    Args:
        atoms: a crystal with a calculator; not changed.
        size: Å, least length of the supercell along each lattice vector.
        supercell: repeats along each vector, in place of `size`.
        displacement: Å.
        relax: relax atoms and cell first; without rest, frequencies mean little.
        rest: when it counts as relaxed.
        where: named in errors.
    Raises:
        GeometryError: no crystal, no rest, or no force on displaced atoms, as in a supercell of one.
        ConfigError: phonopy is not installed, or a model whose forces are no gradient.
    """
    Phonopy, PhonopyAtoms = phonopy_classes()
    require_crystal(atoms, "a phonon spectrum", where)
    base = _symmetric(at_rest(atoms, "full", rest, where)) if relax else atoms
    repeats = supercell or tuple(int(np.ceil(size / length - 1e-6)) for length in base.cell.lengths())
    cell = PhonopyAtoms(
        symbols=base.get_chemical_symbols(), cell=base.cell.array, scaled_positions=base.get_scaled_positions()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it found a primitive cell
        phonopy = Phonopy(cell, np.diag(repeats), primitive_matrix="auto", log_level=0)
    phonopy.generate_displacements(distance=displacement)
    phonopy.forces = [_forces(displaced, atoms) for displaced in phonopy.supercells_with_displacements]
    phonopy.produce_force_constants()
    if np.abs(phonopy.force_constants).max() < RIGID:
        raise GeometryError(
            f"{where}: nothing pulls back an atom that is displaced in a supercell of {'×'.join(map(str, repeats))} "
            f"cells ({len(phonopy.supercell)} atoms), so there are no phonons; take a larger --size or --supercell"
        )
    phonopy.symmetrize_force_constants()
    return _analysed(phonopy, len(atoms))


def _symmetric(atoms: Atoms) -> Atoms:
    """Onto the symmetry that it has but for `SYMPREC`, so that a relaxation's last digits do not multiply the work."""
    from ase.spacegroup.symmetrize import refine_symmetry

    refined = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    refine_symmetry(refined, symprec=SYMPREC)
    return refined


def phonopy_classes() -> tuple[Any, Any]:
    """Its classes.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import seekpath  # noqa: F401
        from phonopy import Phonopy
        from phonopy.structure.atoms import PhonopyAtoms
    except ImportError as error:
        raise ConfigError(f"phonons need phonopy and seekpath ({error}): pip install 'mlanet[phonons]'") from None
    return Phonopy, PhonopyAtoms


def _forces(supercell: Any, atoms: Atoms) -> NDArray[np.float64]:
    """(N, 3) eV/Å."""
    displaced = Atoms(supercell.symbols, cell=supercell.cell, scaled_positions=supercell.scaled_positions, pbc=True)
    displaced.calc = atoms.calc
    return displaced.get_forces()


def _analysed(phonopy: Any, n_atoms: int) -> Phonons:
    """Mesh, bands, density of states and thermal properties."""
    phonopy.run_mesh(MESH)
    frequencies, weights = phonopy.mesh.frequencies, phonopy.mesh.weights
    imaginary = float(np.average((frequencies < IMAGINARY).mean(axis=1), weights=weights))
    phonopy.run_total_dos()
    phonopy.auto_band_structure(npoints=51)
    phonopy.run_thermal_properties(temperatures=TEMPERATURES, exclude_gamma_acoustic=True)
    thermal = phonopy.thermal_properties
    lowest, lowest_at = _lowest(phonopy)
    share = len(phonopy.primitive) * _Nav / kJ  # from kJ/mol of a cell to eV of an atom
    return Phonons(
        phonopy=phonopy,
        n_atoms=n_atoms,
        temperatures=TEMPERATURES,
        free_energy=thermal.free_energy / share,
        entropy=thermal.entropy / 1e3 / share,
        heat_capacity=thermal.heat_capacity / 1e3 / share,
        lowest=lowest,
        lowest_at=lowest_at,
        highest=float(frequencies.max()),
        imaginary=imaginary,
    )


def _lowest(phonopy: Any) -> tuple[float, tuple[float, float, float]]:
    """THz and wave vector of the lowest mode, on the mesh and along the bands."""
    bands = phonopy.band_structure
    frequencies = np.concatenate([phonopy.mesh.frequencies, *bands.frequencies]).min(axis=1)
    wave_vectors = np.concatenate([phonopy.mesh.qpoints, *bands.qpoints])
    at = int(np.argmin(frequencies))
    a, b, c = map(float, wave_vectors[at])
    return float(frequencies[at]), (a, b, c)
