"""Distributions, stability and diffusion on structures whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write
from numpy.typing import NDArray

from mlanet.dynamics import diffusion, distance_distribution, integral_error, rdf, stable_time
from mlanet.dynamics.analysis import AnalysisOptions, analyse
from mlanet.dynamics.diffusion import unwrapped
from mlanet.dynamics.plots import course, displacements, distributions
from mlanet.dynamics.stability import intact_time
from mlanet.dynamics.tables import write_tables
from mlanet.errors import DataError, GeometryError


def ideal_gas(n: int, box: float, seed: int, symbols: str = "Ar") -> Atoms:
    rng = np.random.default_rng(seed)
    return Atoms([symbols] * n, rng.random((n, 3)) * box, cell=[box] * 3, pbc=True)


def coordination(r: NDArray[np.float64], g: NDArray[np.float64], density: float, reach: float) -> float:
    width = r[1] - r[0]
    shells = 4 / 3 * np.pi * ((r + width / 2) ** 3 - (r - width / 2) ** 3)
    return float((g * shells * density)[r < reach].sum())


def test_shells_of_fcc() -> None:
    """Integrated, g(r) counts 12, 18 and 42 neighbours; the primitive cell and r beyond half of it suffice."""
    atoms = bulk("Cu", a=3.6)
    found = rdf([atoms], r_max=6.0)
    density = 1 / atoms.get_volume()
    for reach, count in ((2.8, 12), (3.8, 18), (4.6, 42)):
        assert coordination(found.r, found.mean, density, reach) == pytest.approx(count, abs=1e-9)
    # All four atoms of the cubic cell give the same.
    assert rdf([bulk("Cu", a=3.6, cubic=True)], r_max=6.0).mean == pytest.approx(found.mean, abs=1e-9)


def test_partials_of_rock_salt() -> None:
    """Six Cl around Na at a/2, twelve Na at a/√2; the total is the average of the partials by composition."""
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    density = 4 / atoms.get_volume()
    na_cl, na_na = (rdf([atoms], pair=pair, r_max=4.5) for pair in (("Na", "Cl"), ("Na", "Na")))
    assert coordination(na_cl.r, na_cl.mean, density, 3.0) == pytest.approx(6, abs=1e-9)
    assert coordination(na_na.r, na_na.mean, density, 4.2) == pytest.approx(12, abs=1e-9)
    partials = [rdf([atoms], pair=(a, b), r_max=4.5).mean for a in ("Na", "Cl") for b in ("Na", "Cl")]
    assert rdf([atoms], r_max=4.5).mean == pytest.approx(sum(partials) / 4, abs=1e-9)


def test_ideal_gas() -> None:
    """g = 1 but for the atom itself, 1 − 1/N; h(r) of all pairs integrates to 1."""
    frames = [ideal_gas(300, 12.0, seed) for seed in range(5)]
    found = rdf(frames, r_max=8.0, bins=40)
    # The innermost of these shells counts some 1000 pairs of each frame.
    assert found.mean[15:] == pytest.approx(np.full(25, 1 - 1 / 300), abs=0.04)
    assert found.rows.shape == (5, 40)
    h = distance_distribution(frames, r_max=12.0, bins=60)
    assert float(h.mean.sum() * h.width) == pytest.approx(1.0, abs=1e-12)


def test_distances_of_a_molecule() -> None:
    """h(r) of water: two O-H bonds and one H-H distance share the integral as 2 : 1."""
    found = distance_distribution([molecule("H2O")], r_max=2.0, bins=200)
    weight = found.mean * found.width
    assert weight[found.r < 1.2].sum() == pytest.approx(2 / 3)
    assert weight[found.r > 1.2].sum() == pytest.approx(1 / 3)


def test_errors_between_distributions() -> None:
    """Zero for equal ones; 2 for h(r) without common distances; symmetric."""
    one, other = (distance_distribution([Atoms("Ar2", [[0, 0, 0], [d, 0, 0]])]) for d in (3.0, 4.0))
    assert integral_error(one.mean, one.mean, one.width) == 0
    assert integral_error(one.mean, other.mean, one.width) == pytest.approx(2.0)


def test_stable_until_it_melts() -> None:
    """A crystal that turns into a gas at 5 ps is stable until a window reaches into the gas."""
    crystal = bulk("Cu", a=3.6, cubic=True) * 2
    gas = ideal_gas(32, 7.2, 0, "Cu")
    frames = [crystal] * 50 + [gas] * 50
    times = 0.1 * np.arange(100)
    reference = rdf([crystal])
    found = stable_time(times, rdf(frames), reference, tau=1.0, threshold=1.0)
    assert 4.0 <= found <= 5.0
    assert stable_time(times[:50], rdf(frames[:50]), reference, tau=1.0, threshold=1.0) == pytest.approx(4.9)
    with pytest.raises(DataError, match="does not fit"):
        stable_time(times[:5], rdf(frames[:5]), reference, tau=1.0, threshold=1.0)


def test_molecule_is_intact_until_a_bond_breaks() -> None:
    """Half an Å beyond the mean length counts as broken."""
    water = molecule("H2O")
    broken = water.copy()
    broken.positions[1] += 0.6 * (broken.positions[1] - broken.positions[0]) / broken.get_distance(0, 1)
    stretched = water.copy()
    stretched.positions[1] += 0.4 * (stretched.positions[1] - stretched.positions[0]) / stretched.get_distance(0, 1)
    times = np.arange(4.0)
    assert intact_time(times, [water, stretched, broken, water], [water]) == 2.0
    assert intact_time(times, [water, stretched, water, water], [water]) == 3.0


def walk(steps: int, n: int, d: float, dt: float, seed: int = 0) -> list[Atoms]:
    """Random walk with coefficient d Å²/ps, wrapped into a box, on top of a common drift."""
    rng = np.random.default_rng(seed)
    jumps = rng.normal(scale=np.sqrt(2 * d * dt), size=(steps, n, 3)) + np.array([0.05, 0.0, 0.0])
    paths = np.cumsum(jumps, axis=0)
    frames = [Atoms(["Li"] * n + ["S"] * n, cell=[10.0] * 3, pbc=True) for _ in range(steps)]
    sulfur = rng.random((n, 3)) * 10 + np.array([0.05, 0, 0]) * np.arange(steps)[:, None, None]
    for atoms, li, s in zip(frames, paths, sulfur, strict=True):
        atoms.positions = np.concatenate([li, s])
        atoms.wrap()
    return frames


def test_diffusion_of_a_random_walk() -> None:
    """D = 0.05 Å²/ps = 5·10⁻¹⁰ m²/s within the stated error, through wrapping and drift; S only drifts and has none."""
    frames = walk(600, 60, 0.05, 0.1)
    times = 0.1 * np.arange(600)
    found = diffusion(times, frames, "Li")
    assert found.coefficient == pytest.approx(5e-10, rel=0.12)
    assert 0 < found.error < 1e-10
    assert abs(found.coefficient - 5e-10) < 4 * found.error
    # The drift taken out is that of the mass, which the walkers themselves move a little.
    assert diffusion(times, frames, "S").coefficient < 0.03 * 5e-10


def test_ballistic_motion_is_not_lost() -> None:
    """Two atoms flying apart: the displacement grows as (v t)²."""
    frames = []
    for step in range(40):
        frames.append(Atoms("He2", [[-0.1 * step, 0, 0], [0.1 * step, 0, 0]]))
    found = diffusion(np.arange(40.0), frames, "He")
    assert found.msd == pytest.approx((0.1 * found.lag) ** 2)


def test_unwrapping_follows_the_nearest_image() -> None:
    """An atom that leaves a skewed cell through one face goes on straight."""
    cell = [[4.0, 0, 0], [1.0, 4.0, 0], [0, 0, 5.0]]
    frames = []
    for step in range(30):
        atoms = Atoms("He", [[0.4 * step, 0.3 * step, 0.1]], cell=cell, pbc=True)
        atoms.wrap()
        frames.append(atoms)
    straight = np.array([[0.4 * step, 0.3 * step, 0.0] for step in range(30)])
    assert unwrapped(frames)[:, 0] - unwrapped(frames)[0, 0] == pytest.approx(straight, abs=1e-9)


def test_whole_analysis_with_files(tmp_path: Path) -> None:
    """Numbers, tables and pictures of a trajectory against a reference that is the same crystal, colder."""
    frames = []
    for seed in range(60):
        atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
        atoms.rattle(0.1, seed=seed)
        atoms.info["time_ps"] = 0.05 * seed
        frames.append(atoms)
    cold = [bulk("NaCl", "rocksalt", a=5.6, cubic=True) for _ in range(5)]
    for seed, atoms in enumerate(cold):
        atoms.rattle(0.05, seed=seed)
    write(tmp_path / "hot.extxyz", frames)
    write(tmp_path / "cold.extxyz", cold)
    options = AnalysisOptions(diffusion="Na", threshold=100.0)
    found = analyse(tmp_path / "hot.extxyz", tmp_path / "cold.extxyz", options)
    assert set(found.g) == {"all", "Cl-Cl", "Cl-Na", "Na-Na"}
    assert found.numbers["rdf_mae"] == pytest.approx(found.numbers["rdf_error_A"] / 6.0)
    assert found.numbers["stable_ps"] == pytest.approx(2.95)
    same = analyse(tmp_path / "cold.extxyz", tmp_path / "cold.extxyz", AnalysisOptions(interval=50.0))
    assert same.numbers["rdf_error_A"] == 0 < found.numbers["rdf_error_A"]
    written = write_tables(tmp_path / "out", found)
    assert [path.name for path in written] == ["rdf.csv", "h.csv", "angles.csv", "msd.csv"]
    header = written[0].read_text().splitlines()[0].split(",")
    assert header[0] == "r_A" and "g_Cl-Na_reference" in header
    distributions(tmp_path / "out" / "g.png", found)
    displacements(tmp_path / "out" / "msd.svg", found)
    log = {
        name: np.linspace(0, 1, 20) for name in ("time_ps", "temperature_K", "potential_eV", "total_eV", "conserved_eV")
    }
    course(tmp_path / "out" / "course.pdf", log, 8, 300.0)
    assert all((tmp_path / "out" / name).stat().st_size > 2000 for name in ("g.png", "msd.svg", "course.pdf"))


def test_what_cannot_be_analysed(tmp_path: Path) -> None:
    """Molecules have no g(r), frames without a time need an interval, other substances are no reference."""
    with pytest.raises(GeometryError, match="periodic in three directions"):
        rdf([molecule("H2O")])
    with pytest.raises(GeometryError, match="two atoms"):
        distance_distribution([Atoms("He")])
    with pytest.raises(DataError, match="no O-H pairs"):
        rdf([bulk("Cu")], pair=("O", "H"))
    with pytest.raises(DataError, match="no frames"):
        rdf([])
    with pytest.raises(DataError, match="no Fe in"):
        diffusion(np.arange(40.0), [bulk("Cu")] * 40, "Fe")
    with pytest.raises(DataError, match="needs at least"):
        diffusion(np.arange(4.0), [bulk("Cu")] * 4, "Cu")
    write(tmp_path / "a.extxyz", [bulk("Cu"), bulk("Cu")])
    write(tmp_path / "b.extxyz", [bulk("Al")])
    with pytest.raises(DataError, match="do not say their time"):
        analyse(tmp_path / "a.extxyz", None, AnalysisOptions())
    with pytest.raises(DataError, match="is of Al"):
        analyse(tmp_path / "a.extxyz", tmp_path / "b.extxyz", AnalysisOptions(interval=1.0))
