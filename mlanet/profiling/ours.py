"""This package's models as subjects: presets and model files, by name, with the kernels that the name asks for."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch

from mlanet.errors import ConfigError
from mlanet.profiling.compiled import CompiledSubject
from mlanet.profiling.subject import Answering, Own, Request

if TYPE_CHECKING:
    from mlanet.potential import Potential


def own(name: str, request: Request) -> Own:
    """A preset, a user's YAML (both `…:key=value,key=value` to change settings), or a model file.

    `@native`, `@fused` or `@plain` at the end chooses the kernels, the fastest if there is none; `+compile` behind
    that has torch compile the whole step. The native engine only answers: training steps take the fastest of the
    others. A trained model keeps its weights and its species; a preset is drawn anew, from seed 0.

    Raises:
        ConfigError, CheckpointError: no such preset or file, or a setting that does not exist.
    """
    name, _, way = name.partition("@")
    kernels, _, compiled = way.partition("+")
    if compiled not in ("", "compile"):
        raise ConfigError(f"{name}@{way}: '+{compiled}' is unknown; there is +compile")
    execution = dataclasses.replace(request.execution, kernels=kernels or "auto", compiled=bool(compiled))
    trains = dataclasses.replace(execution, kernels="auto") if kernels == "native" and not compiled else execution
    trained = name.endswith(".safetensors")
    potential = trains.resolve(name) if trained else trains.placed(_drawn(name, request))
    if compiled:
        return CompiledSubject(potential, potential.device)
    if execution.kernels in ("auto", "native"):
        answers = execution.resolve(potential, trained=False)
        if answers.answered_by is not None:
            return Answering(potential, potential.device, answers)
    return Own(potential, potential.device)


def _drawn(name: str, request: Request) -> Potential:
    """A configuration's potential, from seed 0."""
    from mlanet.potential import Potential
    from mlanet.statistics import Statistics

    torch.manual_seed(0)
    return Potential.build(configuration(name), Statistics.unit(request.species, request.neighbours))


def configuration(name: str) -> Any:
    """The model settings that `preset` or `preset:key=value,key=value` stands for.

    >>> configuration("leignn:channels=32").channels
    32
    """
    from mlanet.config import parse, preset_path, read_yaml, with_overrides
    from mlanet.models import ModelConfig

    base, _, changes = name.partition("@")[0].partition(":")
    data = with_overrides(read_yaml(preset_path(base)), _words(changes))
    return parse(data, ModelConfig, name)


def _words(changes: str) -> list[str]:
    """`a=1,b=[1,2]` -> the settings; a comma inside brackets separates nothing."""
    words, depth, start = [], 0, 0
    for index, letter in enumerate(changes):
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth:
            words.append(changes[start:index])
            start = index + 1
    return [word for word in [*words, changes[start:]] if word]
