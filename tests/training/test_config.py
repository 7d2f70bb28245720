"""A training's YAML is strict, and what cannot work is said before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mlanet.config import parse, to_data
from mlanet.errors import ConfigError
from mlanet.training.config import TrainConfig, model_config

LEAST: dict[str, Any] = {"data": {"train": ["a.xyz"]}, "budget": {"epochs": 1}, "run": {"folder": "run"}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimiser": {"lr": 1e-3}}, r"unknown key 'optimiser'; did you mean 'optimizer'"),
        ({"optimizer": {"learning_rate": 1e-3}}, r"unknown key 'optimizer\.learning_rate'"),
        ({"budget": {"epoch": 3}}, r"unknown key 'budget\.epoch'; did you mean 'epochs'"),
        ({"data": {"train": ["a.xyz"], "labels": {"energie": "e"}}}, r"'data\.labels\.energie'; did you mean 'energy'"),
        ({"optimizer": {"lr": "fast"}}, r"'optimizer\.lr': Expected `float`, got `str`"),
        ({"loss": {"kind": "l2"}}, r"'loss\.kind'.*'l2'"),
        ({"data": {"train": []}}, r"at least one file"),
        ({"data": {"train": ["a"], "valid_fraction": 1.0}}, r"valid_fraction must be in"),
        ({"budget": {"steps": 0}}, r"steps must be positive"),
        ({"budget": {}}, r"exactly one of epochs, steps and minutes"),
        ({"budget": {"epochs": 1, "steps": 1}}, r"exactly one of epochs, steps and minutes"),
    ],
)
def test_what_cannot_be_understood_is_named(changes: dict[str, Any], message: str) -> None:
    """Unknown keys come with a suggestion, wrong values with their place."""
    with pytest.raises(ConfigError, match=message):
        parse(LEAST | changes, TrainConfig, "config.yaml")


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": {"lr": -1e-3}},
        {"optimizer": {"ema": 1.5}},
        {"optimizer": {"clip": 0.0}},
        {"optimizer": {"weight_decay": -1.0}},
        {"schedule": {"factor": 2.0}},
        {"schedule": {"warmup_steps": -1}},
        {"loss": {"energy": -1.0}},
        {"loss": {"energy": 0, "forces": 0, "stress": 0, "dipole": 0, "polarizability": 0}},
        {"run": {"folder": "run", "checkpoint_every": 0}},
        {"run": {"folder": "run", "seed": -1}},
        {"data": {"train": ["a"], "seed": -1}},
    ],
    ids=str,
)
def test_a_number_that_cannot_work_is_refused_at_once(changes: dict[str, Any]) -> None:
    """A negative rate, an average that forgets nothing, or a loss of nothing is an error of the configuration."""
    with pytest.raises(ConfigError):
        parse(LEAST | changes, TrainConfig, "config.yaml")


def test_a_configuration_survives_being_written_down() -> None:
    """Plain data and back give an equal configuration."""
    config = parse(LEAST | {"references": {"Cu": -3.5}}, TrainConfig, "config.yaml")
    assert parse(to_data(config), TrainConfig, "again") == config


def test_a_model_is_a_preset_a_mapping_or_changes_to_another(settings: Callable[..., TrainConfig]) -> None:
    """The three ways of naming a network give the same kind of thing, and a mapping without `model` needs a base."""
    assert model_config(settings(model="mlanet_l1")).l_max == 1
    base = model_config(settings())
    assert base.channels == 8
    changed = model_config(settings(model={"forces": "direct"}), base)
    assert changed.forces == "direct" and changed.irreps == base.irreps
    with pytest.raises(ConfigError, match="key 'model'"):
        model_config(settings(model={"forces": "direct"}))
    with pytest.raises(ConfigError, match="did you mean 'mlanet_l2'"):
        model_config(settings(model="mlanet_l22"))
