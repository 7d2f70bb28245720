"""Elastic constants from stresses of strained crystals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlanet.errors import GeometryError
from mlanet.properties.rest import Rest, all_at_rest, all_computed, at_rest, require_crystal
from mlanet.units import EV_PER_CUBIC_ANGSTROM_IN_GPA, VOIGT

LOOSE = 0.05
"""GPa; below the largest constant of any solid at zero pressure but helium, above a float32's rounding."""


@dataclass(frozen=True)
class Elasticity:
    """C_ij in GPa, Voigt order xx, yy, zz, yz, xz, xy, and what follows from it.

    - tensor (6, 6) · bulk_modulus, shear_modulus, youngs_modulus: GPa, of a polycrystal (Voigt, Reuss, Hill)
    - poisson_ratio · anisotropy: universal index, 0 for an isotropic crystal
    - softest: smallest eigenvalue of the tensor, GPa; stable: whether it is positive
    """

    tensor: NDArray[np.float64]
    bulk_modulus: float
    shear_modulus: float
    youngs_modulus: float
    poisson_ratio: float
    anisotropy: float
    softest: float

    @property
    def stable(self) -> bool:
        """No small strain lowers the energy."""
        return self.softest > 0

    @property
    def numbers(self) -> dict[str, object]:
        """With units in the names."""
        return {
            "bulk_modulus_GPa": self.bulk_modulus,
            "shear_modulus_GPa": self.shear_modulus,
            "youngs_modulus_GPa": self.youngs_modulus,
            "poisson_ratio": self.poisson_ratio,
            "anisotropy": self.anisotropy,
            "softest_GPa": self.softest,
            "stable": self.stable,
            "tensor_GPa": np.round(self.tensor, 4).tolist(),
        }


def elasticity(
    atoms: Atoms,
    *,
    strain: float = 0.005,
    relax: bool = True,
    rest: Rest = Rest(fmax=0.005),  # noqa: B008 - frozen
    where: str = "structure",
) -> Elasticity:
    """C_ij = ∂σ_i/∂ε_j by central differences of the six strains, atoms relaxed in each strained cell.

    Fitted, and averaged over the symmetry of the crystal, by pymatgen's `ElasticTensor`.

    Args:
        atoms: a crystal with a calculator; not changed.
        strain: size of each strain, both ways; shears as engineering strains.
        relax: relax the crystal first, and the atoms of each strained cell; else both stay as they are.
        rest: when it counts as relaxed.
        where: named in errors.
    Raises:
        GeometryError: no crystal, no rest, or nothing that resists a strain.
        ConfigError: a model whose stress is no gradient.
    """
    if not 0 < strain < 0.1:
        raise ValueError(f"strain must lie between 0 and 0.1, got {strain}")
    require_crystal(atoms, "an elastic tensor", where, solid=True)
    base = at_rest(atoms, "full", rest, where) if relax else atoms
    strains, copies, places = [], [], []
    for component, name in enumerate(("xx", "yy", "zz", "yz", "xz", "xy")):
        for size in (-strain, strain):
            small = np.zeros(6)
            small[component] = size
            strained = base.copy()
            strained.calc = atoms.calc
            strained.set_cell(base.cell.array @ (np.eye(3) + matrix(small)), scale_atoms=True)
            strains.append(small)
            copies.append(strained)
            places.append(f"{where}, strained by {size:+g} along {name}")
    copies = all_at_rest(copies, "fixed", rest, places) if relax else all_computed(copies)
    stresses = [copy.get_stress() * EV_PER_CUBIC_ANGSTROM_IN_GPA for copy in copies]
    tensor = _averaged(base, np.array(strains), np.array(stresses))
    _require_resistance(np.array(tensor.voigt), where)
    return _moduli(tensor)


def _require_resistance(voigt: NDArray[np.float64], where: str) -> None:
    """Refuse a tensor (6, 6), GPa, that has no inverse: what some strain meets nothing has no moduli."""
    if (largest := float(np.abs(voigt).max())) < LOOSE:
        raise GeometryError(
            f"{where}: no strain meets more than {largest:.1g} GPa: nothing resists it (a molecule in a box?), so "
            "there are no elastic constants"
        )
    values, strains = np.linalg.eigh(voigt)
    softest = int(np.abs(values).argmin())
    if abs(values[softest]) < 1e-9 * largest:
        strain = ", ".join(f"{part + 0.0:.2f}" for part in np.round(strains[:, softest], 2))
        raise GeometryError(
            f"{where}: nothing resists the strain ({strain}) of xx, yy, zz, yz, xz, xy (layers, chains or molecules "
            "out of each other's reach?), so there are no moduli"
        )


def matrix(strain: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) of a strain in Voigt order with engineering shears."""
    tensor = np.zeros((3, 3))
    for value, a, b in zip(strain, *VOIGT, strict=True):
        tensor[a, b] = tensor[b, a] = value if a == b else value / 2
    return tensor


def _averaged(atoms: Atoms, strains: NDArray[np.float64], stresses: NDArray[np.float64]) -> Any:
    """The tensor of pymatgen that fits, symmetric and with the symmetry of the crystal."""
    from pymatgen.analysis.elasticity import ElasticTensor, Strain, Stress
    from pymatgen.io.ase import AseAtomsAdaptor

    bare = Atoms(atoms.numbers, cell=atoms.cell, scaled_positions=atoms.get_scaled_positions(), pbc=True)
    structure = AseAtomsAdaptor.get_structure(bare)
    tensor = ElasticTensor.from_independent_strains(
        [Strain.from_voigt(strain) for strain in strains],
        [Stress.from_voigt(stress) for stress in stresses],
        eq_stress=Stress.from_voigt(stresses.mean(axis=0)),
    )
    return tensor.fit_to_structure(structure, symprec=0.01).voigt_symmetrized


def _moduli(tensor: Any) -> Elasticity:
    """What follows from a tensor of pymatgen."""
    voigt = np.array(tensor.voigt)
    return Elasticity(
        tensor=voigt,
        bulk_modulus=float(tensor.k_vrh),
        shear_modulus=float(tensor.g_vrh),
        youngs_modulus=float(tensor.y_mod) / 1e9,
        poisson_ratio=float(tensor.homogeneous_poisson),
        anisotropy=float(tensor.universal_anisotropy),
        softest=float(np.linalg.eigvalsh(voigt).min()),
    )
