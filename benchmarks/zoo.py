"""Names on a benchmark's command line -> potentials: presets, variants of them, and peers.

leignn                          a preset, or a short name below
leignn:radial_functions=128     with keys changed
mace:l_max=1,layers=2           a peer with options (`peers.py`)
"""

from __future__ import annotations

from typing import Any

import yaml
from peers import PEERS
from trainable import PeerConfig, TrainablePeer

from mlanet.config import parse, preset_path, read_yaml
from mlanet.kernels import use_kernels
from mlanet.models import ModelConfig
from mlanet.potential import Potential
from mlanet.statistics import Statistics

SHORT: dict[str, dict[str, Any]] = {
    "leignn": {"model": "leignn", "channels": 64, "layers": 3},
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
    base, _, words = name.partition(":")
    changes = {key: yaml.safe_load(value) for key, value in (word.split("=") for word in words.split(",") if word)}
    if base in PEERS:
        return PeerConfig(base, changes)
    data = dict(SHORT[base]) if base in SHORT else read_yaml(preset_path(base))
    return parse(data | changes, ModelConfig, name)


def potential(config: Any, statistics: Statistics) -> Any:
    """An untrained potential in float32; ours with the kernels that are fastest here, peers as their packages are."""
    if isinstance(config, PeerConfig):
        return TrainablePeer.build(config, statistics)
    return use_kernels(Potential.build(config, statistics).float(), "auto")
