"""The models: one file each = config + module + paper. `ModelConfig` is the whole registry.

A new model is one file, one YAML and one word in the union below; see docs/add_a_model.md. What a model must be, and
what it may leave to defaults, is in `contract.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlanet.config import parse, preset_path, read_yaml
from mlanet.errors import ConfigError
from mlanet.memory import Allowance
from mlanet.models.contract import Model, ModelSettings
from mlanet.models.leignn import LEIGNN, LEIGNNConfig
from mlanet.models.mlanet import MLANet, MLANetConfig
from mlanet.statistics import Statistics

ModelConfig = MLANetConfig | LEIGNNConfig
"""Every known configuration, told apart by the key `model`."""


MOST_NUMBERS = 2**29
"""Weights of the largest model that is built, 2 GiB in float32."""


def build_model(config: ModelSettings, statistics: Statistics, most: int = MOST_NUMBERS) -> Model:
    """An untrained model for a configuration, with at most so many weights.

    Raises:
        ConfigError: more weights, before they are allocated.
    """
    try:
        with Allowance(most):
            return config.build(statistics)
    except MemoryError:
        raise ConfigError(f"the model of this configuration would have more than {most} weights") from None


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
    "ModelSettings",
    "Statistics",
    "as_written",
    "build_model",
    "read_model_config",
]
