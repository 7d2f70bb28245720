"""A model that knows its limits, and the sets it knows them from."""

from __future__ import annotations

from pathlib import Path

import ase.io
import pytest
from limited import SMALL, crystals, knowing

from mlanet.checkpoint import save_model
from mlanet.potential import Potential


@pytest.fixture(scope="session")
def potential() -> Potential:
    return knowing(SMALL)


@pytest.fixture(scope="session")
def model(potential: Potential, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a file."""
    path = tmp_path_factory.mktemp("limits") / "model.safetensors"
    save_model(potential, path, {"note": "kept"})
    return path


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sets as files."""
    folder = tmp_path_factory.mktemp("sets")
    found = {}
    for name, count, seed in (("train", 60, 1), ("held", 30, 2), ("pool", 12, 3)):
        found[name] = folder / f"{name}.extxyz"
        ase.io.write(found[name], crystals(count, seed))
    return found
