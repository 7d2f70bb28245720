"""What can be timed: a preset, a trained model, or another package's model, all behind one interface."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mlanet.errors import ConfigError
from mlanet.execution import Execution

if TYPE_CHECKING:
    from ase import Atoms

    from mlanet.graph import AtomicGraph
    from mlanet.potential import Potential

SINGLE = Execution(dtype="float32")
"""How everything is timed that is not asked for otherwise."""


@dataclass(frozen=True)
class Request:
    """What a subject is built for.

    - species: atomic numbers it must know · neighbours: mean number within the cutoff
    - execution: how it computes; other packages' models heed its device and dtype
    """

    species: tuple[int, ...]
    neighbours: float
    execution: Execution = SINGLE

    @property
    def device(self) -> str:
        """cpu, cuda or cuda:N."""
        return self.execution.device

    @property
    def dtype(self) -> str:
        """float32 or float64."""
        return self.execution.dtype or "float32"


class Subject(Protocol):
    """A model ready to be timed. Adapters of other packages return objects like this (benchmarks/peers.py)."""

    @property
    def module(self) -> nn.Module:
        """Its parameters are counted, and optimised in a training step."""
        ...

    @property
    def cutoff(self) -> float:
        """Å."""
        ...

    @property
    def prepare(self) -> Callable[[Sequence[Atoms]], Any]:
        """Structures -> inputs on the device, neighbour list included."""
        ...

    @property
    def edges(self) -> Callable[[Any], int]:
        """Directed pairs in the inputs."""
        ...

    @property
    def evaluate(self) -> Callable[[Any, bool], tuple[Tensor, Tensor, Tensor]]:
        """Inputs, training -> energy (S,) eV, forces (N, 3) eV/Å, stress (S, 3, 3) eV/Å³; history kept for training."""
        ...


@runtime_checkable
class CompilesGradient(Protocol):
    """A subject with a compiled program for the gradient of `loss`."""

    def gradient(self, inputs: Any) -> None:
        """Leave the gradient in the parameters."""


def loss(energy: Tensor, forces: Tensor, stress: Tensor) -> Tensor:
    """What a timed training step minimises: the mean squares of energy per atom, forces and stress."""
    return energy.square().mean() / forces.shape[0] ** 2 + forces.square().mean() + stress.square().mean()


@dataclass(frozen=True)
class Own:
    """One of this package's potentials as a subject."""

    module: Potential
    device: torch.device

    @property
    def cutoff(self) -> float:
        """Å."""
        return self.module.cutoff

    def prepare(self, structures: Sequence[Atoms]) -> AtomicGraph:
        """Neighbour lists of all structures, one batch, on the device in the model's precision."""
        from mlanet.data.atoms import to_graph
        from mlanet.graph import batch_graphs

        batch = batch_graphs([to_graph(atoms, self.cutoff, device=self.device) for atoms in structures])
        return batch.to(self.device, self.module.dtype)

    def edges(self, inputs: AtomicGraph) -> int:
        """Directed pairs."""
        return inputs.n_edges

    def evaluate(self, inputs: AtomicGraph, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Energy, forces, stress; zeros for a stress that is not defined, which changes no time."""
        self.module.train(training)
        found = self.module(inputs)
        return found.energy, found.forces, found.stress.nan_to_num()


@dataclass(frozen=True)
class Answering(Own):
    """One whose answers come from a second potential with the same weights, which never trains."""

    answers: Potential

    def evaluate(self, inputs: AtomicGraph, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Energy, forces, stress; with a history if they are for training."""
        return super().evaluate(inputs, True) if training else Own(self.answers, self.device).evaluate(inputs, False)

    def forget(self) -> None:
        """Let go of the memory that a call leaves for the next one."""
        from mlanet.native.answers import NativeAnswers

        if isinstance(self.answers.answered_by, NativeAnswers):
            self.answers.answered_by.forget()

    @property
    def in_torch(self) -> Own:
        """The same, all computed by modules of torch, which can be looked into."""
        return Own(self.module, self.device)


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
        from mlanet.profiling.compiled import CompiledSubject

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
