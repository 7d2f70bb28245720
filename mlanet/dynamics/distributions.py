"""Radial distribution functions g(r) and distributions of distances h(r), and how far two of them are apart.

Definitions of "Forces are not enough" (arXiv 2210.07237), with shells of exact volume and all periodic images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import NDArray

from mlanet.data.neighbors import neighbor_list
from mlanet.errors import DataError, GeometryError

Array = NDArray[np.float64]
RDF_RANGE, RDF_BINS = 6.0, 500
H_RANGE, H_BINS = 10.0, 500


@dataclass(frozen=True)
class Distribution:
    """A function of distance, one row for each frame.

    - r (B,) Å, middles of the bins, equally wide · rows (T, B): g(r), or h(r) in 1/Å
    """

    r: Array
    rows: Array

    @property
    def mean(self) -> Array:
        """(B,) average over the frames."""
        return self.rows.mean(axis=0)

    @property
    def width(self) -> float:
        """Δr, Å."""
        return float(self.r[1] - self.r[0])


def rdf(
    frames: Iterable[Atoms], *, pair: tuple[str, str] | None = None, r_max: float = RDF_RANGE, bins: int = RDF_BINS
) -> Distribution:
    """g(r) = 1/(4πr² ρ N) Σ_i Σ_{j≠i} δ(r − |r_ij|), images included, so that r_max may exceed the cell.

    With `pair` (a, b): the sums run over i of element a and j of element b, ρ = N_b/V and N = N_a.

    Args:
        frames: structures that are periodic in three directions.
        pair: two element symbols; None for all atoms alike.
        r_max: Å.
        bins: how many.
    Raises:
        GeometryError: a structure without a density.
        DataError: an element that is not there.
    """
    edges = np.linspace(0.0, r_max, bins + 1)
    shells = 4 / 3 * np.pi * (edges[1:] ** 3 - edges[:-1] ** 3)
    rows = []
    for index, atoms in enumerate(frames):
        if not atoms.pbc.all():
            raise GeometryError(f"frame {index}: g(r) needs a cell periodic in three directions; h(r) does not")
        center, length = _pairs(atoms, r_max)
        first, second = _members(atoms, pair, index)
        chosen = first[center[0]] & second[center[1]]
        counts = np.histogram(length[chosen], edges)[0]
        density = second.sum() / atoms.get_volume()
        rows.append(counts / (first.sum() * density * shells))
    return Distribution(0.5 * (edges[1:] + edges[:-1]), _stacked(rows))


def distance_distribution(frames: Iterable[Atoms], *, r_max: float = H_RANGE, bins: int = H_BINS) -> Distribution:
    """h(r) = 1/(N(N−1)) Σ_i Σ_{j≠i} δ(r − |r_i − r_j|) in 1/Å; its integral over all r is 1.

    Each pair counts once in either order, with its nearest image where periodic.

    Args:
        frames: structures of at least two atoms.
        r_max: Å.
        bins: how many.
    Raises:
        GeometryError: a frame with a single atom.
    """
    edges = np.linspace(0.0, r_max, bins + 1)
    rows = []
    for index, atoms in enumerate(frames):
        if len(atoms) < 2:
            raise GeometryError(f"frame {index}: h(r) needs two atoms")
        lengths = atoms.get_all_distances(mic=bool(atoms.pbc.any()))[np.triu_indices(len(atoms), 1)]
        rows.append(np.histogram(lengths, edges)[0] / (len(lengths) * (edges[1] - edges[0])))
    return Distribution(0.5 * (edges[1:] + edges[:-1]), _stacked(rows))


def integral_error(one: Array, other: Array, width: float) -> float:
    """∫ |a(r) − b(r)| dr of two functions on the same bins: Å for g(r), a number between 0 and 2 for h(r)."""
    return float(np.abs(one - other).sum() * width)


def _pairs(atoms: Atoms, r_max: float) -> tuple[NDArray[np.int64], Array]:
    """(2, P) atoms and (P,) lengths of all directed pairs within r_max."""
    pairs = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, r_max)
    vectors = atoms.positions[pairs.neighbor] - atoms.positions[pairs.center] + pairs.shift @ atoms.cell.array
    return np.stack([pairs.center, pairs.neighbor]), np.linalg.norm(vectors, axis=1)


def _members(atoms: Atoms, pair: tuple[str, str] | None, index: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which atoms are the first and the second of a pair."""
    if pair is None:
        everyone = np.ones(len(atoms), dtype=bool)
        return everyone, everyone
    chosen = tuple(atoms.numbers == atomic_numbers.get(symbol, -1) for symbol in pair)
    if not all(mask.any() for mask in chosen):
        raise DataError(f"frame {index}: no {pair[0]}-{pair[1]} pairs in {atoms.get_chemical_formula()}")
    return chosen[0], chosen[1]


def _stacked(rows: Sequence[Array]) -> Array:
    if not rows:
        raise DataError("no frames to average over")
    return np.stack(rows)
