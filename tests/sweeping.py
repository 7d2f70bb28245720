"""What tests of sweeps share: labelled crystals, an engine without processes, and what of a table must last."""

from __future__ import annotations

import csv
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from mlanet.sweep.engines import Ended, Job
from mlanet.sweep.point import run_point
from mlanet.sweep.table import MEASURED


def crystals(count: int) -> list[Atoms]:
    """Rattled copper of 4 atoms, labelled by effective-medium theory."""
    generator = np.random.default_rng(0)
    frames = []
    for _ in range(count):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell * (1 + 0.02 * generator.normal()), scale_atoms=True)
        atoms.positions += 0.1 * generator.normal(size=(4, 3))
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames


def here(jobs: Sequence[Job]) -> Generator[Ended, None, None]:
    """An engine without processes: quick, for everything that is not about processes."""
    for job in jobs:
        yield Ended(job, run_point(Path(job.folder), job.name))


def lasting(folder: Path | str) -> list[dict[str, str]]:
    """The table without clocks and memory: what must not depend on how the sweep was run."""
    rows = list(csv.DictReader((Path(folder) / "table.csv").open()))
    return [{key: value for key, value in row.items() if key not in MEASURED} for row in rows]
