"""Small models and files, and the command line called in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlanet.checkpoint import save_model
from mlanet.cli.main import main
from mlanet.config import parse
from mlanet.models import ModelConfig
from mlanet.potential import Potential
from mlanet.statistics import Statistics

TINY = {"model": "mlanet", "irreps": "8x0e+8x1o", "layers": 1, "hidden": 8, "radial_hidden": [8], "cutoff": 3.5}


class Outcome(NamedTuple):
    """Exit status, standard output and standard error of one command."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document that is the whole of stdout."""
        return json.loads(self.out)


@pytest.fixture
def mlanet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Outcome]:
    """Run one command line in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        status = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return run


def save_tiny(path: Path, **changes: Any) -> Path:
    """An untrained model that knows Al, Cu."""
    torch.manual_seed(1)
    config = parse(TINY | changes, ModelConfig, "test")
    save_model(Potential.build(config, Statistics((13, 29), (-1.0, -2.0), (1.0, 1.0), 12.0)), path, {"data": "none"})
    return path


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """An untrained model with some switches changed."""
    return lambda **changes: save_tiny(tmp_path / "changed.safetensors", **changes)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny.safetensors")


def labelled_crystals(count: int) -> list[Atoms]:
    """Rattled Cu and Al with energy, forces and stress by effective-medium theory."""
    crystals = []
    for seed in range(count):
        atoms = bulk("Cu" if seed % 2 else "Al", "fcc", a=3.7 + 0.02 * seed, cubic=True)
        atoms.rattle(0.05, seed=seed)
        emt = atoms.copy()
        emt.calc = EMT()
        energy, forces, stress = emt.get_potential_energy(), emt.get_forces(), emt.get_stress()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, stress=stress)
        crystals.append(atoms)
    return crystals


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "labelled.extxyz"
    write(path, labelled_crystals(6))
    return path
