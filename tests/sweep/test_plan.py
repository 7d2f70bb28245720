"""Which points a sweep has, and that they can be compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ase.io
import msgspec
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlanet.data.read import read_frames
from mlanet.errors import ConfigError
from mlanet.sweep.config import SweepConfig
from mlanet.sweep.folder import open_folder
from mlanet.sweep.parts import divide
from mlanet.sweep.plan import make_plan, model_config, settled, train_config
from mlanet.training.sets import load_split

Settings = Callable[..., SweepConfig]


def test_every_combination_once(settings: Settings) -> None:
    """Small sizes first; names are unique folders."""
    config = settings(presets=["mlanet_l2", "mlanet_l1_paper"], l_max=[3, 1], sizes=[8, 4], seeds=[0, 7])
    points = make_plan(config, 16).points
    assert len(points) == len(set(points)) == len({point.name for point in points}) == 16
    assert [point.size for point in points] == sorted(point.size for point in points)
    assert {point.l_max for point in points} == {1, 3}


def test_l_max_changes_the_irreps_only() -> None:
    """Multiplicity and every switch are the preset's; parities are those of spherical harmonics."""
    config = msgspec.convert({"data": {"files": ["x"]}, "budget": {"steps": 1}}, SweepConfig)
    own = model_config(config, "mlanet_l2_fast", None)
    found = model_config(config, "mlanet_l2_fast", 3)
    assert found.irreps == "32x0e+32x1o+32x2e+32x3o" and found.l_max == 3  # type: ignore[union-attr]
    assert msgspec.structs.replace(found, irreps=own.irreps) == own  # type: ignore[union-attr]
    wide = msgspec.structs.replace(config, model={"channels": 8, "layers": 1})
    assert model_config(wide, "mlanet_l2_fast", 1).irreps == "8x0e+8x1o"  # type: ignore[union-attr]
    assert model_config(wide, "leignn", None).channels == 8


def test_fixed_l_and_equal_models_come_once(settings: Settings) -> None:
    """LEIGNN has no l to choose; presets that differ in l only would repeat each other. Both are said."""
    plan = make_plan(settings(presets=["leignn", "mlanet_l1", "mlanet_l2"], l_max=[1, 2], sizes=[4]), 16)
    assert [point.model for point in plan.points] == ["leignn, l = 1", "mlanet_l1, l = 1", "mlanet_l1, l = 2"]
    assert len(plan.remarks) == 3 and "by construction" in plan.remarks[0] and "same model" in plan.remarks[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": [4, 17]}, "17 structures are asked for, the training part has 16"),
        ({"l_max": [4]}, "irreps '.*4x4e' are not supported"),
        ({"presets": ["mlanet_l22"]}, "did you mean 'mlanet_l2'"),
        ({"presets": ["leignn"], "model": {"hidden": 3}}, "preset leignn .*unknown key 'hidden'"),
        ({"model": {"channels": "many"}}, "positive whole number"),
    ],
)
def test_mistakes_are_told_before_anything_runs(settings: Settings, changes: dict, message: str) -> None:
    """What cannot be is an error of the plan, not of a point after hours."""
    with pytest.raises(ConfigError, match=message):
        make_plan(settings(**changes), 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [1, 1]}, "1 stands twice"),
        ({"presets": []}, "at least one"),
        ({"sises": [1]}, "did you mean 'sizes'"),
        ({"budget": {"steps": 5, "minutes": 1.0}}, "exactly one"),
        ({"data": {"files": ["x"], "test_fraction": 0.6, "valid_fraction": 0.5}}, "nothing to train on"),
    ],
)
def test_settings_are_strict(settings: Settings, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(**changes)


def test_smaller_sets_are_parts_of_larger_ones(settings: Settings, tmp_path: Path) -> None:
    """Of any two sizes the smaller training set lies in the larger; validation set and test part are the same, and
    nothing stands on two sides."""
    started = open_folder(settings(sizes=[3, 7, 16]), 1)
    folder = tmp_path / "sweep"
    sets = []
    for point in started.plan.points:
        training, validation = load_split(train_config(started.used, point, folder).data, 3.0)
        sets.append({sample.where for sample in training})
        assert len(validation) == 2
    assert [len(one) for one in sets] == [3, 7, 16]
    assert sets[0] < sets[1] < sets[2]
    parts = [
        {frame.atoms.positions.tobytes() for frame in read_frames(folder / "data" / f"{name}.extxyz")}
        for name in ("train", "valid", "test")
    ]
    assert [len(part) for part in parts] == [16, 2, 2] and len(set.union(*parts)) == 20


def test_lone_atoms_stay_in_training(settings: Settings, labelled: str, tmp_path: Path) -> None:
    """They carry reference energies, are no structures to be judged by, and do not count for sizes."""
    atom = Atoms("Cu")
    atom.calc = SinglePointCalculator(atom, energy=-0.1, forces=[[0, 0, 0]])
    ase.io.write(tmp_path / "atom.extxyz", atom, format="extxyz")
    data = settings().data
    for seed in range(5):
        parts = divide(msgspec.structs.replace(data, files=(str(tmp_path / "atom.extxyz"), labelled), seed=seed))
        assert [len(frame.atoms) for frame in parts.train].count(1) == 1
        assert (len(parts.train), parts.available, len(parts.valid), len(parts.test)) == (17, 16, 2, 2)


def test_test_files_leave_the_rest_for_training(settings: Settings, labelled: str) -> None:
    """With a test file nothing else is held out but the validation part."""
    data = msgspec.structs.replace(settings().data, test=(labelled,))
    assert [len(part) for part in divide(data)] == [18, 2, 20]
    assert [len(part) for part in divide(msgspec.structs.replace(data, valid_fraction=0.0))] == [20, 0, 20]


def test_validation_costs_a_tenth(settings: Settings) -> None:
    """As many structures are validated as a tenth of those trained on, and five times at least in all."""
    config = settings(budget={"steps": 10_000, "max_structures": 4})
    assert settled(config, 40, 1).budget.validate_every == 100
    assert settled(settings(budget={"minutes": 1.0, "max_structures": 4}), 40, 1).budget.validate_every == 100
    assert settled(settings(run={}), 40, 3).run.threads == 3 and settled(settings(), 40, 3).run.threads == 1
    assert settled(settings(), 40, 1).budget.validate_every == 1
    given = settings(budget={"steps": 6, "validate_every": 4})
    assert settled(given, 40, 1).budget.validate_every == 4
