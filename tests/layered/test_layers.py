"""Finding layers in any cell, moving them, curves, references, sliding and the stress of sheets."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, make_supercell, mx2
from ase.calculators.calculator import Calculator
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlanet.errors import ConfigError, DataError, GeometryError
from mlanet.layered import find_layers, interlayer_curve, sheet_stress, sliding_map, well
from mlanet.layered.curve import Point, energy_apart
from mlanet.layered.reference import read_reference
from mlanet.layered.report import exfoliate


def graphite(height: float = 6.7) -> Atoms:
    places = [(0, 0, 0.25), (0, 0, 0.75), (1 / 3, 2 / 3, 0.25), (2 / 3, 1 / 3, 0.75)]
    return Atoms("C4", scaled_positions=places, cell=[2.46, 2.46, height, 90, 90, 120], pbc=True)


def bilayer(pbc: bool = True) -> Atoms:
    lower = graphene(a=2.46, vacuum=10)
    upper = lower.copy()
    upper.positions += [0, 0, 3.35]
    both = lower + upper
    both.center(vacuum=12, axis=2)
    both.pbc = [True, True, pbc]
    return both


class Between(Calculator):
    """Layers that attract with 1/d⁴ and repel with 1/d⁸: mid-planes by atomic number, energy eV per cell."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=("energy",), system_changes=()) -> None:
        super().calculate(atoms, properties, system_changes)
        heights = [atoms.positions[atoms.numbers == z, 2].mean() for z in sorted(set(atoms.numbers))]
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}
        if len(heights) == 2:
            d = abs(heights[1] - heights[0])
            self.results["energy"] = (3.0 / d) ** 8 - 2 * (3.0 / d) ** 4


def two_sheets(distance: float) -> Atoms:
    cell = [2.0, 2.0, 30.0]
    return Atoms("CSi", [[0, 0, 5], [0.3, 0.2, 5 + distance]], cell=cell, pbc=[True, True, False])


@pytest.mark.parametrize(
    ("atoms", "count", "finite", "distance", "area"),
    [
        (graphite(), 2, False, 3.35, 5.2408),
        (bilayer(), 2, True, 3.35, 5.2408),
        (bilayer(pbc=False), 2, True, 3.35, 5.2408),
        (mx2("MoS2", a=3.18, vacuum=None), 1, False, None, 8.7576),
        (graphite(13.0), 2, False, 6.5, 5.2408),
    ],
    ids=["graphite", "bilayer in a periodic box", "bilayer", "one layer per cell", "stretched"],
)
def test_layers_are_found(atoms: Atoms, count: int, finite: bool, distance: float | None, area: float) -> None:
    """Bulk and few layers."""
    if distance is None:
        atoms.set_cell([atoms.cell[0], atoms.cell[1], [0, 0, 6.2]])
        atoms.pbc, distance = True, 6.2
    layers = find_layers(atoms)
    assert (layers.n_layers, layers.finite) == (count, finite)
    assert layers.distance == pytest.approx(distance, abs=1e-9)
    assert layers.area == pytest.approx(area, abs=1e-3)
    assert np.ptp(np.bincount(layers.owner)) == 0


@pytest.mark.parametrize("seed", range(4))
def test_the_cell_does_not_matter(seed: int) -> None:
    """Skewed, turned, wrapped: the same layers, and they move along their own normal."""
    rng = np.random.default_rng(seed)
    matrix = np.array([[1, rng.integers(-1, 2), rng.integers(-1, 2)], [0, 1, rng.integers(-2, 3)], [0, 0, 1]])
    atoms = make_supercell(graphite(), matrix[rng.permutation(3)])
    atoms.rotate(float(rng.uniform(0, 180)), rng.normal(size=3), rotate_cell=True)
    atoms.positions += rng.normal(size=3)
    atoms.wrap()
    layers = find_layers(atoms)
    assert (layers.n_layers, round(layers.distance, 9), round(layers.area, 4)) == (2, 3.35, 5.2408)
    moved = layers.at(5.0)
    assert moved.get_volume() == pytest.approx(2 * 5.0 * layers.area, rel=1e-12)
    lj = LennardJones(sigma=3.0, epsilon=0.01, rc=9.0)
    expected = find_layers(graphite()).at(5.0)
    expected.calc = moved.calc = lj
    other = expected.get_potential_energy()
    assert moved.get_potential_energy() == pytest.approx(other, abs=1e-9)


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (bulk("Cu", cubic=True), "no layers found: .* 3D"),
        (graphene(a=2.46, vacuum=10), "a single layer in empty space"),
        (Atoms("C", cell=[3, 3, 3], pbc=[True, False, False]), "periodic in at least two"),
    ],
)
def test_what_has_no_layers_is_refused(atoms: Atoms, message: str) -> None:
    """With what was seen instead."""
    with pytest.raises(GeometryError, match=message):
        find_layers(atoms)


def test_a_curve_has_the_known_minimum() -> None:
    """x⁸ − 2x⁴ with x = 3/d: depth 1 at 3 Å."""
    layers = find_layers(two_sheets(3.2))
    points = list(interlayer_curve(layers, Between(), np.linspace(2.4, 9.0, 40)))
    found = well(layers, points)
    assert found.inside
    assert found.distance == pytest.approx(3.0, abs=2e-3)
    # A spline through points 0.17 Å apart.
    assert found.per_atom == pytest.approx(0.5, abs=5e-4)
    assert found.per_area == pytest.approx(1.0 / 4.0, abs=5e-4)
    assert not well(layers, [point for point in points if point.distance > 3.5]).inside
    with pytest.raises(ConfigError, match="must be positive"):
        list(interlayer_curve(layers, Between(), [-1.0]))


def test_relaxing_holds_the_mid_planes() -> None:
    """Buckled layers go flat, at the distance asked for, and the energy falls."""
    layers = find_layers(bilayer())
    layers.atoms.positions[0] += [0, 0, 0.1]
    lj = LennardJones(sigma=1.3, epsilon=0.3, rc=4.5)
    rigid, relaxed = (next(iter(interlayer_curve(layers, lj, [3.6], relax=relax))) for relax in (False, True))
    assert relaxed.steps > 0 and relaxed.energy < rigid.energy - 1e-3
    assert relaxed.distance == 3.6


def test_energy_apart_is_that_of_single_layers() -> None:
    """Lennard-Jones graphite: far apart the curve goes to zero."""
    layers = find_layers(graphite())
    lj = LennardJones(sigma=3.0, epsilon=0.01, rc=8.0)
    assert next(iter(interlayer_curve(layers, lj, [20.0]))).energy == pytest.approx(0.0, abs=1e-12)
    assert energy_apart(layers, lj) != 0


def labelled(path: Path, distances: list[float]) -> None:
    frames = []
    for d in distances:
        atoms = two_sheets(d)
        atoms.calc = Between()
        atoms.calc = SinglePointCalculator(atoms, energy=float(atoms.get_potential_energy()), forces=np.zeros((2, 3)))
        frames.append(atoms)
    write(path, frames)


def test_references_from_frames_and_tables(tmp_path: Path) -> None:
    """The same numbers either way; the model that made them has no error, in numbers, tables and pictures."""
    distances = [2.6, 2.8, 3.0, 3.3, 4.0, 6.0, 9.0]
    labelled(tmp_path / "frames.extxyz", distances[::-1])
    layers = find_layers(two_sheets(3.2))
    frames = read_reference(tmp_path / "frames.extxyz", layers)
    assert frames.distance.tolist() == pytest.approx(distances)
    lines = [f"{d},{1e3 * e}" for d, e in zip(frames.distance, frames.energy, strict=True)]
    (tmp_path / "table.csv").write_text("# a comment\ndistance_A,energy_meV_per_atom\n" + "\n".join(lines) + "\n")
    table = read_reference(tmp_path / "table.csv", layers)
    assert np.allclose(table.energy, frames.energy, atol=1e-12) and not table.frames
    for reference, allowed in ((frames, 1e-9), (table, 0.1)):
        grid = np.linspace(2.5, 9.0, 60)
        found = exfoliate(layers, Between(), grid, tmp_path / "out", reference=reference, slide=3)
        assert found.numbers["rmse_meV_per_atom"] < allowed
        assert found.numbers["tail_rmse_meV_per_atom"] < allowed
        assert found.numbers["reference_distance_A"] == pytest.approx(3.0)
        assert found.numbers["corrugation_meV_per_atom"] == pytest.approx(0.0, abs=1e-9)
    for picture in found.pictures:
        picture.draw()
    names = {path.name for path in (*found.files, *(picture.path for picture in found.pictures))}
    assert names == {"curve.csv", "curve.png", "reference.csv", "sliding.csv", "sliding.png"}
    assert all((tmp_path / "out" / name).stat().st_size > 100 for name in names)


def test_references_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """Which frame, and why."""
    layers = find_layers(two_sheets(3.2))
    for name, frame, message in (
        ("other", Atoms("C2", cell=[2, 2, 9], pbc=True), "C2, not CSi"),
        ("unlabelled", two_sheets(3.0), "has no energy"),
        ("turned", two_sheets(3.0)[::-1], "another order"),
    ):
        if name != "unlabelled":
            frame.calc = SinglePointCalculator(frame, energy=0.0)
        write(tmp_path / f"{name}.extxyz", frame)
        with pytest.raises(DataError, match=message):
            read_reference(tmp_path / f"{name}.extxyz", layers)
    (tmp_path / "bad.csv").write_text("d,e\n1,2\n")
    with pytest.raises(DataError, match="expected the columns distance_A"):
        read_reference(tmp_path / "bad.csv", layers)
    wide = graphite()
    wide.set_cell([2.6, 2.6, 6.7, 90, 90, 120], scale_atoms=True)
    wide.calc = SinglePointCalculator(wide, energy=0.0)
    write(tmp_path / "wide.extxyz", wide)
    with pytest.raises(DataError, match="no lattice plane has the area"):
        read_reference(tmp_path / "wide.extxyz", find_layers(graphite()))


def test_sliding_knows_graphite() -> None:
    """AA is worst and AB and BA are equal for Lennard-Jones; with relax, every stacking finds a lower energy."""
    layers = find_layers(graphite())
    lj = LennardJones(sigma=3.4, epsilon=0.003, rc=12.0)
    energy = np.array([one.energy for one in sliding_map(layers, lj, 3, distance=3.35)]).reshape(3, 3)
    flat = np.sort(energy.ravel())
    assert flat[1] - flat[0] < 1e-9 and flat[-1] - flat[0] > 1e-4
    relaxed = [one.energy for one in sliding_map(layers, lj, 3, distance=3.35, relax=True)]
    assert (np.array(relaxed) <= energy.ravel() + 1e-9).all()


@pytest.mark.parametrize("height", [15.0, 40.0])
def test_the_stress_of_a_sheet_is_a_force_per_length(height: float) -> None:
    """τ = (1/A) ∂E/∂ε against differences, whatever the cell's height, for a turned sheet too."""
    sheet = graphene(a=1.45, vacuum=0)
    sheet.set_cell([*sheet.cell.array[:2] * [[1.02], [0.98]], [0.3, 0.2, height]])
    sheet.pbc = [True, True, False]
    sheet.calc = LennardJones(sigma=1.0, epsilon=0.3, rc=3.0)
    volume = sheet.get_volume()
    area = float(np.linalg.norm(np.cross(*sheet.cell.array[:2])))
    step, expected = 1e-5, np.zeros((2, 2))
    for a, b in ((0, 0), (1, 1), (0, 1)):
        ends = []
        for side in (-step, step):
            strain = np.eye(3)
            strain[a, b] += side / 2
            strain[b, a] += side / 2
            strained = sheet.copy()
            strained.set_cell(sheet.cell.array @ strain, scale_atoms=True)
            strained.calc = LennardJones(sigma=1.0, epsilon=0.3, rc=3.0)
            ends.append(strained.get_potential_energy())
        expected[a, b] = expected[b, a] = 16.02176634 * (ends[1] - ends[0]) / (2 * step) / area
    found = sheet_stress(sheet, sheet.get_stress())
    assert np.allclose(found, expected, rtol=1e-6, atol=1e-8)
    assert volume == pytest.approx(area * height)
    before = sheet.get_stress(voigt=False)
    sheet.rotate(50, (1, 1, 0), rotate_cell=True)
    assert np.allclose(sheet_stress(sheet, sheet.get_stress(voigt=False)), found, atol=1e-7)
    assert not np.allclose(sheet.get_stress(voigt=False), before, atol=1e-4)
    with pytest.raises(GeometryError, match="exactly two directions"):
        sheet_stress(graphite(), np.zeros(6))


def test_points_sort_by_distance() -> None:
    """A well does not depend on the order of its points."""
    layers = find_layers(two_sheets(3.2))
    points = [Point(d, (3 / d) ** 8 - 2 * (3 / d) ** 4) for d in (4.0, 2.8, 3.1, 2.6, 3.5)]
    assert well(layers, points) == well(layers, sorted(points))
    assert math.isfinite(well(layers, points).per_area)
