"""Angles, velocity spectra and pressures of trajectories whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlanet.dynamics.analysis import AnalysisOptions, analyse
from mlanet.dynamics.angles import angle_distribution
from mlanet.dynamics.plots import motions
from mlanet.dynamics.spectrum import spectral_distance, velocity_spectrum
from mlanet.dynamics.tables import write_tables
from mlanet.errors import DataError

SPACING = 0.01
"""ps."""


def oscillators(*terahertz: float, frames: int = 600, momenta: bool = True, pressure: float = 0.0) -> list[Atoms]:
    """Atoms of a crystal that swing along x with equal energies, at these frequencies in turn."""
    crystal = bulk("Si")
    angular = 2 * np.pi * np.resize(terahertz, len(crystal))
    made = []
    for time in SPACING * np.arange(frames):
        atoms = crystal.copy()
        atoms.positions[:, 0] += 1 / angular * np.sin(angular * time)
        if momenta:
            speed = np.cos(angular * time) / (1000 * units.fs)
            atoms.set_velocities(np.stack([speed, 0 * speed, 0 * speed], axis=1))
        atoms.info["time_ps"] = time
        stress = np.array([-pressure, -pressure, -pressure, 0, 0, 0]) * units.GPa
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((len(atoms), 3)), stress=stress)
        made.append(atoms)
    return made


def times(frames: list[Atoms]) -> np.ndarray:
    return np.array([one.info["time_ps"] for one in frames])


def test_angles_of_crystals() -> None:
    """Diamond has one angle; of the 66 pairs of neighbours in fcc, 24 make 60°, 12 make 90°, 24 120° and 6 180°."""
    silicon = angle_distribution([bulk("Si")])
    assert silicon.density.sum() == pytest.approx(1)
    assert silicon.density[109] == pytest.approx(1)  # 109.47
    fcc = bulk("Cu", a=3.6).repeat(2)
    fcc.rattle(1e-5, seed=0)
    copper = angle_distribution([fcc], bins=18)
    shares = [copper.density[k] + copper.density[k - 1] for k in (6, 9, 12)]
    assert np.allclose(np.array([*shares, copper.density[17]]) * 10, np.array([24, 12, 24, 6]) / 66)
    with pytest.raises(DataError, match="two neighbours"):
        angle_distribution([Atoms("Ar3", [[0, 0, 0], [9, 0, 0], [0, 9, 0]])])


def test_spectra_of_oscillators() -> None:
    """A line where atoms swing, the same from positions; half of the weight on each of two; their distance."""
    one, both = oscillators(8.0), oscillators(8.0, 14.0)
    for frames, from_positions in ((one, False), (one, True)):
        found = velocity_spectrum(times(frames), frames, from_positions)
        width = found.frequency[1] - found.frequency[0]
        assert found.density.sum() * width == pytest.approx(1)
        assert found.frequency[found.density.argmax()] == pytest.approx(8.0, abs=width)
    single, double = velocity_spectrum(times(one), one), velocity_spectrum(times(both), both)
    assert double.density[double.frequency > 11].sum() * width == pytest.approx(0.5, abs=0.02)
    assert spectral_distance(single, double) == pytest.approx(3.0, abs=0.1)
    assert double.width == pytest.approx(3.0, abs=0.1) and single.width < 0.5
    assert spectral_distance(single, single) == 0
    heavy = [frame.copy() for frame in both]
    for frame in heavy:
        frame.set_masses([90.0, 10.0])
    weighted = velocity_spectrum(times(heavy), heavy, from_positions=True)
    assert weighted.density[weighted.frequency < 11].sum() * width > 0.85


def test_what_has_no_spectrum_is_refused() -> None:
    frames = oscillators(8.0, frames=100)
    when = times(frames)
    with pytest.raises(DataError, match="at least 64"):
        velocity_spectrum(when[:50], frames[:50])
    when[50:] += 0.004
    with pytest.raises(DataError, match="not evenly spaced"):
        velocity_spectrum(when, frames)
    still = [frames[0].copy() for _ in frames]
    with pytest.raises(DataError, match="no atom moves"):
        velocity_spectrum(times(frames), still, from_positions=True)


def test_against_a_reference(tmp_path: Path) -> None:
    """Zero against itself, right against another; pressures with that of the motion; files and pictures of both."""
    write(tmp_path / "a.extxyz", oscillators(8.0, 14.0, frames=200, pressure=2.0))
    write(tmp_path / "b.extxyz", oscillators(8.0, frames=200, momenta=False, pressure=1.0))
    same = analyse(tmp_path / "a.extxyz", tmp_path / "a.extxyz", AnalysisOptions()).numbers
    assert same["vdos_distance_THz"] == same["vdos_error"] == same["angle_error"] == 0
    other = analyse(tmp_path / "a.extxyz", tmp_path / "b.extxyz", AnalysisOptions())
    numbers = other.numbers
    assert numbers["vdos_distance_THz"] == pytest.approx(3.0, abs=0.5) and numbers["vdos_error"] > 1
    assert 0 <= numbers["angle_error"] <= 2
    kinetic = np.mean([one.get_kinetic_energy() for one in oscillators(8.0, 14.0, frames=200)])
    ideal = 2 / 3 * kinetic / bulk("Si").get_volume() / units.GPa
    assert numbers["pressure_GPa"] == pytest.approx(2.0 + ideal, rel=1e-3)
    assert numbers["pressure_reference_GPa"] == pytest.approx(1.0) and numbers["pressure_std_reference_GPa"] < 1e-9
    names = {path.name for path in write_tables(tmp_path / "out", other)}
    assert {"angles.csv", "vdos.csv", "vdos_reference.csv"} <= names
    motions(tmp_path / "motions.png", other)
    assert (tmp_path / "motions.png").exists()
