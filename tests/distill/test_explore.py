"""Structures that the student moves before the teacher is asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read, write

from mlanet import MLANetCalculator
from mlanet.config import parse, read_yaml
from mlanet.distill.config import DistillConfig, Recipe
from mlanet.distill.explore import explorer
from mlanet.distill.rounds import distill


def rattled(seed: int) -> Atoms:
    atoms = bulk("NaCl", "rocksalt", 5.9)
    atoms.rattle(0.15, seed=seed)
    return atoms


def test_a_relaxation_ends_anywhere_on_its_way_down() -> None:
    explore = explorer("universal")
    student = MLANetCalculator("universal")
    fallen = []
    for seed in range(6):
        start = rattled(seed)
        moved = explore(start.copy(), Recipe(share=1, relax=12), np.random.default_rng(seed))
        assert moved is not None
        assert not moved.info
        assert moved.calc is None
        fallen.append(student.get_potential_energy(start) - student.get_potential_energy(moved))
    assert min(fallen) > -1e-6
    assert max(fallen) > 0.05, "atoms and cell went downhill"
    assert len({round(value, 4) for value in fallen}) > 3


def test_dynamics_move_atoms_and_an_unknown_element_stays_as_it_is() -> None:
    explore = explorer("universal")
    rng = np.random.default_rng(0)
    hot = Recipe(share=1, explore=10, temperature=2000)
    moved = explore(rattled(0), hot, rng)
    assert moved is not None
    assert np.abs(moved.positions - rattled(0).positions).max() > 0.01
    assert np.array_equal(moved.cell.array, rattled(0).cell.array)
    unknown = bulk("At", "fcc", 4.5)
    same = explore(unknown, hot, rng)
    assert same is not None
    assert same == unknown


@pytest.mark.parametrize("path", ["relax", "explore"])
def test_atoms_that_the_student_drives_together_are_no_structure(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlanet.distill.explore.apart", lambda atoms: False)
    recipe = Recipe(share=1, **{path: 5})
    assert explorer("universal")(rattled(0), recipe, np.random.default_rng(1)) is None


def test_a_distillation_goes_on_from_a_student(tmp_path: Path) -> None:
    """The first round explores with it, and its training starts there."""
    compressed = [bulk(metal, "fcc", 3.5, cubic=True) for metal in ("Cu", "Pd", "Au", "Ag", "Pt")]
    compressed += [bulk(pair, "cesiumchloride", 2.9) for pair in ("CuPd", "AuPd", "CuAu", "PdAg")]
    write(tmp_path / "seeds.extxyz", compressed)
    keys = {
        "teacher": {"name": "emt"},
        "seeds": {"crystals": {"files": [str(tmp_path / "seeds.extxyz")]}},
        "recipes": {"near": {"share": 1, "rattle": [0, 0.1], "relax": 3}},
        "labels": {"count": 12},
        "valid_share": 0.6,
        "student": {
            "model": {"model": "mlanet", "irreps": "8x0e+8x1o", "layers": 1, "heads": 2, "hidden": 8, "cutoff": 4.0},
            "optimizer": {"lr": 0.03},
            "schedule": {"warmup_steps": 0},
            "budget": {"steps": 12},
        },
    }
    first = distill(parse(keys | {"folder": str(tmp_path / "first")}, DistillConfig, ""), lambda text: None)
    assert first is not None
    onwards = parse(keys | {"folder": str(tmp_path / "second"), "start_from": str(first.model)}, DistillConfig, "")
    second = distill(onwards, lambda text: None)
    assert second is not None
    volumes = [
        np.array([atoms.get_volume() for atoms in read(tmp_path / name / "round-0" / "labels.extxyz", ":")])
        for name in ("first", "second")
    ]
    given = {round(atoms.get_volume(), 6) for atoms in compressed}
    assert set(np.round(volumes[0], 6)) <= given, "without a student nothing relaxes"
    assert len(set(np.round(volumes[1], 6)) - given) > 3
    assert read_yaml(tmp_path / "second" / "round-0" / "training" / "config.yaml")["start_from"] == str(first.model)
