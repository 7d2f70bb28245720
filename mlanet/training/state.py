"""All that a run needs to go on as if it had never stopped, as one file without pickles."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlanet.checkpoint import copied, load_state, save_state
from mlanet.config import differences, parse, to_data
from mlanet.errors import CheckpointError, ConfigError
from mlanet.potential import Potential
from mlanet.training.config import OptimizerConfig, ScheduleConfig, TrainConfig

FREE_TO_CHANGE = ("budget", "run")
"""Sections that a resumed run may change; anything else would be another run."""

FIXED = ("budget.max_edges", "budget.max_memory", "budget.max_structures", "run.seed", "run.dtype")
"""Keys of those sections that it may not: the place in an epoch counts batches, drawn by this seed."""


class Origin(NamedTuple):
    """What the batches come from besides the settings: the content of the data, and how many processes share them."""

    data: str
    processes: int


@dataclass
class Progress:
    """Where a run is: counters, best result, and the rows of its metrics.

    `seconds` are those of the clock, validations included; `processor_seconds` those that the first process's processor
    spent on steps alone, which other jobs on the machine hardly change.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    processor_seconds: float = 0.0
    best: float = math.inf
    since_best: int = 0
    plateau_factor: float = 1.0
    plateau_wait: int = 0
    loss_sum: float = 0.0
    loss_steps: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)


class Averaged:
    """Exponential moving average of the weights, θ̄ ← d θ̄ + (1 − d) θ, with a short memory in the first steps.

    d = min(decay, (1 + step)/(10 + step)), so that an early validation does not see the random start.
    """

    def __init__(self, potential: Potential, decay: float) -> None:
        self.potential = copied(potential)
        self.decay = decay

    @torch.no_grad()
    def update(self, potential: Potential, step: int) -> None:
        """One step of the average."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.potential.parameters()), list(potential.parameters()), 1 - decay)


def learning_rate(progress: Progress, fraction: float, optimizer: OptimizerConfig, schedule: ScheduleConfig) -> float:
    """The rate of the coming step; `fraction` of the budget is done.

    >>> learning_rate(Progress(step=100), 1.0, OptimizerConfig(), ScheduleConfig())
    1e-05
    """
    top, lowest = optimizer.lr, min(schedule.min_lr, optimizer.lr)
    if schedule.kind == "cosine":
        rate = lowest + 0.5 * (top - lowest) * (1 + math.cos(math.pi * min(1.0, fraction)))
    else:
        rate = max(lowest, top * progress.plateau_factor)
    return rate * min(1.0, (progress.step + 1) / max(1, schedule.warmup_steps))


def as_read(config: dict[str, Any]) -> dict[str, Any]:
    """The settings in a state file, without choices of `run` that an earlier mlanet had: they change no other run.

    >>> as_read({"run": {"kernels": "blocks", "seed": 1}})
    {'run': {'seed': 1}}
    """
    run = {key: value for key, value in config["run"].items() if value not in REMOVED.get(key, ())}
    return {**config, "run": run}


REMOVED = {"kernels": ("blocks", "cueq", "oeq"), "matmul": ("bf16",)}
"""Values of keys of `run` that are no more; the default stands for them."""


def write_state(
    path: Path,
    config: TrainConfig,
    potential: Potential,
    averaged: Averaged,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    origin: Origin,
) -> None:
    """Weights, average, optimiser, random generators and progress, written whole or not at all."""
    tensors = {f"model.{name}": tensor for name, tensor in potential.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in averaged.potential.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in values.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    header = {"config": to_data(config), "progress": dataclasses.asdict(progress), "origin": origin._asdict()}
    header["progress"]["best"] = None if math.isinf(progress.best) else progress.best
    save_state(path, tensors, header)


def read_state(
    path: Path,
    config: TrainConfig,
    potential: Potential,
    averaged: Averaged,
    optimizer: torch.optim.Optimizer,
    origin: Origin,
) -> Progress:
    """Put everything back in place.

    Raises:
        CheckpointError: a damaged file, or one of another network.
        ConfigError: a configuration that differs from the run's, saying where.
    """
    tensors, header = load_state(path)
    _require_same(parse(as_read(header["config"]), TrainConfig, str(path)), config)
    for name, now in origin._asdict().items():
        # A checkpoint written before these were recorded is taken on trust.
        if (before := header.get("origin", {}).get(name, now)) != now:
            what = (
                "the data files have changed since"
                if name == "data"
                else f"it was run on {before} processes, not {now}"
            )
            raise ConfigError(f"{path}: cannot be resumed: {what}; choose another run.folder")
    try:
        potential.load_state_dict(_part(tensors, "model."))
        averaged.potential.load_state_dict(_part(tensors, "average."))
    except RuntimeError as error:
        raise CheckpointError(f"{path}: belongs to another network: {' '.join(str(error).split())}") from None
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _part(tensors, "optimizer.").items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
    progress = Progress(**header["progress"])
    if progress.best is None:
        progress.best = math.inf
    return progress


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors of one owner, by their own names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _require_same(before: TrainConfig, now: TrainConfig) -> None:
    """A resumed run is the same run: only its budget and where it writes may change."""
    old, new = to_data(before), to_data(now)
    changes = [
        f"{path}: was {a!r}, is {b!r}"
        for path, a, b in differences(old, new)
        if path.split(".")[0] not in FREE_TO_CHANGE or path in FIXED
    ]
    if changes:
        raise ConfigError(
            f"the checkpoint belongs to other settings ({'; '.join(changes)}); to go on, write them as they were, also "
            "those that the file left to defaults of another version; or choose another run.folder"
        )
