"""Small labelled sets whose truth is known: copper by ASE's EMT, with stress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator


def labelled(atoms: Atoms) -> Atoms:
    """A copy with EMT's energy, forces and stress in a SinglePointCalculator."""
    work = atoms.copy()
    work.calc = EMT()
    results = {"energy": work.get_potential_energy(), "forces": work.get_forces()}
    if work.pbc.all():
        results["stress"] = work.get_stress()
    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, **results)
    return copy


def rattled(n: int, seed: int, *, strain: float = 0.0, amplitude: float = 0.08) -> list[Atoms]:
    """Copper-nickel cells of 8 atoms around one another, rattled, and strained if asked for."""
    generator = np.random.default_rng(seed)
    frames = []
    for _ in range(n):
        atoms = bulk("Cu", cubic=True) * (2, 1, 1)
        atoms.numbers[[0, 3]] = 28
        deformation = np.eye(3) + strain * generator.normal(size=(3, 3))
        atoms.set_cell(atoms.cell.array @ (0.5 * (deformation + deformation.T)), scale_atoms=True)
        atoms.positions += amplitude * generator.normal(size=atoms.positions.shape)
        frames.append(labelled(atoms))
    return frames


@pytest.fixture(scope="session")
def copper() -> list[Atoms]:
    """30 frames at one cell and 30 with random strain; energy, forces, stress."""
    return [*rattled(30, 1), *rattled(30, 2, strain=0.01)]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Sequence[Atoms], str], Path]:
    """Write frames as extxyz under a name and give the path."""

    def inner(frames: Sequence[Atoms], name: str = "data.extxyz") -> Path:
        path = tmp_path / name
        ase.io.write(path, list(frames), format="extxyz")
        return path

    return inner
