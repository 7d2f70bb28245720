"""`mlanet exfoliate` and `mlanet relax`, from a structure to tables and pictures, and what they refuse."""

from __future__ import annotations

import csv
import itertools
import re
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from mlanet.checkpoint import save_model
from mlanet.config import parse
from mlanet.models import ModelConfig
from mlanet.potential import Potential
from mlanet.statistics import Statistics
from mlanet.workflows.lbfgs import LBFGS

MODEL = ("-m", "elemental")


def layered(distance: float = 4.4) -> Atoms:
    """Two square sheets of molybdenum per cell."""
    return Atoms("Mo2", [[0, 0, 0.1], [0, 0, 0.1 + distance]], cell=[2.6, 2.6, 2 * distance], pbc=True)


@pytest.mark.usefixtures("drawn")
def test_exfoliation_from_a_file_to_pictures(mlanet) -> None:
    """Curve, reference and sliding; numbers agree with the tables."""
    ase.io.write("layers.extxyz", layered())
    with open("reference.csv", "w") as file:
        file.write("distance_A,energy_meV_per_atom\n4.0,-30\n4.5,-20\n6.0,-5\n9.0,0\n")
    words = ("exfoliate", "layers.extxyz", *MODEL, "-o", "out", "--distances", "3.6:10:9")
    given = mlanet(*words, "-r", "reference.csv", "--slide", 2, "--json")
    assert given.status == 0
    names = {Path(path).name for path in (*given.document["files"], *given.document["pictures"])}
    assert names == {"curve.csv", "curve.png", "reference.csv", "sliding.csv", "sliding.png"}
    with open("out/curve.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["distance_A"]) for row in rows] == pytest.approx(list(np.linspace(3.6, 10, 9)))
    # The model has no long-range term: beyond its cutoff of 5 Å nothing is felt.
    assert all(abs(float(row["energy_meV_per_atom"])) < 1e-6 for row in rows if float(row["distance_A"]) > 6)
    assert abs(float(rows[0]["energy_meV_per_atom"])) > 1
    assert given.document["layers"] == 2 and given.document["tail_rmse_meV_per_atom"] > 0
    people = mlanet(*words)
    assert people.status == 0
    assert "2 layers per cell of a bulk crystal" in people.out and "binding energy, J/m²" in people.out
    assert "wrote out/curve.png" in people.err


def test_exfoliation_refuses_what_it_cannot_do(mlanet) -> None:
    """No layers, a bad grid, a missing file."""
    ase.io.write("mo.extxyz", bulk("Mo", cubic=True))
    ase.io.write("layers.extxyz", layered())
    assert "no layers found" in mlanet("exfoliate", "mo.extxyz", *MODEL).err
    bad = mlanet("exfoliate", "layers.extxyz", *MODEL, "--distances", "5:3:x")
    assert bad.status == 2 and "3:12:40" in bad.err
    assert mlanet("exfoliate", "none.extxyz", *MODEL).status == 2
    assert mlanet("exfoliate", "layers.extxyz", *MODEL, "-r", "layers.extxyz").status == 2


@pytest.mark.slow
def test_relaxation_of_a_crystal_with_its_cell(mlanet) -> None:
    """Molybdenum squeezed by 3 % finds the same lattice as copper stretched; forces and stress are gone."""
    lengths = []
    for factor in (0.97, 1.02):
        atoms = bulk("Mo", cubic=True)
        atoms.set_cell(atoms.cell * factor, scale_atoms=True)
        atoms.rattle(0.05, seed=1)
        ase.io.write("mo.extxyz", atoms)
        given = mlanet("relax", "mo.extxyz", *MODEL, "--cell", "full", "--fmax", 1e-4, "--json")
        assert given.status == 0 and given.document["converged"]
        assert given.document["max_force_eV_per_A"] < 1e-4
        assert max(map(abs, given.document["stress_GPa"])) < 1e-3
        lengths.append(ase.io.read("mo_relaxed.extxyz").cell.lengths())
    assert np.allclose(lengths[0], lengths[1], atol=1e-3)
    original = ase.io.read("mo.extxyz")
    assert isinstance(original, Atoms) and np.allclose(original.cell.lengths(), 3.15 * 1.02)


def test_relaxing_under_pressure_makes_it_smaller(mlanet) -> None:
    """Volume at 5 GPa against 0, and the stress is −5 GPa."""
    ase.io.write("mo.extxyz", bulk("Mo", cubic=True))
    volumes = []
    for pressure in (0, 5):
        words = ("relax", "mo.extxyz", *MODEL, "--cell", "volume", "--fmax", 1e-3, "-o", "out.extxyz")
        given = mlanet(*words, "--pressure", pressure, "--json")
        assert given.document["converged"]
        assert np.mean(given.document["stress_GPa"][:3]) == pytest.approx(-pressure, abs=0.05)
        volumes.append(ase.io.read("out.extxyz").get_volume())
    assert volumes[1] < 0.99 * volumes[0]


def test_a_sheet_keeps_its_empty_space(mlanet) -> None:
    """Only in-plane strains; the stress is also given per length, and vanishes."""
    slab = Atoms("Mo", [[0, 0, 5]], cell=[[2.7, 0, 0], [1.35, 2.34, 0], [0.4, 0, 17.0]], pbc=[True, True, False])
    ase.io.write("sheet.extxyz", slab)
    given = mlanet("relax", "sheet.extxyz", *MODEL, "--cell", "full", "--fmax", 1e-4, "--json")
    assert given.status == 0 and given.document["converged"]
    relaxed = ase.io.read("sheet_relaxed.extxyz")
    assert np.allclose(relaxed.cell[2], slab.cell[2] * [1, 1, 1], atol=0.2)
    assert relaxed.cell[2, 2] == pytest.approx(17.0, abs=1e-12)
    assert not np.allclose(relaxed.cell[0], slab.cell[0], atol=1e-3)
    assert np.abs(given.document["sheet_stress_N_per_m"]).max() < 0.01
    slab.rotate(30, "x", rotate_cell=True)
    ase.io.write("turned.extxyz", slab)
    assert "Cartesian" in mlanet("relax", "turned.extxyz", *MODEL, "--cell", "full").err


def test_relaxation_tells_its_steps_and_all_digits(mlanet, tmp_path: Path) -> None:
    """A total of −240 000 eV keeps its millielectronvolts, in the result and in every step."""
    config = parse({"model": "leignn", "channels": 8, "layers": 1, "cutoff": 4.0}, ModelConfig, "")
    save_model(Potential.build(config, Statistics((29,), (-60000.0,), (1.0,), 12.0)), tmp_path / "heavy.safetensors")
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    ase.io.write("cu.extxyz", atoms)
    words = ("relax", "cu.extxyz", "-m", "heavy.safetensors", "--cell", "full", "--steps", 4, "--fmax", 1e-7)
    document = mlanet(*words, "--json").document
    given = mlanet(*words)
    assert f"{document['energy_eV']:.6f}" in given.out and document["energy_eV"] == pytest.approx(-240000, abs=100)
    assert "  ".join(f"{one:.5f}" for one in document["cell_A_deg"]) in given.out
    steps = [line.split() for line in given.err.splitlines() if re.match(r" +\d+ ", line)]
    assert [int(number) for number, *_ in steps] == [0, 1, 2, 3, 4]
    assert steps[-1][1] == f"{document['energy_eV']:.6f}" and float(steps[0][2]) > 0
    assert "max force, eV/Å" in given.out and re.search(r"stress, GPa +-?\d+\.\d{4}  ", given.out)
    assert "largest force, eV/Å, or stress as one\n" in given.err and not re.search(r"\b0e-|e-\d\d", given.out)
    assert "largest force, eV/Å\n" in mlanet(*words[:4], "--steps", 1).err


def test_a_relaxation_stopped_by_ctrl_c_keeps_the_structure(mlanet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 130, and the file holds the atoms as they were then."""

    step, steps = LBFGS.step, itertools.count()

    def stopped(*words: object) -> None:
        if next(steps) == 2:
            raise KeyboardInterrupt
        step(*words)

    monkeypatch.setattr("mlanet.workflows.lbfgs.LBFGS.step", stopped)
    atoms = bulk("Mo", cubic=True)
    atoms.rattle(0.1, seed=2)
    ase.io.write("mo.extxyz", atoms)
    given = mlanet("relax", "mo.extxyz", *MODEL)
    assert given.status == 130 and "go on from mo_relaxed.extxyz" in given.err
    assert len(ase.io.read("mo_relaxed.extxyz")) == 2


def test_relaxation_that_does_not_converge_says_so(mlanet) -> None:
    """Exit status 1, with the structure so far."""
    atoms = bulk("Mo", cubic=True)
    atoms.rattle(0.1, seed=2)
    ase.io.write("mo.extxyz", atoms)
    given = mlanet("relax", "mo.extxyz", *MODEL, "--steps", 2, "--fmax", 1e-6)
    assert given.status == 1 and "not converged after 2 steps" in given.err
    assert Path("mo_relaxed.extxyz").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--cell", "fixed", "--pressure", 1), "let it change"),
        (("-o", "mo.extxyz"), "is an input"),
    ],
)
def test_relaxation_refuses(mlanet, words: tuple[object, ...], message: str) -> None:
    """Before anything is written."""
    ase.io.write("mo.extxyz", bulk("Mo", cubic=True))
    given = mlanet("relax", "mo.extxyz", *MODEL, *words)
    assert given.status != 0 and message in given.err


def test_molecules_have_no_cell_to_relax(mlanet) -> None:
    """And pressure on a sheet has no meaning."""
    atoms = Atoms("Mo2", [[0, 0, 0], [2.3, 0, 0]])
    atoms.calc = SinglePointCalculator(atoms, energy=0.0)
    ase.io.write("dimer.extxyz", atoms)
    assert "without periodic directions" in mlanet("relax", "dimer.extxyz", *MODEL, "--cell", "full").err
    sheet = Atoms("Mo", cell=[2.5, 2.5, 9], pbc=[True, True, False])
    ase.io.write("sheet.extxyz", sheet)
    words = ("relax", "sheet.extxyz", *MODEL, "--cell", "full", "--pressure", 1)
    assert "empty space" in mlanet(*words).err
    assert "three periodic" in mlanet(*words[:-2], "--cell", "shape").err
