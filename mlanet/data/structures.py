"""Structures of ASE and pymatgen to graphs in numpy and back; the sign and unit conventions of inputs live here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from mlanet.arrays import AnswerArrays, GraphArrays
from mlanet.data.bounds import MIN_DISTANCE, require_bounded, require_charges, require_cutoff, require_volume
from mlanet.data.labels import LabelKeys, find_atomic_charges, find_charge
from mlanet.data.neighbors import neighbor_list
from mlanet.errors import DataError, GeometryError, UnsupportedElementError
from mlanet.quantities import QUANTITIES
from mlanet.units import MAX_ATOMIC_NUMBER, VOIGT

ORDER = (
    "a model needs whole atoms: choose an ordered supercell first, for instance with pymatgen's "
    "OrderDisorderedStructureTransformation"
)
"""What to do about partial occupancies."""

if TYPE_CHECKING:
    from pymatgen.core import Molecule, Structure

    from mlanet.graph import AtomicGraph, Prediction

# sqrt of the Hermite constants: a lattice of dimension d and content V has a vector no longer than this times V^(1/d)
_SHORTEST = {1: 1.0, 2: 1.0746, 3: 1.1225}


class Sound(NamedTuple):
    """A structure that has a meaning: its cell (3, 3) Å, total charge in e, and charges of atoms, if given."""

    atoms: Atoms
    cell: NDArray[np.float64]
    total: float
    atomic: NDArray[np.float64] | None


def to_arrays(
    structure: Atoms | Structure | Molecule,
    cutoff: float,
    *,
    where: str = "structure",
    charge: float | None = None,
    keys: LabelKeys = LabelKeys(),  # noqa: B008 - frozen
) -> GraphArrays:
    """One structure as a graph in numpy with every pair within `cutoff`; the structure itself is left alone.

    Arguments and errors are those of `mlanet.data.atoms.to_graph`.
    """
    atoms, cell, total, atomic = sound(structure, cutoff, where, charge, keys)
    try:
        pairs = neighbor_list(atoms.positions, cell, atoms.pbc, cutoff)
    except GeometryError as error:
        raise GeometryError(f"{where}: {error}") from None
    graph = GraphArrays(
        positions=np.array(atoms.positions, dtype=np.float64),
        numbers=np.array(atoms.numbers, dtype=np.int64),
        cell=cell[None],
        pbc=np.array(atoms.pbc, dtype=bool)[None],
        center=pairs.center,
        neighbor=pairs.neighbor,
        shift=pairs.shift,
        structure=np.zeros(len(atoms), dtype=np.int64),
        n_structures=1,
        cutoff=float(cutoff),
        charge=np.array([total]),
        atomic_charges=atomic,
    )
    require_apart(graph, where)
    return graph


def sound(
    structure: Atoms | Structure | Molecule, cutoff: float, where: str, charge: float | None, keys: LabelKeys
) -> Sound:
    """What a graph is made of, with all that could be wrong asked; raises as `to_arrays`, pairs aside."""
    require_cutoff(cutoff)
    atoms = as_atoms(structure)
    require_sound(atoms, where)
    total = find_charge(atoms, keys, where) if charge is None else float(charge)
    atomic = find_atomic_charges(atoms, keys, where)
    require_charges(total, atomic, atoms.numbers, where)
    given = None if atomic is None else np.array(atomic, dtype=np.float64)
    return Sound(atoms, np.array(atoms.cell.array, dtype=np.float64), total, given)


def with_prediction(atoms: Atoms, prediction: Prediction | AnswerArrays) -> Atoms:
    """A copy of `atoms` that carries a prediction as ASE expects it (`ase_results`), ready to be written as extxyz."""
    if prediction.energy.shape[0] != 1 or prediction.forces.shape[0] != len(atoms):
        raise ValueError(
            f"a prediction of {prediction.energy.shape[0]} structure(s) with {prediction.forces.shape[0]} atoms "
            f"does not belong to one structure with {len(atoms)} atoms"
        )
    copy, results = atoms.copy(), ase_results(prediction)
    if "polarizability" in results:  # which is none of the properties that ASE's single-point calculators hold
        copy.info["polarizability"] = results.pop("polarizability")
    copy.calc = SinglePointCalculator(copy, **results)
    return copy


def ase_results(prediction: Prediction | AnswerArrays) -> dict[str, Any]:
    """A prediction for one structure in ASE's words, units, signs and order.

    energy, free_energy (equal to energy), energies, forces, and where there are some stress (`VOIGT`), charges,
    dipole (3,) and polarizability (3, 3).
    """
    said = prediction.arrays()
    energy = float(said.energy[0])
    results: dict[str, Any] = {
        "energy": energy,
        "free_energy": energy,
        "energies": np.array(said.atomic_energies, dtype=np.float64),
        "forces": np.array(said.forces, dtype=np.float64),
    }
    if said.charges is not None:
        results["charges"] = np.array(said.charges, dtype=np.float64)
    stress = np.array(said.stress[0], dtype=np.float64)
    if np.isfinite(stress).all():
        results["stress"] = stress[VOIGT]
    for quantity in QUANTITIES:
        value = getattr(said, quantity.name)
        if quantity.optional and value is not None and np.isfinite(value[0]).all():
            results[quantity.name] = np.array(value[0], dtype=np.float64)
    return results


def as_atoms(structure: Atoms | Structure | Molecule) -> Atoms:
    """ASE's view of a structure of ASE or pymatgen; partial pbc and unwrapped positions are kept.

    Raises:
        DataError: a disordered structure, or something that is no structure.
    """
    if isinstance(structure, Atoms):
        return structure
    if not type(structure).__module__.startswith("pymatgen."):
        raise DataError(
            f"expected ase.Atoms, or a Structure or Molecule of pymatgen, got {type(structure).__module__}."
            f"{type(structure).__qualname__}"
        )
    from pymatgen.core import IMolecule, IStructure
    from pymatgen.io.ase import AseAtomsAdaptor

    if not isinstance(structure, IStructure | IMolecule):
        raise DataError(f"pymatgen's {type(structure).__qualname__} is not a structure; give its Structure or Molecule")
    if not structure.is_ordered:
        raise DataError(f"the pymatgen structure is disordered (partial occupancies); {ORDER}")
    atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
    charge = structure.charge if isinstance(structure, IMolecule) else structure._charge
    if charge:
        atoms.info["charge"] = float(charge)
    atoms.calc = None
    return atoms


def as_pymatgen(atoms: Atoms) -> Structure | Molecule:
    """pymatgen's Structure of a structure with any periodic direction, else its Molecule.

    What the calculator has computed for it comes along: site property `forces` (eV/Å); properties `energy` (eV) and
    `stress` ((3, 3) eV/Å³, tension positive). Initial magnetic moments stay the site property `magmom`.
    """
    from pymatgen.io.ase import AseAtomsAdaptor

    from mlanet.data.write import true_results

    plain = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    kind = AseAtomsAdaptor.get_structure if plain.pbc.any() else AseAtomsAdaptor.get_molecule
    made = kind(plain)
    if atoms.has("initial_magmoms"):
        made.add_site_property("magmom", atoms.get_initial_magnetic_moments().tolist())
    if atoms.calc is not None and not atoms.calc.calculation_required(atoms, ["energy", "forces"]):
        said = true_results(atoms)
        made.properties["energy"] = said["energy"]
        made.add_site_property("forces", said["forces"].tolist())
        if "stress" in said:
            made.properties["stress"] = voigt_6_to_full_3x3_stress(said["stress"]).tolist()
    return made


def require_sound(atoms: Atoms, where: str) -> None:
    """Raise a typed error, naming `where` and the atom, for a structure without a meaning (overlaps excepted)."""
    if len(atoms) == 0:
        raise GeometryError(f"{where}: no atoms")
    bad = (atoms.numbers < 1) | (atoms.numbers > MAX_ATOMIC_NUMBER)
    if bad.any():
        first = int(bad.argmax())
        raise UnsupportedElementError(
            f"{where}, atom {first}: atomic number {int(atoms.numbers[first])} is no element "
            f"(dummy atoms have no energy; supported are 1 to {MAX_ATOMIC_NUMBER})"
        )
    bad = ~np.isfinite(atoms.positions).all(axis=1)
    if bad.any():
        first = int(bad.argmax())
        raise GeometryError(
            f"{where}, atom {first} ({atoms.symbols[first]}): position {atoms.positions[first].tolist()} is not finite"
        )
    cell = np.asarray(atoms.cell.array)
    if not np.isfinite(cell).all():
        raise GeometryError(f"{where}: the cell {cell.tolist()} is not finite")
    require_bounded(atoms, where)
    _require_cell(cell, np.asarray(atoms.pbc), where)
    require_volume(atoms, where)


def _require_cell(cell: NDArray[np.float64], pbc: NDArray[np.bool_], where: str) -> None:
    """Refuse cells whose periodic vectors span nothing or bring images closer than 0.1 Å."""
    vectors = cell[pbc]
    if not len(vectors):
        return
    axes = "".join(name for name, periodic in zip("abc", pbc, strict=True) if periodic)
    lengths = np.linalg.norm(vectors, axis=1)
    content = np.sqrt(max(np.linalg.det(vectors @ vectors.T), 0.0))
    if not content > 1e-9 * lengths.prod():
        raise GeometryError(
            f"{where}: periodic along {axes}, but these cell vectors are zero or linearly dependent: "
            f"{vectors.tolist()}; give a cell, or switch pbc off"
        )
    dimension = len(vectors)
    if _SHORTEST[dimension] * content ** (1 / dimension) < MIN_DISTANCE:
        raise GeometryError(
            f"{where}: the cell {vectors.tolist()} is so small that atoms overlap with their own images "
            f"(nearer than {MIN_DISTANCE} Å)"
        )
    if lengths.min() < MIN_DISTANCE:
        image = np.eye(3, dtype=int)[pbc][lengths.argmin()].tolist()
        raise GeometryError(
            f"{where}: atoms 0 and 0 (image {image}) overlap: {lengths.min():.2e} Å apart, less than {MIN_DISTANCE} Å"
        )


def require_apart(graph: AtomicGraph | GraphArrays, where: str) -> None:
    """Refuse atoms of one structure that overlap, and name the nearest pair."""
    if not graph.n_edges:
        return
    squared, nearest = graph.nearest()
    if squared < MIN_DISTANCE**2:
        i, j, shift = int(graph.center[nearest]), int(graph.neighbor[nearest]), graph.shift[nearest].tolist()
        if i > j:  # the same pair seen from the other side
            i, j, shift = j, i, [-steps for steps in shift]
        image = f" (image {shift})" if any(shift) else ""
        raise GeometryError(
            f"{where}: atoms {i} and {j}{image} overlap: {squared**0.5:.2e} Å apart, less than {MIN_DISTANCE} Å"
        )
