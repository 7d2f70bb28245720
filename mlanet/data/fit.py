"""What a model must know of its training set: references E₀, scales and the environments of atoms."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols, covalent_radii
from numpy.typing import NDArray

from mlanet.config import read_yaml, suggestion
from mlanet.crowding import crowding
from mlanet.data.samples import Sample
from mlanet.data.stiffness import NOBLE
from mlanet.errors import ConfigError, DataError
from mlanet.statistics import Statistics

Table = tuple[tuple[float, ...], ...]
"""One row and column per species, symmetric."""

METHODS = ("auto", "isolated", "lstsq", "ridge", "none")
"""How references can be found; anything else is a mapping or the path of a file."""

RIDGE = 1e-6
"""Strength of the ridge relative to the mean diagonal of the normal matrix: small enough to move well-determined
references by millielectronvolts only, although those of different elements differ by thousands of eV."""

LONELY = 1.35
"""Distance to the own image over twice the covalent radius from which a lone atom in a cell is no crystal."""

BONDED = 1.15
"""Of the sum of two covalent radii: pairs within count as bonded."""
OFTEN = 100
"""So many neighbours, both ways counted, say how near two elements come."""
UNKNOWN = 0.8
"""Of the sum of two covalent radii: nearer than that come only few pairs, with multiple bonds."""

_FAR = 20.0
"""eV/atom; references further off than this do not belong to the data's level of theory."""


def fit_statistics(
    samples: Sequence[Sample],
    references: str | Mapping[str, float] = "auto",
    species: Sequence[int] | None = None,
) -> tuple[Statistics, list[str]]:
    """References, scale, mean neighbours and stress scale of a training set, with warnings for the user.

    "isolated" takes E₀ from the single-atom frames, so that energies are cohesive and dissociation ends at free atoms;
    "lstsq" and "ridge" solve Σ_Z n_Z E₀[Z] ≈ E over the structures, per atom (both sides divided by N), in float64, by
    minimum-norm least squares or pulled towards the mean energy per atom; "auto" is "isolated" where the data hold a
    lone atom of every element, else "lstsq"; "none" means zeros; else a mapping {symbol: eV} or a YAML/JSON file.
    Scale is the root mean square of the force components (eV/Å); without forces, the standard deviation of the
    energy per atom that the references leave over. The stress scale is the root mean square of the nine components.

    Args:
        samples: the training set.
        references: see above.
        species: atomic numbers the model shall know, or None for those of the samples.
    Raises:
        DataError: an element outside `species`, an element without a reference, no energies to fit.
        ConfigError: an unknown method, or a file of references that cannot be understood.
    """
    if not samples:
        raise DataError("no samples to fit statistics to")
    present = sorted({int(z) for sample in samples for z in sample.graph.numbers.unique().tolist()})
    known = present if species is None else sorted({int(z) for z in species})
    if set(present) - set(known):
        extra = ", ".join(chemical_symbols[z] for z in present if z not in known)
        raise DataError(f"the training set has elements that are not among the model's species: {extra}")
    warnings: list[str] = []
    counts, energies = _composition(samples, known)
    if references == "auto":
        references = _automatic(samples, known, warnings)
    fitted = _references(samples, references, known, counts, energies, warnings)
    scale = _scale(samples, counts, energies, fitted, warnings)
    stress = np.concatenate([s.labels.stress.numpy().ravel() for s in samples])
    closest = closest_pairs(samples, known)
    wall = walls(samples, known, closest)
    atoms = sum(sample.graph.n_atoms for sample in samples)
    edges = sum(sample.graph.n_edges for sample in samples)
    if edges == 0:
        warnings.append("no atom has a neighbour within the cutoff; mean_neighbors is set to 1")
    statistics = Statistics(
        species=tuple(known),
        references=tuple(float(value) for value in fitted),
        scale=(scale,) * len(known),
        mean_neighbors=edges / atoms if edges else 1.0,
        stress_scale=_rms(stress) or 1.0,
        closest=closest,
        wall=wall,
        crowding=most_crowded(samples, known, wall),
        references_from=references if isinstance(references, str) and references in METHODS else "given",
    )
    return statistics, warnings


def bonded_shifts(samples: Sequence[Sample], statistics: Statistics) -> NDArray[np.float64]:
    """eV per atom of each species that the references leave over in the structures whose atoms have neighbours.

    Fitted as `ridge` fits references: first values of `mlanet.nn.bonded`. Zeros where no such energy is labelled.
    """
    bonded = [sample for sample in samples if sample.graph.n_edges]
    counts, energies = _composition(bonded, list(statistics.species))
    left = energies - counts @ np.array(statistics.references)
    if not np.isfinite(left).any():
        return np.zeros(len(statistics.species))
    return fitted_energies(counts, left)


def fitted_energies(counts: NDArray[np.float64], energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """eV per element that explain total energies, by the ridge of `fit_statistics`.

    - counts (S, Z): atoms of each element · energies (S,): eV, NaN where not labelled
    """
    return _fitted(list(range(counts.shape[1])), counts, energies, ridge=True, warnings=[])


def closest_pairs(samples: Sequence[Sample], species: Sequence[int]) -> Table:
    """Smallest distance of every two species within the graphs' cutoff, Å; 0 where there is no such pair."""
    index = np.zeros(max(species) + 1, dtype=np.int64)
    index[list(species)] = np.arange(len(species))
    nearest = np.full(len(species) ** 2, np.inf)
    for sample in samples:
        graph = sample.graph
        distance = graph.edge_vectors().double().norm(dim=1).numpy()
        kind = index[graph.numbers.numpy()]
        pair = kind[graph.center.numpy()] * len(species) + kind[graph.neighbor.numpy()]
        np.minimum.at(nearest, pair, distance)
    nearest[np.isinf(nearest)] = 0.0
    return tuple(map(tuple, nearest.reshape(len(species), -1).tolist()))


def walls(samples: Sequence[Sample], species: Sequence[int], closest: Table) -> Table:
    """Where repulsion and floor begin, Å: the smallest distance of pairs that were seen bonded at least `OFTEN`.

    Others may well come nearer than they happened to: they have at most `UNKNOWN` of the sum of their covalent radii.
    """
    index = torch.zeros(max(species) + 1, dtype=torch.int64)
    index[list(species)] = torch.arange(len(species))
    radii = torch.tensor(covalent_radii, dtype=torch.float64)[list(species)]
    sums = radii[:, None] + radii[None, :]
    seen = torch.zeros(sums.numel(), dtype=torch.int64)
    for sample in samples:
        kind = index[sample.graph.numbers]
        first, second = kind[sample.graph.center], kind[sample.graph.neighbor]
        bonded = sample.graph.edge_vectors().norm(dim=1) < BONDED * sums[first, second]
        seen += torch.bincount((first * len(species) + second)[bonded], minlength=len(seen))
    nearest = torch.tensor(closest, dtype=torch.float64)
    capped = torch.where(nearest > 0, torch.minimum(nearest, UNKNOWN * sums), UNKNOWN * sums)
    return tuple(map(tuple, torch.where(seen.reshape(sums.shape) >= OFTEN, nearest, capped).tolist()))


def most_crowded(samples: Sequence[Sample], species: Sequence[int], wall: Table) -> tuple[float, ...]:
    """Largest crowding (`mlanet.crowding`) of an atom of every species; 0 where none has a neighbour."""
    index = torch.zeros(max(species) + 1, dtype=torch.int64)
    index[list(species)] = torch.arange(len(species))
    known, most = torch.tensor(wall, dtype=torch.float64), torch.zeros(len(species), dtype=torch.float64)
    for sample in samples:
        graph = sample.graph
        kind = index[graph.numbers]
        nearest = known[kind[graph.center], kind[graph.neighbor]]
        rho = crowding(graph.edge_vectors().double(), nearest, graph.center, graph.n_atoms, graph.cutoff)
        most = most.scatter_reduce(0, kind, rho, "amax")
    return tuple(most.tolist())


def _composition(samples: Sequence[Sample], species: list[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Atoms of each element (S, Z), and total energies (S,) eV, NaN where not labelled."""
    counts = np.zeros((len(samples), len(species)))
    for row, sample in enumerate(samples):
        numbers = np.bincount(sample.graph.numbers.numpy(), minlength=max(species) + 1)
        counts[row] = numbers[species]
    return counts, np.array([float(sample.labels.energy[0]) for sample in samples])


def _references(
    samples: Sequence[Sample],
    references: str | Mapping[str, float],
    species: list[int],
    counts: NDArray[np.float64],
    energies: NDArray[np.float64],
    warnings: list[str],
) -> NDArray[np.float64]:
    """E₀ of each species, eV."""
    if references == "none":
        return np.zeros(len(species))
    if references in ("lstsq", "ridge"):
        return _fitted(species, counts, energies, ridge=references == "ridge", warnings=warnings)
    given = _isolated(samples) if references == "isolated" else _given(references)
    missing = [chemical_symbols[z] for z in species if z not in given]
    if missing:
        source = "no labelled single-atom frame" if references == "isolated" else "no reference energy given"
        crowded = "".join(f"; {text}" for text in crowded_atoms(samples)) if references == "isolated" else ""
        raise DataError(f"{source} for {', '.join(missing)}; every element of the model needs one{crowded}")
    per_element = np.array([given[z] for z in species])
    labelled = np.isfinite(energies)
    if labelled.any():
        left = (energies[labelled] - counts[labelled] @ per_element) / counts[labelled].sum(axis=1)
        if abs(left.mean()) > _FAR:
            warnings.append(
                f"after the references {left.mean():.1f} eV/atom are left over on average: the references seem to "
                "come from another level of theory than the energies"
            )
    return per_element


def _fitted(
    species: list[int],
    counts: NDArray[np.float64],
    energies: NDArray[np.float64],
    *,
    ridge: bool,
    warnings: list[str],
) -> NDArray[np.float64]:
    """Least squares per atom: minimum norm, or a ridge around the mean energy per atom."""
    labelled = np.isfinite(energies)
    if not labelled.any():
        raise DataError("no structure has an energy to fit references to; use references: none, or give them")
    atoms = counts[labelled].sum(axis=1)
    shares = counts[labelled] / atoms[:, None]
    target = energies[labelled] / atoms
    unseen = [chemical_symbols[z] for z, total in zip(species, shares.sum(axis=0), strict=True) if total == 0]
    rank = int(np.linalg.matrix_rank(shares, tol=1e-9 * max(shares.shape)))
    if unseen:
        warnings.append(f"no labelled energy with {', '.join(unseen)}: their references are not determined by the data")
    if rank < len(species):
        warnings.append(
            f"the compositions determine only {rank} of {len(species)} reference energies "
            f"({' '.join(chemical_symbols[z] for z in species)}); energies between compositions that are not in the "
            f"training set have an arbitrary offset ({'ridge' if ridge else 'minimum-norm'} solution taken)"
        )
    if not ridge:
        return np.linalg.lstsq(shares, target, rcond=1e-10)[0]
    mean = target.mean()
    normal = shares.T @ shares
    strength = RIDGE * np.trace(normal) / len(species)
    return mean + np.linalg.solve(normal + strength * np.eye(len(species)), shares.T @ (target - mean))


def _automatic(samples: Sequence[Sample], species: list[int], warnings: list[str]) -> str:
    """ "isolated" where the data hold a lone atom of every element, else "lstsq" with a word on why."""
    try:
        lone = _isolated(samples)
    except DataError as error:
        warnings.append(f"references are fitted by least squares although there are isolated atoms: {error}")
        return "lstsq"
    crowded = crowded_atoms(samples)
    if all(z in lone for z in species):
        return "isolated"
    if lone or crowded:
        missing = ", ".join(chemical_symbols[z] for z in species if z not in lone)
        warnings.append(
            f"references are fitted by least squares: there is no isolated atom of {missing}, so energies are not "
            f"cohesive energies and lone atoms mean nothing{''.join(f'; {text}' for text in crowded)}"
        )
    return "lstsq"


def crowded_atoms(samples: Sequence[Sample]) -> list[str]:
    """Frames of one atom whose box is so small that it sees its own images, though one with more room was meant.

    A crystal with one atom in its cell has its neighbours at bonding distance; what is said here holds for cells that
    are too wide for a crystal and too narrow for an isolated atom, or named so by their configuration type.
    """
    crowded = []
    for sample in samples:
        graph = sample.graph
        if graph.n_atoms != 1 or not graph.n_edges:
            continue
        number = int(graph.numbers[0])
        nearest = float(graph.edge_vectors().norm(dim=1).min())
        named = any(word in sample.group.lower() for word in ("isolated", "single_atom"))
        if named or (number not in NOBLE and nearest > LONELY * 2 * covalent_radii[number]):
            crowded.append(
                f"{sample.where}: the isolated {chemical_symbols[number]} sees its own images at {nearest:.2f} Å, "
                f"within the cutoff of {graph.cutoff:g} Å: give it a wider box, or no periodic cell"
            )
    return crowded


def _isolated(samples: Sequence[Sample]) -> dict[int, float]:
    """Energies of the single-atom frames without neighbours, by atomic number."""
    isolated: dict[int, float] = {}
    for sample in samples:
        energy = float(sample.labels.energy[0])
        if sample.graph.n_atoms != 1 or sample.graph.n_edges or not np.isfinite(energy):
            continue
        number = int(sample.graph.numbers[0])
        if number in isolated and abs(isolated[number] - energy) > 1e-6:
            raise DataError(
                f"{sample.where}: a second isolated {chemical_symbols[number]} with another energy "
                f"({energy} against {isolated[number]} eV); keep one, or give the references as a mapping"
            )
        isolated[number] = energy
    return isolated


def _given(references: str | Mapping[str, float]) -> dict[int, float]:
    """A mapping, or a file with one, by atomic number."""
    source = "references"
    if isinstance(references, str | os.PathLike):
        source = str(references)
        if not source.lower().endswith((".yaml", ".yml", ".json")) and not Path(source).is_file():
            raise ConfigError(
                f"references '{source}'{suggestion(source, METHODS)}: expected one of {', '.join(METHODS)}, "
                "a mapping {symbol: eV}, or a .yaml or .json file with one"
            )
        references = read_yaml(source)
    by_number = {}
    for symbol, value in references.items():
        if symbol not in atomic_numbers or atomic_numbers[symbol] == 0:
            raise ConfigError(f"{source}: {symbol!r} is no chemical symbol (quote symbols that YAML reads otherwise)")
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise ConfigError(f"{source}: the reference of {symbol} is {value!r}, not a number of eV")
        by_number[atomic_numbers[symbol]] = float(value)
    return by_number


def _scale(
    samples: Sequence[Sample],
    counts: NDArray[np.float64],
    energies: NDArray[np.float64],
    references: NDArray[np.float64],
    warnings: list[str],
) -> float:
    """Force RMS, else what the references leave of the energy per atom, else 1."""
    forces = np.concatenate([sample.labels.forces.numpy().ravel() for sample in samples])
    scale = _rms(forces)
    if not np.isfinite(forces).any():
        left = (energies - counts @ references) / counts.sum(axis=1)
        scale = float(np.std(left[np.isfinite(left)])) if np.isfinite(left).any() else 0.0
        warnings.append("no forces: the scale is the standard deviation of the energy per atom")
    if scale < 1e-8:
        warnings.append("forces (or energies per atom) do not vary in the training set; the scale is set to 1")
        return 1.0
    return scale


def _rms(values: NDArray[np.float64]) -> float:
    """Root mean square of the finite values, 0 where there are none."""
    finite = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
