"""The models: one file each = config + module + paper. `ModelConfig` is the whole registry.

A new model is one file, one YAML and one word in the union below; see docs/add_a_model.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from mlanet.config import parse, preset_path, read_yaml
from mlanet.graph import AtomicGraph, ModelOutput
from mlanet.models.leignn import LEIGNN, LEIGNNConfig
from mlanet.models.mlanet import MLANet, MLANetConfig
from mlanet.statistics import Statistics

ModelConfig = MLANetConfig | LEIGNNConfig
"""Every known configuration, told apart by the key `model`."""


class Model(Protocol):
    """What `Potential` needs of a model: a function from a graph to site energies (and optional direct heads)."""

    @property
    def config(self) -> ModelConfig:
        """What it was built from."""
        ...

    @property
    def cutoff(self) -> float:
        """Å."""
        ...

    @property
    def conservative(self) -> bool:
        """False where forces are a direct head."""
        ...

    def __call__(self, graph: AtomicGraph) -> ModelOutput:
        """Site energies in network units."""
        ...

    def parameters(self) -> Any:
        """As torch.nn.Module."""
        ...


def build_model(config: ModelConfig, statistics: Statistics) -> MLANet | LEIGNN:
    """An untrained model for a configuration."""
    if isinstance(config, LEIGNNConfig):
        return LEIGNN(config, statistics)
    return MLANet(config, statistics)


def as_written(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration in a model file, with what keys mean that were not there yet when it was written."""
    return BEFORE.get(config.get("model", ""), {}) | config


BEFORE: dict[str, dict[str, Any]] = {
    "mlanet": {"pooling_bound": None, "repulsion": "none", "total_charge": "whole", "c6_least": 0.5},
    "leignn": {"c6_least": 0.5},
}
"""By model: keys whose default is another than what models did before them."""


def read_model_config(name: str | Path) -> ModelConfig:
    """A preset's name or the path of a user's YAML -> a configuration.

    >>> read_model_config("mlanet_l2").l_max
    2
    """
    path = preset_path(name)
    return parse(read_yaml(path), ModelConfig, str(path))


__all__ = [
    "LEIGNN",
    "LEIGNNConfig",
    "MLANet",
    "MLANetConfig",
    "Model",
    "ModelConfig",
    "Statistics",
    "Tensor",
    "as_written",
    "build_model",
    "read_model_config",
]
