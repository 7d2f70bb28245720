"""A labelled file, a tiny network as a YAML file, and settings of a sweep with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest
from sweeping import crystals

from mlanet.config import parse
from mlanet.sweep.config import SweepConfig

TINY = "{model: mlanet, irreps: 4x0e+4x1o, layers: 1, hidden: 4, heads: 2, key_dim: 2, radial_hidden: [4], cutoff: 3.0}"


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twenty structures."""
    path = tmp_path_factory.mktemp("data") / "copper.extxyz"
    ase.io.write(path, crystals(20), format="extxyz")
    return str(path)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A network of one's own, so small that a step takes milliseconds."""
    path = tmp_path_factory.mktemp("preset") / "tiny.yaml"
    path.write_text(TINY)
    return str(path)


@pytest.fixture
def settings(tmp_path: Path, labelled: str, tiny: str) -> Callable[..., SweepConfig]:
    """A sweep with some keys changed."""

    def inner(**changes: Any) -> SweepConfig:
        data: dict[str, Any] = {
            "data": {"files": [labelled]},
            "presets": [tiny],
            "sizes": [4, 8],
            "seeds": [1],
            "budget": {"steps": 6, "max_structures": 2},
            "run": {"device": "cpu", "threads": 1},
            "output": str(tmp_path / "sweep"),
        }
        return parse(data | changes, SweepConfig, "test")

    return inner
