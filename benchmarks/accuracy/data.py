"""The structures of a benchmark, divided once into a training and a test part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from accuracy.plan import Benchmark, data_files
from mlanet.data.write import frame_text
from mlanet.files import whole_folder
from mlanet.sweep.config import SweepData
from mlanet.sweep.parts import divide


def parts(one: Benchmark, folder: Path) -> Path:
    """The folder with `train.extxyz` and `test.extxyz`, made if it is missing.

    Structures of the test part with an element that no training structure has are left out: nothing can be learnt of
    it.
    """
    place = folder / one.name
    if place.exists():
        return place
    if one.data.files:
        files, test = data_files(one, one.data.files), data_files(one, one.data.test) if one.data.test else ()
    else:
        files, test = (str(_copper(folder)),), ()
    division = divide(
        SweepData(files=files, test=test, test_fraction=one.data.test_fraction, valid_fraction=0, seed=one.data.seed)
    )
    known = {number for frame in division.train for number in frame.atoms.numbers}
    judged = [frame for frame in division.test if set(frame.atoms.numbers) <= known]
    if one.data.test_limit is not None and one.data.test_limit < len(judged):
        chosen = np.random.default_rng(one.data.seed).permutation(len(judged))[: one.data.test_limit]
        judged = [judged[index] for index in sorted(chosen)]
    with whole_folder(place) as partial:
        for name, frames in (("train", division.train), ("test", judged)):
            (partial / f"{name}.extxyz").write_text("".join(frame_text(frame.atoms, frame.where) for frame in frames))
    return place


def _copper(folder: Path) -> Path:
    """The copper cells as a file."""
    from ase.io import write

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "copper.extxyz"
    write(path, demo_frames(), format="extxyz")
    return path


def demo_frames() -> list[Any]:
    """Strained, rattled copper cells with EMT labels."""
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from ase.calculators.singlepoint import SinglePointCalculator

    frames = []
    for seed in range(40):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell * (0.96 + 0.002 * seed), scale_atoms=True)
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames
