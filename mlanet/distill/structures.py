"""Structures for the teacher: a recipe makes one from a seed by substitution, defects, strain and displacement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.optimize import nnls

from mlanet.data.neighbors import neighbor_list
from mlanet.distill.config import Recipe
from mlanet.distill.seeds import Seed

CLOSEST = 0.6
"""Of the sum of covalent radii: atoms nearer than that are not sent to the teacher, except in dimers."""
ATTEMPTS = 5
VACUUM = 14.0
"""Å of empty space that a slab gets along its normal, so that no model sees its image."""

_FAMILIES = (
    "Li Na K Rb Cs",
    "Be Mg Ca Sr Ba Eu Yb",
    "Sc Y La Ce Pr Nd Pm Sm Gd Tb Dy Ho Er Tm Lu Ac Th Pa U Np Pu",
    "Ti Zr Hf V Nb Ta Cr Mo W",
    "Mn Tc Re Fe Co Ni Ru Rh Pd Os Ir Pt",
    "Cu Ag Au Zn Cd Hg",
    "Al Ga In Tl Sn Pb Bi",
    "B C Si Ge",
    "N P As Sb",
    "O S Se Te",
    "H F Cl Br I",
    "He Ne Ar Kr Xe",
)
FAMILIES = tuple(tuple(atomic_numbers[symbol] for symbol in family.split()) for family in _FAMILIES)
"""Atomic numbers that replace each other readily; the first seven families are metals."""
METALS = tuple(z for family in FAMILIES[:7] for z in family)
OTHERS = tuple(z for family in FAMILIES[7:11] for z in family)


def atomic_volumes(seeds: Sequence[Seed]) -> dict[int, float]:
    """Å³ per atom of each element: non-negative least squares of the crystals' volumes in their compositions."""
    crystals = [seed.atoms for seed in seeds if seed.atoms.pbc.all()]
    elements = sorted({int(z) for atoms in crystals for z in atoms.numbers})
    if not elements:
        return {}
    counts = np.array([[np.mean(atoms.numbers == z) for z in elements] for atoms in crystals])
    volumes = np.array([atoms.get_volume() / len(atoms) for atoms in crystals])
    fitted, _ = nnls(counts, volumes)
    return {z: float(max(v, 1.0)) for z, v in zip(elements, fitted, strict=True)}


def draw(
    recipe: Recipe, seed: Seed, elements: Sequence[int], volumes: dict[int, float], rng: Generator
) -> Atoms | None:
    """A new structure, or None where a few attempts brought atoms too near or too many atoms.

    Args:
        recipe: what to do.
        seed: what to do it to.
        elements: atomic numbers that the teacher knows.
        volumes: see `atomic_volumes`.
        rng: the only source of chance.
    """
    if recipe.dimer:
        return _dimer(elements, rng)
    for _ in range(ATTEMPTS):
        atoms = seed.atoms.copy()
        if recipe.substitute:
            atoms = _substituted(atoms, elements, volumes, rng)
        if recipe.shuffle:
            atoms.numbers = rng.permutation(atoms.numbers)
        if recipe.slab:
            atoms = _slab(atoms, recipe.max_atoms, rng)
        elif recipe.vacancies or recipe.supercell:
            atoms = _supercell(atoms, recipe.max_atoms, rng)
        atoms = _with_vacancies(atoms, recipe.vacancies, rng)
        if len(atoms) > recipe.max_atoms or not set(map(int, atoms.numbers)) <= set(elements):
            return None
        _strain(atoms, recipe, rng)
        atoms.positions += rng.uniform(*recipe.rattle) * rng.normal(size=atoms.positions.shape)
        if apart(atoms):
            return atoms
    return None


def apart(atoms: Atoms) -> bool:
    """Whether no two atoms are nearer than `CLOSEST` times the sum of their covalent radii."""
    radii = CLOSEST * covalent_radii[atoms.numbers]
    cell = atoms.cell.array
    i, j, shift = neighbor_list(atoms.positions, cell, atoms.pbc, 2 * radii.max())
    distances = np.linalg.norm(atoms.positions[j] + shift @ cell - atoms.positions[i], axis=1)
    return bool((distances >= radii[i] + radii[j]).all())


def _substituted(atoms: Atoms, elements: Sequence[int], volumes: dict[int, float], rng: Generator) -> Atoms:
    """Each element replaced: half of the time by a relative, else by another metal or non-metal; volume adapted."""
    known = set(elements)
    chosen: dict[int, int] = {}
    for z in sorted(set(map(int, atoms.numbers))):
        family = next((family for family in FAMILIES if z in family), (z,))
        wide = METALS if z in METALS else OTHERS if z in OTHERS else family
        options = [o for o in (family if rng.random() < 0.5 else wide) if o in known and o not in chosen.values()]
        chosen[z] = int(rng.choice(options)) if options else z
    old = atoms.numbers
    atoms.numbers = np.array([chosen[int(z)] for z in old])
    scale = _volume_of(atoms.numbers, volumes) / _volume_of(old, volumes)
    atoms.set_cell(atoms.cell * np.clip(scale, 0.3, 3.0) ** (1 / 3), scale_atoms=True)
    return atoms


def _volume_of(numbers: NDArray[np.int64], volumes: dict[int, float]) -> float:
    """Å³, by additive atomic volumes; an element that no seed has counts 20 Å³."""
    return sum(volumes.get(int(z), 20.0) for z in numbers)


def _supercell(atoms: Atoms, max_atoms: int, rng: Generator) -> Atoms:
    """Repeated along its shortest directions as often as fits, at least once where it may grow."""
    limit = rng.integers(min(2 * len(atoms), max_atoms), max_atoms + 1)
    repeats = [1, 1, 1]
    while True:
        lengths = atoms.cell.lengths() * repeats
        axis = int(lengths.argmin())
        grown = [n + (k == axis) for k, n in enumerate(repeats)]
        if len(atoms) * int(np.prod(grown)) > limit:
            return atoms.repeat(repeats)
        repeats = grown


def _with_vacancies(atoms: Atoms, vacancies: int, rng: Generator) -> Atoms:
    """Up to so many atoms fewer, always leaving half."""
    missing = min(int(rng.integers(1, vacancies + 1)) if vacancies else 0, len(atoms) // 2)
    return atoms[rng.permutation(len(atoms))[missing:]] if missing else atoms


def _slab(atoms: Atoms, max_atoms: int, rng: Generator) -> Atoms:
    """A low-index surface, as thick as fits, with vacuum; periodic in all directions as in plane-wave DFT."""
    from ase.build import surface

    miller = [(1, 0, 0), (0, 0, 1), (1, 1, 0), (1, 1, 1)][rng.integers(4)]
    layers = max(1, min(4, max_atoms // len(atoms)))
    slab = surface(atoms, miller, layers, vacuum=VACUUM / 2)
    slab.pbc = True
    return Atoms(numbers=slab.numbers, positions=slab.positions, cell=slab.cell.array, pbc=True)


def _strain(atoms: Atoms, recipe: Recipe, rng: Generator) -> None:
    """Volume by a factor, then a random symmetric strain; atoms move along."""
    if atoms.cell.rank != 3:
        return
    deformation = np.eye(3) * rng.uniform(*recipe.volume) ** (1 / 3)
    if recipe.strain[1] > 0:
        strain = rng.normal(size=(3, 3))
        strain = (strain + strain.T) / 2
        deformation = deformation @ (np.eye(3) + rng.uniform(*recipe.strain) * strain / np.abs(strain).max())
    atoms.set_cell(atoms.cell.array @ deformation, scale_atoms=True)


def _dimer(elements: Sequence[int], rng: Generator) -> Atoms:
    """Two atoms from 0.7 to 2 times the sum of their covalent radii apart, in a large box."""
    pair = rng.choice(elements, size=2)
    distance = rng.uniform(0.7, 2.0) * covalent_radii[pair].sum()
    box = 2 * VACUUM
    return Atoms(numbers=pair, positions=[[0, 0, 0], [0, 0, distance]], cell=[box, box, box], pbc=True)
