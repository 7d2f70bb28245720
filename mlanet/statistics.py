"""What a model must know of its training set before the first step, saved with its weights, never in a YAML."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from mlanet.units import MAX_ATOMIC_NUMBER


@dataclass(frozen=True)
class Statistics:
    """Facts of a training set that a model is built with.

    - species: atomic numbers the model knows, ascending; any other element is an error
    - references: E₀ of each species, eV, added to the site energies in float64
    - scale: eV per unit of network output, for each species (about the force RMS in eV/Å)
    - mean_neighbors: n̄, the mean number of neighbours within the cutoff
    - stress_scale: eV/Å³ per unit of a direct stress head
    - closest: Å, for every two species (symmetric, by rows) the smallest distance within the cutoff; 0 where no such
      pair was seen. Nearer than that the model has learnt nothing. Empty where unknown
    - wall: Å, for every two species (symmetric, by rows) where repulsion and floor begin: `closest` of pairs that were
      often seen bonded, for others at most 0.8 of the sum of their covalent radii. Empty in models from before
    - crowding: for every species the largest ρ (`mlanet.crowding`, with `wall`); 0 where it never had a neighbour.
      More crowded than the largest of them the model has learnt nothing. Empty where unknown
    - energy_key: "free_energy" where the energies that it learnt were read from that entry of its files, and not from
      `energy` beside it; "" where there was no choice, or where not recorded
    - references_from: what the references are: "isolated" (energies of lone atoms in the data), "given" (by the user),
      "lstsq" or "ridge" (fitted to the training set), "none" (zeros), or "" where not recorded

    >>> Statistics.unit((1, 8)).references
    (0.0, 0.0)
    >>> hash(Statistics.unit((1, 8))) == hash(Statistics.unit((1, 8)))
    True
    """

    species: tuple[int, ...]
    references: tuple[float, ...]
    scale: tuple[float, ...]
    mean_neighbors: float
    stress_scale: float = 1.0
    closest: tuple[tuple[float, ...], ...] = ()
    references_from: str = ""
    wall: tuple[tuple[float, ...], ...] = ()
    crowding: tuple[float, ...] = ()
    energy_key: str = ""

    def __post_init__(self) -> None:
        if list(self.species) != sorted(set(self.species)) or not self.species:
            raise ValueError(f"species must be ascending and unique, got {self.species}")
        if not len(self.species) == len(self.references) == len(self.scale):
            raise ValueError("species, references and scale must have one entry each per element")
        n = len(self.species)
        for name, table in (("closest", self.closest), ("wall", self.wall)):
            if table and (len(table) != n or any(len(row) != n for row in table)):
                raise ValueError(f"{name} must be {n} × {n}, one row and column per element")
        if self.crowding and (len(self.crowding) != n or not self.wall):
            raise ValueError(f"crowding must have {n} entries, one per element, and needs wall")
        if self.mean_neighbors <= 0:
            raise ValueError(f"mean_neighbors must be positive, got {self.mean_neighbors}")

    def __hash__(self) -> int:
        """Of the numbers, once: tables of 89 elements are asked for by what is kept for them, several times a step."""
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        tables = (self.closest, self.wall, self.crowding)
        return hash((self.species, self.references, self.scale, self.mean_neighbors, self.stress_scale, *tables))

    @property
    def problem(self) -> str:
        """What forbids a model with these: numbers that are not finite, species that are no elements; empty if none."""
        closest = [distance for row in (*self.closest, *self.wall) for distance in row]
        scalars = (self.mean_neighbors, self.stress_scale)
        if not all(map(math.isfinite, (*self.references, *self.scale, *closest, *self.crowding, *scalars))):
            return f"the statistics hold NaN or infinity: {self}"
        if not all(1 <= z <= MAX_ATOMIC_NUMBER for z in self.species):
            return f"the species {list(self.species)} are no elements"
        return ""

    @property
    def lone_atoms(self) -> str | None:
        """Why the energy of a lone atom means nothing; None where it is that of a free atom."""
        if self.references_from in ("isolated", "given"):
            return None
        fitted = {
            "lstsq": "references fitted to the training set by least squares",
            "ridge": "references fitted to the training set with a ridge",
            "none": "zeros",
        }.get(self.references_from, "references whose origin is not recorded, most likely a fit to the training set")
        return (
            f"the energies of lone atoms are {fitted}, not energies of free atoms: cohesive, atomisation and "
            "dissociation energies against them mean nothing (train with `references: isolated` for these)"
        )

    @classmethod
    def unit(cls, species: tuple[int, ...], mean_neighbors: float = 12.0) -> Statistics:
        """No references and unit scale: for tests, laws and profiles of untrained models."""
        return cls(species, (0.0,) * len(species), (1.0,) * len(species), mean_neighbors)
