"""The gradient of one batch's loss, computed as it stands or by a compiled program."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlanet.agreement import TOLERANCE
from mlanet.compiled import MANY, CompiledGradient, CompileError, GraphTensors
from mlanet.errors import ConfigError
from mlanet.graph import AtomicGraph, Labels
from mlanet.ops.digits import matrix_products
from mlanet.potential import Potential, defined
from mlanet.quantities import Quantity
from mlanet.training.config import LossConfig
from mlanet.training.loss import Residuals, loss
from mlanet.training.processes import Processes


class Gradient:
    """Leaves the gradient of a batch's share of the loss in the weights.

    A compiled program holds energy, forces, stress, the loss and its gradient, second derivatives included; for its
    first sizes, loss and gradients are compared with those of the step as it stands. Where none can be made, a warning
    says why, and training goes on without.

    Args:
        potential: in training.
        parameters: the weights that are trained.
        config: weights and form of the loss.
        processes: that share the batch; entries with a label are counted over all of them.
        compiled: whether to compile.
    Raises:
        ConfigError: to be compiled, for a model whose forces are no gradient.
    """

    def __init__(
        self,
        potential: Potential,
        parameters: Sequence[nn.Parameter],
        config: LossConfig,
        processes: Processes,
        *,
        compiled: bool,
    ) -> None:
        if compiled and not potential.conservative:
            raise ConfigError("run.compiled needs a model with `forces: gradient`")
        self._potential, self._parameters = potential, parameters
        self._config, self._processes = config, processes
        self._compiles = compiled
        self._programs: dict[tuple[str, ...], CompiledGradient] = {}

    def __call__(self, graph: AtomicGraph, labels: Labels, energy_factor: float) -> Tensor:
        """This process's share (), float64, of the loss; gradients were let go before. - graph, labels on the device"""
        with matrix_products(self._potential.matmul):
            return self._share(graph, labels, energy_factor)

    def _share(self, graph: AtomicGraph, labels: Labels, energy_factor: float) -> Tensor:
        """By a program where there is one."""
        if self._compiles and min(graph.n_atoms, graph.n_edges) >= MANY:
            counts = self._processes.sum(labelled(graph, labels, self._potential.quantities))
            try:
                return self._by_program(graph, labels, counts, energy_factor)
            except CompileError as error:
                self._compiles = False
                warnings.warn(f"{error}; training goes on without compiling", stacklevel=2)
            return self._backward(Residuals(self._potential(graph), labels, graph), counts, energy_factor)
        residuals = Residuals(self._potential(graph), labels, graph)
        return self._backward(residuals, self._processes.sum(residuals.counts()), energy_factor)

    def nothing(self) -> Tensor:
        """The share of a process that has no batch in this step."""
        self._processes.sum(torch.zeros(len(self._potential.quantities), dtype=torch.float64))
        return torch.zeros((), dtype=torch.float64, device=self._processes.device)

    def _backward(self, residuals: Residuals, counts: Tensor, energy_factor: float) -> Tensor:
        """Through autograd."""
        value = loss(residuals, counts, self._config, energy_factor)
        value.backward()
        return value.detach()

    def _by_program(self, graph: AtomicGraph, labels: Labels, counts: Tensor, energy_factor: float) -> Tensor:
        """Through a compiled program."""
        fields = GraphTensors(graph)
        names = tuple(fields.names)
        self._potential.require_supported(graph)
        if names not in self._programs:
            self._potential(graph)  # by itself once, for those who watch its first answer (`mlanet.precision`)
            self._programs[names] = self._compiled(fields)
        factor = torch.tensor(energy_factor, dtype=torch.float64).to(counts.device)
        known = [getattr(labels, quantity.name) for quantity in self._potential.quantities]
        given = [*fields.take(graph), *known, counts, factor]
        return self._programs[names](given)

    def _compiled(self, fields: GraphTensors) -> CompiledGradient:
        """The loss as a function of tensors."""

        def of_batch(*tensors: Tensor) -> Tensor:
            *inputs, counts, factor = tensors
            graph = fields.give(inputs[: len(fields.names)])
            known = zip(self._potential.quantities, inputs[len(fields.names) :], strict=True)
            labels = Labels(**{one.name: label for one, label in known})
            residuals = Residuals(self._potential.answer(graph), labels, graph)
            return loss(residuals, counts, self._config, factor)

        return CompiledGradient(of_batch, self._parameters, TOLERANCE[self._potential.dtype])


def labelled(graph: AtomicGraph, labels: Labels, quantities: Sequence[Quantity]) -> Tensor:
    """(Q,) how many entries of each quantity a conservative model is trained on, float64."""
    counts = []
    for quantity in quantities:
        known = getattr(labels, quantity.name).isfinite()
        if quantity.where != "any":
            known = known & defined(quantity, graph).view(-1, *[1] * len(quantity.shape))
        counts.append(known.sum())
    return torch.stack(counts).double()
