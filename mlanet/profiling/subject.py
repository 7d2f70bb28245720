"""What can be timed: a preset, a trained model, or another package's model, all behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

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
        prediction = self.module(inputs)
        return prediction.energy, prediction.forces, prediction.stress.nan_to_num()


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
