"""How large the numbers of a structure may be, asked before anything is searched or allocated.

Inside these bounds positions keep nine digits behind the point, lattice images are counted in 32 bits, and the grid of
the neighbour search fits; far outside, the search loses pairs, divides by zero or never ends.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlanet.errors import GeometryError
from mlanet.machine import available_bytes
from mlanet.units import MAX_ATOMIC_NUMBER, MAX_CUTOFF

MIN_DISTANCE = 0.1
"""Å. Two atoms nearer than this are a mistake in the input, never physics."""
MAX_COORDINATE = 1e7
"""Å, a millimetre: of positions and of cell vectors. Their rounding is 2e-9 Å there."""
MIN_VOLUME = 1e-3
"""Å³; a cell with less, but not zero, would make stress a huge number."""
MAX_PAIRS = 200_000_000
"""Directed pairs of one structure."""
BYTES_PER_PAIR = 160
"""While a list is made and sorted."""
FEW_PAIRS = 1_000_000
"""Where there cannot be more, nothing is estimated."""
MAX_BINS = 50_000
"""Half of what the search library allows. Beyond, it keeps the aspect of the box, down to no bin at all along the short
sides of a long or flat one, and divides by their number."""
SAFE_BINS = 4
"""Along the shortest side, after the library has scaled its grid."""


class Extent(NamedTuple):
    """The box that a search divides into bins.

    - heights (3,) Å: between opposite faces along periodic directions, else the spread of the atoms
    - periodic (3,) bool, in the order of `heights`
    """

    heights: NDArray[np.float64]
    periodic: NDArray[np.bool_]

    def images(self, radius: float) -> float:
        """How many lattice images a search within a radius looks at, at most."""
        return float(np.prod(2 * np.ceil(radius / self.heights[self.periodic]) + 1))


class Plan(NamedTuple):
    """Whether the search library's grid has bins along every side, and about how many pairs will be found, or more."""

    by_grid: bool
    pairs: float


def require_bounded(atoms: Atoms, where: str) -> None:
    """Raise a `GeometryError` for a position or cell vector beyond 1e7 Å.

    - atoms: with finite numbers
    """
    far = (np.abs(atoms.positions) > MAX_COORDINATE).any(axis=1)
    if far.any():
        first = int(far.argmax())
        raise GeometryError(
            f"{where}, atom {first} ({atoms.symbols[first]}): position {atoms.positions[first].tolist()} lies beyond "
            f"{MAX_COORDINATE:.0e} Å; supported are positions within it"
        )
    cell = np.asarray(atoms.cell.array)
    if (np.abs(cell) > MAX_COORDINATE).any():
        raise GeometryError(f"{where}: the cell {cell.tolist()} is longer than {MAX_COORDINATE:.0e} Å, the largest")


def require_volume(atoms: Atoms, where: str) -> None:
    """Raise a `GeometryError` for a cell of three vectors with next to no volume."""
    cell = np.asarray(atoms.cell.array)
    volume = abs(np.linalg.det(cell))
    if atoms.pbc.any() and cell.any(axis=1).all() and volume < MIN_VOLUME:
        raise GeometryError(
            f"{where}: the cell {cell.tolist()} has a volume of {volume:.2g} Å³, less than {MIN_VOLUME} Å³; give "
            "directions without period a vector as long as the empty space, or zeros"
        )


def require_charges(total: float, atomic: NDArray[np.float64] | None, numbers: NDArray[np.int64], where: str) -> None:
    """Raise a `GeometryError` for charges, of either sign, beyond what the heaviest atoms could lose."""
    if abs(total) > MAX_ATOMIC_NUMBER * len(numbers):
        raise GeometryError(
            f"{where}: a total charge of {total:g} e on {len(numbers)} atoms; supported are ±{MAX_ATOMIC_NUMBER} e each"
        )
    if atomic is None:
        return
    bad = np.abs(atomic) > MAX_ATOMIC_NUMBER
    if bad.any():
        first = int(bad.argmax())
        raise GeometryError(
            f"{where}, atom {first}: a charge of {atomic[first]:g} e; supported are ±{MAX_ATOMIC_NUMBER} e"
        )


def require_cutoff(cutoff: float) -> None:
    """Raise `ValueError` for a cutoff that is no positive number of Å up to `MAX_CUTOFF`."""
    if not 0 < cutoff <= MAX_CUTOFF:
        raise ValueError(f"cutoff must be a positive number of Å, at most {MAX_CUTOFF:g}, got {cutoff}")


def plan_search(
    positions: NDArray[np.float64], box: NDArray[np.float64], periodic: NDArray[np.bool_], cutoff: float
) -> Plan:
    """How the search library can look for the neighbours of this structure.

    - positions (N, 3) Å · box (3, 3) Å, compact, zero along directions without period

    Raises:
        GeometryError: images nearer than 0.1 Å, more pairs than `MAX_PAIRS`, or than there is memory for.
    """
    shortest = np.linalg.norm(box[periodic], axis=1).min() if periodic.any() else np.inf
    if shortest < MIN_DISTANCE:
        raise GeometryError(f"atoms overlap with their own images, {shortest:.2e} Å apart, less than {MIN_DISTANCE} Å")
    extent = extent_of(positions, box, periodic)
    return Plan(_has_bins(extent.heights / cutoff), _bounded_pairs(positions, box, extent, cutoff))


def extent_of(positions: NDArray[np.float64], box: NDArray[np.float64], periodic: NDArray[np.bool_]) -> Extent:
    """Heights of the box along periodic directions, spread of the atoms across the others."""
    vectors = box[periodic]
    if not len(vectors):
        return Extent(np.maximum(np.ptp(positions, axis=0), 1e-3), np.zeros(3, dtype=bool))
    heights = 1.0 / np.linalg.norm(np.linalg.pinv(vectors, rcond=1e-12), axis=0)
    # The last 3 − d right singular vectors span what is perpendicular to the d periodic ones.
    free = np.linalg.svd(vectors)[2][len(vectors) :] if len(vectors) < 3 else vectors[:0]
    spread = np.full(0, 0.0) if not len(free) else np.ptp(positions @ free.T, axis=0)
    if len(free) == 2:
        # The library may choose other axes in this plane: as wide as the atoms at most, and next to nothing at least.
        spread = np.array([np.hypot(*spread), 0.0])
    return Extent(np.maximum(np.concatenate([heights, spread]), 1e-3), np.arange(3) < len(vectors))


def _has_bins(sides: NDArray[np.float64]) -> bool:
    """Whether the library's grid, scaled down to its largest number of bins, has bins along every side."""
    bins = np.maximum(sides, 1.0)
    total = float(bins.prod())
    return total <= MAX_BINS or float(bins.min()) * (MAX_BINS / total) ** (1 / 3) >= SAFE_BINS


def _bounded_pairs(positions: NDArray[np.float64], box: NDArray[np.float64], extent: Extent, cutoff: float) -> float:
    """About how many pairs there will be, or more; refused if they are too many."""
    n_atoms = len(positions)
    most = float(n_atoms) ** 2 * extent.images(cutoff)
    if most <= FEW_PAIRS:
        return most
    pairs = min(most, expected_pairs(positions, box, extent, cutoff))
    if pairs <= FEW_PAIRS:
        return pairs
    if pairs > MAX_PAIRS or pairs * BYTES_PER_PAIR > available_bytes():
        raise GeometryError(
            f"about {pairs:.2g} pairs of {n_atoms} atoms within {cutoff:g} Å, {pairs / n_atoms:.2g} neighbours each: "
            f"more than {MAX_PAIRS:.1g}, or than memory holds; use a shorter cutoff or fewer atoms"
        )
    return pairs


def expected_pairs(positions: NDArray[np.float64], box: NDArray[np.float64], extent: Extent, radius: float) -> float:
    """Pairs within a radius if the atoms of every bin, about a radius wide, are spread evenly over it.

    Σ_b n_b² · (4π/3) r³ / V_b, exact for crystals, within a factor of six for anything.
    """
    bins = np.where(extent.periodic, np.maximum(np.floor(extent.heights / radius), 1.0), 1.0)
    widths = np.where(extent.periodic, extent.heights / bins, radius)
    vectors = box[box.any(axis=1)]
    places = []
    if len(vectors):
        fractions = positions @ np.linalg.pinv(vectors, rcond=1e-12)
        places.append(np.floor((fractions - np.floor(fractions)) * bins[: len(vectors)]))
    if len(vectors) < 3:
        free = np.linalg.svd(vectors)[2][len(vectors) :] if len(vectors) else np.eye(3)
        places.append(np.floor(positions @ free.T / radius))
    # Bins that share a number only raise the estimate.
    key = np.concatenate(places, axis=1).astype(np.int64) @ np.array([73_856_093, 19_349_663, 83_492_791])
    counts = np.unique(key, return_counts=True)[1].astype(np.float64)
    return float(np.sum(counts**2) * (4 / 3 * np.pi) * np.prod(radius / widths))
