"""A reference curve: labelled frames of the same stack at other distances, or a table."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlanet.data.atoms import to_labels
from mlanet.data.read import read_frames
from mlanet.errors import DataError
from mlanet.layered.find import Layers

SAME = 0.02
"""Relative difference of areas up to which a frame shows the same layers."""


class Reference(NamedTuple):
    """Distances (n,) Å ascending, energies (n,) eV per atom relative to the farthest, and the frames if any."""

    distance: NDArray[np.float64]
    energy: NDArray[np.float64]
    frames: tuple[Atoms, ...]


def read_reference(path: Path, layers: Layers) -> Reference:
    """Frames with energies (any format that has them), or a CSV with the columns distance_A and energy_meV_per_atom.

    Energies are taken relative to the farthest distance in the file. In frames, atoms stand in the order of the
    structure or its layers are found anew.

    Raises:
        DataError: no energies, another composition, other lattice vectors in the layers, or a table without numbers.
    """
    if path.suffix.lower() == ".csv":
        return _table(path)
    points: list[tuple[float, float, Atoms]] = []
    for frame in read_frames(path):
        energy = float(to_labels(frame.atoms, where=frame.where).energy[0])
        if not np.isfinite(energy):
            raise DataError(f"{frame.where}: has no energy to compare with")
        points.append((_distance(frame.atoms, layers, frame.where), energy / len(frame.atoms), frame.atoms))
    if len(points) < 2:
        raise DataError(f"{path}: a reference curve needs at least two frames, it has {len(points)}")
    points.sort(key=lambda one: one[0])
    distance, energy_per_atom, frames = zip(*points, strict=True)
    return Reference(np.array(distance), np.array(energy_per_atom) - energy_per_atom[-1], tuple(frames))


def _distance(atoms: Atoms, layers: Layers, where: str) -> float:
    """Of the layers of a frame; those of the structure, atom by atom, where bonds might mislead."""
    if sorted(atoms.numbers) != sorted(layers.atoms.numbers):
        raise DataError(f"{where}: {atoms.get_chemical_formula()}, not {layers.atoms.get_chemical_formula()}")
    if not layers.finite:
        area = layers.area
        distance = atoms.get_volume() / (area * layers.n_layers)
        if not any(abs(_plane(atoms, skip) / area - 1) < SAME for skip in range(3)):
            raise DataError(f"{where}: no lattice plane has the area of the structure's layers, {area:.3f} Å²")
        return float(distance)
    if (atoms.numbers != layers.atoms.numbers).any():
        raise DataError(f"{where}: its atoms stand in another order than those of the structure")
    height = atoms.positions @ layers.normal
    low, high = (height[layers.owner == index].mean() for index in (0, layers.n_layers - 1))
    return float(abs(high - low)) / (layers.n_layers - 1)


def _plane(atoms: Atoms, skip: int) -> float:
    first, second = (atoms.cell[axis] for axis in range(3) if axis != skip)
    return float(np.linalg.norm(np.cross(first, second)))


def _table(path: Path) -> Reference:
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
        pairs = sorted((float(row["distance_A"]), float(row["energy_meV_per_atom"]) / 1000) for row in rows)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: expected the columns distance_A and energy_meV_per_atom: {error}") from None
    if len(pairs) < 2:
        raise DataError(f"{path}: a reference curve needs at least two lines")
    distance, energy = np.array(pairs).T
    return Reference(distance, energy - energy[-1], ())
