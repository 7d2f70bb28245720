"""A run learns, repeats itself to the bit, stops when it should, and loses nothing when something goes wrong."""

from __future__ import annotations

import csv
import errno
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlanet.checkpoint import load_model, read_model_header
from mlanet.data.samples import Sample
from mlanet.errors import ConfigError, DataError, DivergedError, MLANetError
from mlanet.metrics import Errors
from mlanet.training import trainer
from mlanet.training.config import TrainConfig
from mlanet.training.trainer import load_split, plan, train

Settings = Callable[..., TrainConfig]


@pytest.mark.slow
def test_four_structures_are_learnt_by_heart(settings: Settings, write: Callable[..., str], four: list[Atoms]) -> None:
    """Energy, forces and stress of four structures are reproduced: the signs, scales and gradients belong together."""
    file = write(four)
    config = settings(
        data={"train": [file], "valid": [file]},
        budget={"steps": 800, "max_structures": 4, "validate_every": 800},
        optimizer={"lr": 1e-2, "ema": 0.9},
        loss={"stress": 100.0},
    )
    best = train(config, progress=False).best
    forces = np.concatenate([atoms.get_forces().ravel() for atoms in four])
    stress = np.concatenate([atoms.get_stress().ravel() for atoms in four])
    assert best["valid_energy_mae"] < 2e-3
    assert best["valid_forces_mae"] < 0.08 * np.abs(forces).mean()
    assert best["valid_stress_mae"] < 0.15 * np.abs(stress).mean()


@pytest.mark.usefixtures("drawn")
def test_a_run_leaves_everything_behind(settings: Settings) -> None:
    """Model, checkpoint, metrics, log, resolved settings and picture, each readable and telling one story."""
    config = settings(run={"tensorboard": True})
    result = train(config, progress=False)
    names = {path.name for path in result.folder.iterdir()}
    wanted = {"model.safetensors", "checkpoint.safetensors", "metrics.csv", "log.jsonl", "config.yaml"}
    assert wanted | {"learning_curve.png", "tensorboard"} <= names
    assert not [name for name in names if name.endswith(".partial")]
    rows = list(csv.DictReader((result.folder / "metrics.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [4, 8, 12] and result.steps == 12 and result.reason == "budget spent"
    events = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
    assert [one["event"] for one in events] == ["started", *["validation"] * 3, "finished"]
    assert events[0]["settings"]["optimizer"]["lr"] == config.optimizer.lr and "torch" in events[0]["machine"]
    header = read_model_header(result.model)
    assert header.card["validation"]["valid_forces_mae"] == result.best["valid_forces_mae"]
    assert (result.folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_two_runs_are_equal_to_the_bit(settings: Settings, tmp_path: Path, state_of: Callable[..., Any]) -> None:
    """The same settings give the same weights, average, optimizer and metrics; another seed gives others."""
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(123 if name == "b" else 7)
        train(settings(run={"folder": str(tmp_path / name), "seed": seed}), progress=False)
    (first, story), (second, again), (other, _) = (state_of(tmp_path / name) for name in "abc")
    assert story == again and first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_deterministic_mode_ends_with_the_run(settings: Settings) -> None:
    """`deterministic: true` trains, and torch's own setting is as before."""
    train(settings(run={"deterministic": True}, budget={"steps": 2}), progress=False)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_run_stops_when_nothing_gets_better(settings: Settings) -> None:
    """With a rate of nearly 0, `early_stop` validations without a new best end the run before its budget."""
    config = settings(
        budget={"steps": 100, "validate_every": 1, "early_stop": 3},
        optimizer={"lr": 1e-30, "ema": 0.0},
        schedule={"kind": "constant", "min_lr": 0.0, "warmup_steps": 0},
    )
    result = train(config, progress=False)
    assert result.reason == "no progress" and result.steps == 4


def test_plateau_waits_as_long_as_it_says(settings: Settings) -> None:
    """The rate falls by `factor` after `patience` validations without a new best."""
    config = settings(
        budget={"steps": 8, "validate_every": 1},
        optimizer={"lr": 1e-30, "ema": 0.0},
        schedule={"kind": "plateau", "min_lr": 0.0, "warmup_steps": 0, "patience": 2, "factor": 0.5},
    )
    rates = _column(train(config, progress=False).folder, "lr")
    # Validation 1 sets the best, 2 and 3 bring nothing: the step before validation 4 is the first with half the rate.
    assert [rate / 1e-30 for rate in rates[:6]] == pytest.approx([1, 1, 1, 0.5, 0.5, 0.25])


def test_minutes_are_a_budget(settings: Settings) -> None:
    """A run of 0.02 minutes takes a little more than 1.2 s of loop."""
    result = train(settings(budget={"minutes": 0.02}), progress=False)
    assert result.reason == "budget spent" and _column(result.folder, "minutes")[-1] >= 0.02


def test_processor_time_is_that_of_steps_alone(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validations are not in it, and a resumed run goes on counting."""
    ticks = itertools.count()
    monkeypatch.setattr(time, "process_time", lambda: float(next(ticks)))
    evaluate = trainer.evaluate

    def slow(*given: Any) -> Errors:
        for _ in range(1000):
            time.process_time()
        return evaluate(*given)

    monkeypatch.setattr(trainer, "evaluate", slow)
    train(settings(budget={"steps": 2, "validate_every": 1}), progress=False)
    result = train(settings(budget={"steps": 4, "validate_every": 2}), resume=True, progress=False)
    assert [60 * one for one in _column(result.folder, "processor_minutes")] == pytest.approx([1, 2, 4])


def test_nothing_is_overwritten(settings: Settings, tmp_path: Path) -> None:
    """A folder with a run in it is refused, and stays as it is."""
    config = settings(budget={"steps": 2})
    train(config, progress=False)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    with pytest.raises(ConfigError, match=r"holds a run already.*--resume"):
        train(config, progress=False)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}


def test_a_model_without_a_checkpoint_is_not_overwritten(settings: Settings, tmp_path: Path) -> None:
    """A folder that holds a trained model, its checkpoint thrown away to save space, is refused as well."""
    config = settings(budget={"steps": 2})
    train(config, progress=False)
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    with pytest.raises(MLANetError):
        train(config, progress=False)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_the_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, seven: str, tmp_path: Path
) -> None:
    """The error names step and frames, the exit status is its own, and the checkpoint is the one before."""
    import mlanet.training.step as step

    right, calls = step.loss, []

    def wrong(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        return right(*arguments) * (float("nan") if len(calls) == 6 else 1.0)

    monkeypatch.setattr(step, "loss", wrong)
    with pytest.raises(DivergedError, match=r"step 5: .*seven\.extxyz.*last checkpoint is intact") as caught:
        train(settings(run={"checkpoint_every": 1}), progress=False)
    named = [f"frame {index}" for index in range(7) if f"frame {index}" in str(caught.value)]
    assert 1 <= len(named) <= 2 and caught.value.exit_status != 0
    monkeypatch.setattr(step, "loss", right)
    assert train(settings(run={"checkpoint_every": 1}), resume=True, progress=False).steps == 12
    assert all(bool(one.isfinite().all()) for one in load_model(tmp_path / "run/model.safetensors").parameters())


def test_a_full_disk_costs_nothing_that_was_saved(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state_of: Callable[..., Any]
) -> None:
    """No space at some later save: a clear error with status 3, the older checkpoint whole, and the run can go on."""
    config = settings(run={"checkpoint_every": 1})
    right, saved = os.fsync, []

    def full(descriptor: int) -> None:
        saved.append(descriptor)
        if len(saved) > 25:
            raise OSError(errno.ENOSPC, "No space left on device")
        right(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MLANetError, match="No space left on device") as caught:
        train(config, progress=False)
    assert caught.value.exit_status == 3
    monkeypatch.setattr(os, "fsync", right)
    assert 0 < state_of(tmp_path / "run")[1]["step"] < 12
    assert not list((tmp_path / "run").glob(".*.partial"))
    assert train(config, resume=True, progress=False).steps == 12


def test_a_folder_that_cannot_be_made_is_an_error(settings: Settings, tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "run").write_text("mine")
    with pytest.raises(MLANetError, match="run"):
        train(settings(), progress=False)
    assert (tmp_path / "run").read_text() == "mine"


def test_training_without_validation(settings: Settings, seven: str) -> None:
    """`valid_fraction: 0` uses every structure to train, and still saves a model."""
    config = settings(data={"train": [seven], "valid": [], "valid_fraction": 0.0}, budget={"steps": 2})
    training, validation = load_split(config.data, 3.5)
    assert len(training) == 7 and not validation
    assert train(config, progress=False).model.is_file()


def _numbers_of(samples: list[Sample]) -> list[int]:
    return [int(sample.where.rsplit("frame ", 1)[1].split()[0].rstrip(",:")) for sample in samples]


def test_a_training_limit_draws_from_the_whole_set(settings: Settings, write: Callable[..., str]) -> None:
    """The structures of a learning curve are drawn by seed from all over the files, not taken from their beginning;
    a smaller set is part of a larger one; validation does not change."""
    file = write([_lone("Cu", 0.01 * k, cell=3.0) for k in range(60)])
    sets = {}
    for limit in (6, 12, None):
        config = settings(data={"train": [file], "valid": [], "train_limit": limit, "valid_fraction": 0.2})
        training, validation = load_split(config.data, 3.5)
        sets[limit] = (_numbers_of(training), _numbers_of(validation))
    assert sets[6][1] == sets[12][1] == sets[None][1] and len(sets[6][0]) == 6
    assert set(sets[6][0]) < set(sets[12][0]) < set(sets[None][0])
    assert sorted(sets[12][0]) != sorted(sets[None][0])[:12]
    named = settings(data={"train": [file], "valid": [file], "train_limit": 12})
    assert sorted(_numbers_of(load_split(named.data, 3.5)[0])) != list(range(12))


def test_more_than_there_is_cannot_be_asked_for(settings: Settings) -> None:
    """A limit above the number of training structures is an error: a learning curve's point would lie."""
    with pytest.raises(MLANetError, match="train_limit"):
        load_split(settings(data={"train_limit": 8}).data, 3.5)


def test_reference_atoms_are_never_set_aside(settings: Settings, write: Callable[..., str], four: list[Atoms]) -> None:
    """Isolated atoms carry references; a split must not move them to validation."""
    file = write([_lone("Cu", -3.0), _lone("Al", -2.0), *four])
    for seed in range(8):
        data = {"train": [file], "valid": [], "valid_fraction": 0.4, "seed": seed}
        training, _ = load_split(settings(data=data).data, 3.5)
        assert sum(sample.graph.n_atoms == 1 for sample in training) == 2


def test_an_element_that_only_validation_has_is_found_before_the_first_step(
    settings: Settings, write: Callable[..., str], seven: str, tmp_path: Path
) -> None:
    """The error names element and frame, and comes at once, not after an epoch."""
    file = write([_lone("Cu", -3.0), _lone("Ni", -4.0)], "other.extxyz")
    with pytest.raises(MLANetError, match=r"other\.extxyz.*Ni"):
        train(settings(data={"train": [seven], "valid": [file], "require": ["energy"]}), progress=False)
    assert not (tmp_path / "run" / "metrics.csv").exists()


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_an_error_of_the_configuration(settings: Settings, device: str) -> None:
    """Not a traceback, and before hours of reading."""
    with pytest.raises(ConfigError, match=device):
        train(settings(run={"device": device}), progress=False)


def test_tensorboard_that_is_not_installed_is_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match="tensorboard"):
        train(settings(run={"tensorboard": True}), progress=False)


def test_a_label_that_is_nowhere_is_an_error(settings: Settings, write: Callable[..., str], four: list[Atoms]) -> None:
    """Required forces that no frame has."""
    for atoms in four:
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy())
    file = write(four)
    with pytest.raises(DataError, match="forces"):
        train(settings(data={"train": [file], "valid": [file]}), progress=False)


def test_energies_alone_can_be_trained_on(settings: Settings, write: Callable[..., str], four: list[Atoms]) -> None:
    """Some frames without forces, others without stress: every label counts where it is."""
    for index, atoms in enumerate(four):
        kept = {"energy": atoms.get_potential_energy()} | ({"forces": atoms.get_forces()} if index == 0 else {})
        atoms.calc = SinglePointCalculator(atoms, **kept)
    file = write(four)
    result = train(settings(data={"train": [file], "valid": [file]}), progress=False)
    assert "valid_forces_mae" in result.best and "valid_stress_mae" not in result.best
    assert all(bool(one.isfinite().all()) for one in load_model(result.model).parameters())


def test_sizes_are_known_without_training(settings: Settings, tmp_path: Path) -> None:
    """The plan counts structures, atoms, edges, parameters and batches, and makes no folder."""
    sizes = plan(settings())
    assert sizes["training structures"] == 7 and sizes["training atoms"] == 4 * 4 + 3 * 8
    assert sizes["batches per epoch"] == 4
    result = train(settings(budget={"steps": 1}), progress=False)
    assert sizes["parameters"] == read_model_header(result.model).parameters
    assert sizes["training edges"] == sum(s.graph.n_edges for s in load_split(settings().data, 3.5)[0])


def test_the_plan_of_an_epoch_is_not_made_at_every_step(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shuffling and packing 10⁵ structures takes longer than a step; it is done a few times per epoch at most."""
    from mlanet.data.loader import Loader

    right, calls = Loader.plan, []

    def counted(self: Loader, epoch: int) -> list[list[int]]:
        calls.append(epoch)
        return right(self, epoch)

    monkeypatch.setattr(Loader, "plan", counted)
    train(settings(budget={"epochs": 3, "max_structures": 1}), progress=False)
    assert calls.count(1) <= 3


def _column(folder: Path, name: str) -> list[float]:
    rows = csv.DictReader((folder / "metrics.csv").read_text().splitlines())
    return [float(row[name]) for row in rows]


def _lone(symbol: str, energy: float, cell: float | None = None) -> Atoms:
    """One atom, isolated or repeated by a cell."""
    atoms = Atoms(symbol, cell=None if cell is None else [cell] * 3, pbc=cell is not None)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((1, 3)))
    return atoms
