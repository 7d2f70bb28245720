"""The points of a sweep: which trainings there are, what each is called, and its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mlanet.config import parse, preset_path, to_data
from mlanet.errors import ConfigError
from mlanet.models import ModelConfig, read_model_config
from mlanet.sweep.config import SweepConfig
from mlanet.training.config import TrainConfig

PARTS, POINTS, TRAINING = "data", "points", "training"
"""Folders in that of the sweep, and in that of a point."""

WITH_CHANGES = "preset {} with the changes under 'model'"

CHECKPOINT_EVERY = 100
"""Steps: what an interruption costs at most."""

VALIDATION_SHARE = 0.1
"""Structures validated for each one trained on, if the settings do not say."""

FEWEST_VALIDATIONS = 5
"""In a budget of steps."""


class Point(NamedTuple):
    """One training of the sweep."""

    preset: str
    l_max: int
    size: int
    seed: int

    @property
    def name(self) -> str:
        """The name of its folder.

        >>> Point("mlanet_l2", 1, 50, 0).name
        'mlanet_l2-l1-n50-s0'
        """
        return f"{Path(self.preset).stem}-l{self.l_max}-n{self.size}-s{self.seed}"

    @property
    def key(self) -> dict[str, Any]:
        """What tells its row from others: a preset's name, also where it is a file."""
        return self._asdict() | {"preset": Path(self.preset).stem}

    @property
    def model(self) -> str:
        """What tells one model from another, for people.

        >>> Point("mlanet_l2", 1, 50, 0).model
        'mlanet_l2, l = 1'
        """
        return model_name(self.preset, self.l_max)


def model_name(preset: str, l_max: int) -> str:
    """A preset at one l_max, for people."""
    return f"{Path(preset).stem}, l = {l_max}"


class Plan(NamedTuple):
    """All points in the order in which they are run (small before large), and what to say about them."""

    points: tuple[Point, ...]
    remarks: tuple[str, ...]


def make_plan(config: SweepConfig, available: int) -> Plan:
    """Every combination once: a model whose l is fixed, or that equals another one, does not come twice.

    Args:
        config: of the sweep.
        available: structures of the training part.
    Raises:
        ConfigError: a size above what there is, a model that cannot be, or two presets of one name.
    """
    for size in config.sizes:
        if size > available:
            raise ConfigError(
                f"sizes: {size} structures are asked for, the training part has {available} "
                "(data.test_fraction and data.valid_fraction say what is set aside)"
            )
    models, remarks = _models(config)
    points = tuple(
        Point(preset, l_max, size, seed)
        for size in sorted(config.sizes or (available,))
        for preset, l_max in models
        for seed in config.seeds
    )
    return Plan(points, tuple(remarks))


def _models(config: SweepConfig) -> tuple[list[tuple[str, int]], list[str]]:
    """Presets with the degrees they are run at, and remarks on those that are left out."""
    stems = [Path(preset).stem for preset in config.presets]
    if twice := [stem for stem in stems if stems.count(stem) > 1]:
        raise ConfigError(f"presets: two are called '{twice[0]}'; rename one of the files")
    known: dict[ModelConfig, str] = {}
    models, remarks = [], []
    for preset in config.presets:
        own = model_config(config, preset, None)
        fixed = not own.free_l_max
        if fixed and config.l_max and config.l_max != (own.l_max,):
            remarks.append(f"{Path(preset).stem}: l is {own.l_max} by construction, so it is run once for all l_max")
        for l_max in (own.l_max,) if fixed or not config.l_max else sorted(config.l_max):
            one = model_config(config, preset, l_max)
            if one in known:
                remarks.append(f"{model_name(preset, l_max)} is the same model as {known[one]} and left out")
                continue
            known[one] = model_name(preset, l_max)
            models.append((preset, l_max))
    return models, remarks


def model_config(config: SweepConfig, preset: str, l_max: int | None) -> ModelConfig:
    """A preset with the sweep's changes and, where l is free, with this l_max (None: its own).

    The key `channels` of the changes reaches every model: as its own key, or as the multiplicity of every degree.
    """
    base, changes = read_model_config(preset), dict(config.model)
    channels = None if "channels" in base.__struct_fields__ else changes.pop("channels", None)
    parsed = _parsed(to_data(base) | changes, preset)
    if channels is not None and (not isinstance(channels, int) or channels < 1):
        raise ConfigError(f"model.channels: expected a positive whole number, got {channels!r}")
    try:
        parsed = parsed if channels is None else parsed.with_channels(channels)
        return parsed if l_max is None else parsed.with_l_max(l_max)
    except ValueError as error:
        raise _refused(preset, str(error)) from None


def _refused(preset: str, reason: str) -> ConfigError:
    return ConfigError(
        f"{WITH_CHANGES.format(preset)}: {reason}; keys for one preset only belong into a YAML of your own"
    )


def _parsed(data: dict[str, Any], preset: str) -> ModelConfig:
    """A network's configuration; errors say which preset did not take the changes."""
    try:
        return parse(data, ModelConfig, WITH_CHANGES.format(preset))
    except ConfigError as error:
        raise ConfigError(f"{error}; keys for one preset only belong into a YAML of your own") from None


def train_config(config: SweepConfig, point: Point, folder: Path) -> TrainConfig:
    """The training of one point, in `folder` of the sweep."""
    parts = folder / PARTS
    valid = parts / "valid.extxyz"
    data = {
        "train": [str(parts / "train.extxyz")],
        "valid": [str(valid)] if config.data.valid_fraction else [],
        "valid_fraction": 0.0,
        "train_limit": point.size,
        "seed": config.data.seed,
        "labels": to_data(config.data.labels),
        "require": list(config.data.require),
        "keep_unconverged": config.data.keep_unconverged,
    }
    settings = {
        "data": data,
        "model": plain(model_config(config, point.preset, point.l_max)),
        "references": config.references,
        "loss": to_data(config.loss),
        "optimizer": to_data(config.optimizer),
        "schedule": to_data(config.schedule),
        "budget": to_data(config.budget),
        "run": {
            "folder": str(folder / POINTS / point.name / TRAINING),
            "seed": point.seed,
            "dtype": config.run.dtype,
            "device": config.run.device,
            "deterministic": config.run.deterministic,
            "checkpoint_every": CHECKPOINT_EVERY,
        },
    }
    return parse(settings, TrainConfig, point.name)


def plain(config: msgspec.Struct) -> dict[str, Any]:
    """As JSON has it, lists for tuples: equal to what is read back from a file."""
    return msgspec.json.decode(msgspec.json.encode(config))


def settled(config: SweepConfig, structures: int, threads: int) -> SweepConfig:
    """The settings with everything filled in that depends on the data or the machine, the same for all points.

    Args:
        config: as given.
        structures: of the validation part.
        threads: of a point, where the settings do not say.
    """
    budget, run = config.budget, config.run
    if budget.validate_every is None:
        every = max(1, round(structures / VALIDATION_SHARE / (budget.max_structures or structures or 1)))
        if budget.steps is not None:
            every = max(1, min(every, budget.steps // FEWEST_VALIDATIONS))
        budget = msgspec.structs.replace(budget, validate_every=every)
    if run.threads is None:
        run = msgspec.structs.replace(run, threads=threads)
    presets = tuple(str(preset_path(preset).resolve()) if Path(preset).suffix else preset for preset in config.presets)
    return msgspec.structs.replace(config, budget=budget, run=run, presets=presets)
