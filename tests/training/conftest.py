"""Small labelled sets of uneven sizes, tiny models, and trainings of a second or two."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from forked import Forked

import mlanet
from mlanet.checkpoint import load_state
from mlanet.cli.main import main
from mlanet.config import parse, to_yaml
from mlanet.training.config import TrainConfig
from mlanet.training.trainer import train

TINY = {
    "model": "mlanet",
    "irreps": "8x0e+8x1o",
    "layers": 1,
    "hidden": 8,
    "heads": 2,
    "key_dim": 4,
    "radial_hidden": [8],
    "cutoff": 3.5,
}


def crystals(count: int, seed: int = 0) -> list[Atoms]:
    """Rattled, strained copper and aluminium of 4 or 8 atoms, labelled by effective-medium theory."""
    generator = np.random.default_rng(seed)
    frames = []
    for index in range(count):
        atoms = bulk("Cu", cubic=True) * (1 + index % 2, 1, 1)
        atoms.numbers[generator.integers(len(atoms))] = 13
        atoms.set_cell(atoms.cell * (1 + 0.02 * generator.normal()), scale_atoms=True)
        atoms.positions += 0.1 * generator.normal(size=atoms.positions.shape)
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Write frames as extxyz and give the path."""

    def inner(frames: Sequence[Atoms], name: str = "data.extxyz") -> str:
        ase.io.write(tmp_path / name, list(frames), format="extxyz")
        return str(tmp_path / name)

    return inner


@pytest.fixture(scope="session")
def seven(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Seven structures: an odd number, so that a last step of two processes is uneven."""
    path = tmp_path_factory.mktemp("data") / "seven.extxyz"
    ase.io.write(path, crystals(7), format="extxyz")
    return str(path)


@pytest.fixture
def settings(tmp_path: Path, seven: str) -> Callable[..., TrainConfig]:
    """A quick training with some sections changed: `settings(budget={"steps": 3})`; sections are merged."""

    def inner(**changes: Any) -> TrainConfig:
        data: dict[str, Any] = {
            "data": {"train": [seven], "valid": [seven]},
            "model": dict(TINY),
            "budget": {"epochs": 3, "max_structures": 2},
            "run": {"folder": str(tmp_path / "run"), "device": "cpu"},
            "schedule": {"warmup_steps": 3},
        }
        for key, value in changes.items():
            merged = isinstance(value, dict) and isinstance(data.get(key), dict) and key != "model"
            data[key] = data[key] | value if merged else value
        if "budget" in changes and {"steps", "minutes"} & set(changes["budget"]):
            del data["budget"]["epochs"]
        return parse(data, TrainConfig, "test")

    return inner


@pytest.fixture
def state_of() -> Callable[[Path | str], tuple[dict[str, torch.Tensor], dict[str, Any]]]:
    """Tensors and progress of a run's checkpoint, without the clock."""

    def inner(folder: Path | str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        tensors, header = load_state(Path(folder) / "checkpoint.safetensors")
        progress = dict(header["progress"])
        clocks = ("seconds", "processor_seconds", "minutes", "processor_minutes")
        progress = {key: value for key, value in progress.items() if key not in clocks}
        progress["rows"] = [{k: v for k, v in row.items() if k not in clocks} for row in progress["rows"]]
        return tensors, progress

    return inner


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., Forked]:
    """Start `mlanet train` in a process of its own, in the test's folder."""

    def inner(config: TrainConfig, *words: str) -> Forked:
        (tmp_path / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return Forked(lambda: main(["train", "config.yaml", *words, "--json"]), cwd=tmp_path, text=True, **pipes)

    return inner


@pytest.fixture
def ranks(tmp_path: Path) -> Callable[..., list[Forked]]:
    """Train by two processes, each of which may do something first that depends on its rank."""

    def inner(config: TrainConfig, first: Callable[[int], None]) -> list[Forked]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]

        def started(rank: int) -> Forked:
            def work() -> int:
                first(rank)
                train(config, progress=False)
                return 0

            place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
            place |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            return Forked(work, env=os.environ | place, stderr=subprocess.PIPE, text=True)

        return [started(rank) for rank in (0, 1)]

    return inner


@pytest.fixture
def launched(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """`mlanet train` on two processes of torch's launcher."""

    def inner(config: TrainConfig) -> subprocess.Popen[str]:
        (tmp_path / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        root = str(Path(mlanet.__file__).resolve().parent.parent)
        return subprocess.Popen(
            [*launcher, "-m", "mlanet", "train", "config.yaml", "--json"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return inner


@pytest.fixture
def four() -> list[Atoms]:
    return crystals(4, seed=5)
