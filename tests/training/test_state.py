"""The learning rate follows its schedule, and the average forgets as it says."""

from __future__ import annotations

import copy
import itertools
import math
from pathlib import Path

import pytest
import torch

from mlanet.checkpoint import load_state, save_state
from mlanet.config import parse
from mlanet.models import ModelConfig
from mlanet.potential import Potential
from mlanet.statistics import Statistics
from mlanet.training.config import OptimizerConfig, ScheduleConfig, TrainConfig
from mlanet.training.state import Averaged, Origin, Progress, learning_rate, read_state, write_state

ADAM = OptimizerConfig(lr=1.0)


def test_cosine_falls_from_the_highest_rate_to_the_lowest() -> None:
    """η = η_min + (η₀ − η_min)(1 + cos πu)/2 after the warm-up, monotonous, and η_min at and beyond the end."""
    schedule = ScheduleConfig(kind="cosine", warmup_steps=0, min_lr=0.1)
    rates = [learning_rate(Progress(step=100), u / 10, ADAM, schedule) for u in range(13)]
    assert rates[0] == 1.0 and rates[5] == pytest.approx(0.55) and rates[10:] == pytest.approx([0.1] * 3)
    assert all(a >= b for a, b in itertools.pairwise(rates))
    assert rates[2] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(0.2 * math.pi)))


@pytest.mark.parametrize("kind", ["cosine", "plateau", "constant"])
def test_warm_up_is_linear_and_starts_above_zero(kind: str) -> None:
    """Step t of t_w takes (t + 1)/t_w of the rate."""
    schedule = ScheduleConfig(kind=kind, warmup_steps=4, min_lr=0.0)
    rates = [learning_rate(Progress(step=step), 0.0, ADAM, schedule) for step in range(6)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])


def test_plateau_never_goes_below_the_lowest_rate() -> None:
    """The factor of the plateaus counts, down to η_min."""
    schedule = ScheduleConfig(kind="plateau", warmup_steps=0, min_lr=0.2)
    assert learning_rate(Progress(plateau_factor=0.5), 0.9, ADAM, schedule) == 0.5
    assert learning_rate(Progress(plateau_factor=0.01), 0.9, ADAM, schedule) == 0.2


def test_a_small_rate_never_rises() -> None:
    """Fine-tuning with a rate below the default `min_lr` stays at that rate or below."""
    small = OptimizerConfig(lr=1e-6)
    rates = [learning_rate(Progress(step=100), u / 10, small, ScheduleConfig()) for u in range(11)]
    assert max(rates) <= 1e-6


def test_the_average_is_what_its_equation_says(settings) -> None:
    """θ̄ ← d θ̄ + (1 − d) θ, d = min(decay, (1 + t)/(10 + t)), on weights of its own."""
    config: TrainConfig = settings()
    potential = Potential.build(parse(config.model, ModelConfig, "test"), Statistics.unit((13, 29))).double()
    averaged = Averaged(potential, 0.3)
    expected = copy.deepcopy(averaged.potential.state_dict())
    for step in range(1, 6):
        with torch.no_grad():
            for parameter in potential.parameters():
                parameter.add_(torch.randn_like(parameter))
        averaged.update(potential, step)
        decay = min(0.3, (1 + step) / (10 + step))
        expected = {k: decay * v + (1 - decay) * potential.state_dict()[k] for k, v in expected.items()}
    assert not averaged.potential.training
    for name, tensor in averaged.potential.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(("key", "value"), [("kernels", "blocks"), ("kernels", "cueq"), ("matmul", "bf16")])
def test_states_with_choices_of_another_time_are_read(settings, tmp_path: Path, key: str, value: str) -> None:
    """The default stands for a way to compute that is no more; every number is as it was."""
    config: TrainConfig = settings()
    potential = Potential.build(parse(config.model, ModelConfig, "test"), Statistics.unit((13, 29)))
    averaged, optimizer = Averaged(potential, 0.3), torch.optim.AdamW(potential.parameters())
    path, origin = tmp_path / "state.safetensors", Origin("x", 1)
    write_state(path, config, potential, averaged, optimizer, Progress(step=7), origin)
    tensors, header = load_state(path)
    header["config"]["run"][key] = value
    save_state(path, tensors, header)
    assert read_state(path, config, potential, averaged, optimizer, origin).step == 7
