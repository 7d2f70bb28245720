"""Frames and time: what md stores, on which grid, and what diffusion and stability make of grids with gaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixCartesian, Hookean
from ase.io import write

from mlanet.data.atoms import to_labels
from mlanet.data.read import read_frames
from mlanet.dynamics import DynamicsSettings, diffusion, simulate, stable_time
from mlanet.dynamics.analysis import AnalysisOptions, analyse
from mlanet.dynamics.diffusion import mean_squared_displacement, on_grid
from mlanet.dynamics.distributions import Distribution
from mlanet.errors import ConfigError, DataError


def copper() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    return atoms


def settings(**changes: object) -> DynamicsSettings:
    given: dict[str, object] = {"ensemble": "langevin", "timestep": 2.0, "steps": 20, "every": 4, "checkpoint_every": 3}
    return DynamicsSettings(**(given | changes))  # type: ignore[arg-type]


def files(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("trajectory.extxyz", "log.csv")]


@pytest.mark.parametrize("kind", ["atoms", "Cartesian", "spring"])
def test_frames_hold_the_true_forces(tmp_path: Path, kind: str) -> None:
    """Those of the calculator on the positions stored, whatever holds the atoms; the atoms are held nevertheless."""
    constraint = {
        "atoms": FixAtoms([0]),
        "Cartesian": FixCartesian([0], mask=[True, True, True]),
        "spring": Hookean(0, 1, k=5.0, rt=1.0),
    }[kind]
    atoms = copper()
    atoms.rattle(0.1, seed=2)
    start = atoms.positions[0].copy()
    atoms.set_constraint(constraint)
    for _ in simulate(atoms, settings(steps=4, every=2, temperature=600.0), tmp_path / "a"):
        pass
    assert np.allclose(atoms.positions[0], start) == (kind != "spring")
    for frame in read_frames(tmp_path / "a" / "trajectory.extxyz"):
        again = Atoms(frame.atoms.numbers, frame.atoms.positions, cell=frame.atoms.cell, pbc=True, calculator=EMT())
        labels = to_labels(frame.atoms)
        assert np.abs(again.get_forces()[0]).max() > 0.01
        assert labels.forces.numpy() == pytest.approx(again.get_forces(), abs=1e-6)
        assert float(labels.energy) == pytest.approx(again.get_potential_energy(), abs=1e-6)


def test_a_prolonged_run_keeps_its_grid(tmp_path: Path) -> None:
    """Ended off the grid with a frame of its own, that frame goes: 0, 4, 8 …, the frames of one long run."""
    for steps in (7, 7, 13, 20):
        resume = (tmp_path / "part").exists()
        list(simulate(copper(), settings(steps=steps), tmp_path / "part", resume=resume))
        if steps == 7:
            found = [frame.atoms.info["step"] for frame in read_frames(tmp_path / "part" / "trajectory.extxyz")]
            assert found == [0, 4, 7]
    list(simulate(copper(), settings(), tmp_path / "whole"))
    part, whole = (list(read_frames(tmp_path / name / "trajectory.extxyz")) for name in ("part", "whole"))
    assert [frame.atoms.info["step"] for frame in part] == [0, 4, 8, 12, 16, 20]
    for one, other in zip(part, whole, strict=True):
        assert one.atoms.positions == pytest.approx(other.atoms.positions, abs=1e-7)
    steps = [(tmp_path / name / "log.csv").read_text().splitlines() for name in ("part", "whole")]
    assert [line.split(",")[0] for line in steps[0]] == [line.split(",")[0] for line in steps[1]]


def test_another_grid_is_refused(tmp_path: Path) -> None:
    """Before anything is cut or written."""
    list(simulate(copper(), settings(steps=8), tmp_path / "a"))
    before = files(tmp_path / "a")
    with pytest.raises(ConfigError, match=r"another every \(was 4, now 5\)"):
        list(simulate(copper(), settings(every=5), tmp_path / "a", resume=True))
    assert files(tmp_path / "a") == before


def walk(steps: int, n: int) -> np.ndarray:
    """(T, N, 3) Å, a random walk with D = 1 Å²/ps and steps of 1 fs."""
    return np.cumsum(np.random.default_rng(3).normal(scale=np.sqrt(0.002), size=(steps, n, 3)), axis=0)


def frames_at(paths: np.ndarray) -> list[Atoms]:
    return [Atoms(["Li"] * len(one), one) for one in paths]


GRIDS = {
    "even": np.arange(0, 401, 4),
    "two grids": np.array([k for k in range(401) if k % 4 == 0 or k % 5 == 0]),
    "frames missing": np.delete(np.arange(0, 401, 4), [3, 4, 5, 40, 77]),
    "a gap, out of phase": np.array([*range(0, 200, 5), *range(253, 401, 5)]),
    "end off the grid": np.array([*range(0, 400, 4), 398]),
}


@pytest.mark.parametrize("name", GRIDS)
def test_diffusion_knows_the_time_between_frames(name: str) -> None:
    """D of the same walk from frames on any grid, within its error; taken as evenly spaced it would be 40 % low."""
    ticks = GRIDS[name]
    found = diffusion(1e-3 * ticks, frames_at(walk(401, 200)[ticks]), "Li")
    assert found.coefficient == pytest.approx(1e-8, rel=0.08)
    assert found.lag == pytest.approx(1e-3 * np.rint(1e3 * found.lag))


def test_displacements_at_every_lag_are_exact() -> None:
    """Of motion at constant velocity: v² t², at the lags that are there, whatever is missing."""
    for ticks in GRIDS.values():
        times = 7.0 + 1e-3 * ticks
        lag, msd = mean_squared_displacement(3.0 * times[:, None, None] * np.ones((1, 5, 3)), times)
        assert msd == pytest.approx(27.0 * lag**2) and len(lag) > 30
        assert set(np.rint(1e3 * lag).astype(int)) <= {int(b - a) for a in ticks for b in ticks}


def test_times_with_few_digits_are_a_grid_and_random_ones_are_none() -> None:
    """4.8 fs written in whole fs are even; times of an adaptive step are refused, as are frames out of order."""
    rounded = np.round(4.8e-3 * np.arange(200), 3)
    assert on_grid(rounded)[1] == pytest.approx(4.8e-3, rel=1e-3)
    paths = frames_at(walk(100, 4))
    with pytest.raises(DataError, match="on no grid"):
        diffusion(np.cumsum(np.random.default_rng(1).uniform(0.5, 1.5, 100)), paths, "Li")
    for times in (np.zeros(100), np.r_[0.0:50.0, 0.0:50.0], -np.arange(100.0)):
        with pytest.raises(DataError, match="does not come after"):
            diffusion(times, paths, "Li")


def test_files_of_two_runs_and_contradictions(tmp_path: Path) -> None:
    """The file and the frame are named; an interval that the frames deny is refused; whole numbers are times too."""
    frames = []
    for time in (0, 1, 2, 0, 1, 2):
        frames.append(bulk("Cu", cubic=True))
        frames[-1].info["time_ps"] = time
    write(tmp_path / "two.extxyz", frames)
    write(tmp_path / "one.extxyz", frames[:3])
    with pytest.raises(DataError, match=r"two\.extxyz, frame 3: its time, 0 ps"):
        analyse(tmp_path / "two.extxyz", None, AnalysisOptions(discard=0.5))
    with pytest.raises(DataError, match="1000 fs apart, not 2"):
        analyse(tmp_path / "one.extxyz", None, AnalysisOptions(interval=2.0))
    assert analyse(tmp_path / "one.extxyz", None, AnalysisOptions()).times.tolist() == [0, 1, 2]


def test_windows_of_stability_are_times_not_counts() -> None:
    """A structure lost at 5 ps is found there, also where frames are missing."""
    times = np.delete(0.1 * np.arange(100), [*range(1, 9), 30, 31, 47])
    rows = np.where(times < 5.0, 0.0, 1.0)[:, None] * np.ones((1, 10))
    r = np.linspace(0.05, 9.5, 10)
    found, reference = Distribution(r, rows), Distribution(r, np.zeros((1, 10)))
    lost = stable_time(times, found, reference, tau=1.0, threshold=0.5 * found.width * 10)
    assert 4.4 <= lost <= 4.7
