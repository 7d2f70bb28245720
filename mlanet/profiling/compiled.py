"""One of this package's potentials, its whole steps compiled by torch, as a subject."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mlanet.agreement import TOLERANCE
from mlanet.compiled import CompiledGradient, CompiledPotential, GraphTensors
from mlanet.graph import AtomicGraph
from mlanet.profiling.subject import Own, loss


@dataclass(frozen=True)
class CompiledSubject(Own):
    """`evaluate` without a history, and the gradient of a training step, by compiled programs; for one batch layout."""

    _programs: dict[str, Any] = field(default_factory=dict)

    def evaluate(self, inputs: AtomicGraph, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """As of any potential; with a history it is computed as it stands."""
        if training:
            return super().evaluate(inputs, training)
        prediction = self._programs.setdefault("infer", CompiledPotential(self.module))(inputs)
        return prediction.energy, prediction.forces, prediction.stress.nan_to_num()

    def gradient(self, inputs: AtomicGraph) -> None:
        """Of `loss`, left in the parameters."""
        self.module.train()
        fields = GraphTensors(inputs)

        def of_graph(*tensors: Tensor) -> Tensor:
            prediction = self.module.answer(fields.give(tensors))
            return loss(prediction.energy, prediction.forces, prediction.stress.nan_to_num())

        parameters = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        program = CompiledGradient(of_graph, parameters, TOLERANCE[self.module.dtype])
        self._programs.setdefault("train", program)(fields.take(inputs))
