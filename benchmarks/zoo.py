"""Names on a benchmark's command line -> potentials: presets, variants of them, and peers.

leignn                          a preset, or a short name below
leignn:radial_functions=128     with keys changed
painn:channels=64               a peer
"""

from __future__ import annotations

from typing import Any

import yaml
from painn import PaiNN, PaiNNConfig, available

from mlanet.config import parse, preset_path, read_yaml
from mlanet.models import ModelConfig, build_model
from mlanet.potential import Potential
from mlanet.statistics import Statistics

SHORT: dict[str, dict[str, Any]] = {
    "leignn": {"model": "leignn", "channels": 64, "layers": 3},
    "painn": {"model": "painn", "channels": 64, "layers": 3},
    **{
        f"mlanet_l{l_max}_small": {
            "model": "mlanet",
            "irreps": "+".join(f"32x{degree}{'eo'[degree % 2]}" for degree in range(l_max + 1)),
            "layers": 2,
            "key_dim": 4,
            "hidden": 32,
            "radial_hidden": [32],
        }
        for l_max in (1, 2, 3)
    },
}
"""Sizes that train in minutes on a CPU."""


def configuration(name: str) -> Any:
    """The configuration that a name stands for."""
    base, _, changes = name.partition(":")
    data = dict(SHORT[base]) if base in SHORT else read_yaml(preset_path(base))
    for word in changes.split(",") if changes else ():
        key, _, value = word.partition("=")
        data[key] = yaml.safe_load(value)
    if data["model"] == "painn":
        if not available("painn"):
            raise SystemExit("painn needs SchNetPack: pip install schnetpack")
        return parse(data, PaiNNConfig, name)
    return parse(data, ModelConfig, name)


def potential(config: Any, statistics: Statistics) -> Potential:
    """An untrained potential."""
    model = PaiNN(config) if isinstance(config, PaiNNConfig) else build_model(config, statistics)
    return Potential(model, statistics)  # type: ignore[arg-type]  # a peer's configuration is none of ours
