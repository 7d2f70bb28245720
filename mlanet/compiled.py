"""Whole steps, compiled by torch: energy, forces and stress as one program of fused loops.

Autograd is traced away: a step is run once on tensors without numbers (`make_fx`), first and second derivatives
included, and what is written down is plain tensor code for any number of atoms and pairs. `torch.compile` makes machine
code of it. Kernels of our own stay what they are; what lies between them (norms, gates, matrix products, the walk of
the gradients) loses its overhead. Compiling takes a minute or so, so this is for long runs.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mlanet.agreement import TOLERANCE, disagreement, smallest_gradient
from mlanet.errors import MLANetError
from mlanet.graph import AtomicGraph, Prediction
from mlanet.ops.digits import matrix_products
from mlanet.ops.traced import tracing
from mlanet.potential import Potential

MANY = 2
"""Sizes from here on are one kind: tracers take 0 and 1 for constants."""

SIZES_KEPT = 4096
"""Combinations of sizes whose program is remembered."""

SIZES_CHECKED = 8
"""Combinations of sizes for which a program's numbers are checked: torch may compile it anew for larger ones."""

PROGRAMS_AT_MOST = 4
"""Of one kind of sizes; more means that every size needs its own, which is no way to go on."""

TURNS = threading.RLock()
"""Torch's tracer is one for a process: while it is at work, no thread may run compiled code."""

Function = Callable[..., Sequence[Tensor]]


class CompileError(MLANetError):
    """A step that cannot be compiled here, or whose program gives other numbers; the message says why."""


class _Program:
    """A function traced for one kind of sizes, compiled."""

    def __init__(self, function: Function, tensors: Sequence[Tensor]) -> None:
        from torch.fx.experimental.proxy_tensor import make_fx  # takes a second to import

        with tracing():
            traced = make_fx(function, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*tensors)
        traced.graph.eliminate_dead_code()
        traced.recompile()
        assert traced.shape_env is not None
        inputs = [node.meta["val"] for node in traced.graph.nodes if node.op == "placeholder"]
        self._shapes = traced.shape_env
        self._granted = self._shapes.produce_guards_expression(inputs, ignore_static=False)
        self._code: Function = _machine_code(traced)
        self.checked = 0

    def serves(self, tensors: Sequence[Tensor]) -> bool:
        """Whether what the tracer took for granted (sizes that differ, sizes that agree) holds for these."""
        return not self._granted or bool(self._shapes.evaluate_guards_expression(self._granted, list(tensors)))

    def run(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """The function's answer; torch compiles when it has to.

        Raises:
            CompileError: it cannot.
        """
        try:
            return self._code(*tensors)
        except Exception as error:  # whatever a compiler or a driver raises
            raise _cannot(error) from error


def _machine_code(traced: torch.fx.GraphModule) -> Function:
    """The same, compiled by torch's Inductor when first called, again where it has to be."""
    compiled: Function = torch.compile(traced, dynamic=True)
    return compiled


class Compiled:
    """A function of tensors, compiled for each kind of sizes that comes; weights that it closes over may change.

    Args:
        function: tensors -> tensors, without a question that only numbers could answer.
        check: is called with inputs and outputs for the first sizes of every program, and raises `CompileError` if they
            are wrong.
    """

    def __init__(self, function: Function, check: Callable[[Sequence[Tensor], Sequence[Tensor]], None]) -> None:
        self._function, self._check = function, check
        self._programs: dict[object, list[_Program]] = {}
        self._known: dict[object, _Program] = {}

    @property
    def programs(self) -> int:
        """How many were compiled."""
        return sum(map(len, self._programs.values()))

    def __call__(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """The function's answer.

        Raises:
            CompileError: it cannot be traced or compiled, or gives other numbers.
        """
        kind = tuple((tensor.dtype, tensor.device, *tensor.shape) for tensor in tensors)
        program = self._known.get(kind)
        with TURNS, torch.no_grad():
            return program.run(tensors) if program else self._first(kind, tensors)

    def _first(self, kind: tuple[tuple[Any, ...], ...], tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """The first answer for some sizes: by a program there is, or a new one, which is checked."""
        coarse = tuple((dtype, device, *(min(size, MANY) for size in shape)) for dtype, device, *shape in kind)
        programs = self._programs.setdefault(coarse, [])
        program = next((known for known in programs if known.serves(tensors)), None)
        if program is None:
            programs.append(program := self._traced(tensors, len(programs)))
        if program.checked < SIZES_CHECKED:
            with matrix_products("float32"):  # fewer digits would hide what is wrong
                self._check(tensors, program.run(tensors))
            program.checked += 1
        if len(self._known) >= SIZES_KEPT:
            self._known.clear()
        self._known[kind] = program
        return program.run(tensors)

    def _traced(self, tensors: Sequence[Tensor], before: int) -> _Program:
        """One program more, of a kind of sizes that has some `before`."""
        if before >= PROGRAMS_AT_MOST:
            raise CompileError(f"this step cannot be compiled: {before} programs do not serve all numbers of atoms")
        try:
            return _Program(self._function, tensors)
        except Exception as error:  # whatever a tracer raises
            raise _cannot(error) from error


def _cannot(error: Exception) -> CompileError:
    """In one line."""
    lines = str(error).strip().splitlines()
    return CompileError(f"this step cannot be compiled ({type(error).__name__}: {lines[0] if lines else ''})")


class GraphTensors:
    """Which fields of a graph are tensors, and a graph from them.

    The number of structures is the length of the cells, which a tracer sees as a size.
    """

    def __init__(self, graph: AtomicGraph) -> None:
        self.names = [
            field.name for field in dataclasses.fields(graph) if isinstance(getattr(graph, field.name), Tensor)
        ]
        self._like = graph

    def take(self, graph: AtomicGraph) -> list[Tensor]:
        """The tensors of a graph."""
        return [getattr(graph, name) for name in self.names]

    def give(self, tensors: Sequence[Tensor]) -> AtomicGraph:
        """A graph of these tensors."""
        named: dict[str, Any] = dict(zip(self.names, tensors, strict=True))
        return dataclasses.replace(self._like, n_structures=named["cell"].shape[0], **named)


class CompiledPotential:
    """A potential in evaluation that answers by compiled programs, compared with it for the first sizes of each.

    One program serves any number of atoms and pairs; batches of one structure and of several have one each. Graphs with
    fewer than two atoms or pairs are answered by the potential itself. Later changes of its kernels, precision or
    place are not seen.
    """

    def __init__(self, potential: Potential) -> None:
        self.potential = potential
        self._by_names: dict[tuple[str, ...], Compiled] = {}
        self._outputs: list[str] = []

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.potential.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.potential.dtype

    @property
    def programs(self) -> int:
        """How many were compiled."""
        return sum(program.programs for program in self._by_names.values())

    def __call__(self, graph: AtomicGraph) -> Prediction:
        """As `Potential.forward`.

        Raises:
            CompileError: the step cannot be compiled, or gives other numbers.
        """
        potential = self.potential.eval()
        if min(graph.n_atoms, graph.n_edges) < MANY:
            return potential(graph)  # type: ignore[no-any-return]
        potential.require_supported(graph)
        graph = graph.to(self.device, self.dtype)
        fields = GraphTensors(graph)
        names = tuple(fields.names)
        with torch.inference_mode(False), matrix_products(potential.matmul):
            if names not in self._by_names:
                potential(graph)  # by itself once, for those who watch its first answer (`mlanet.precision`)
                self._by_names[names] = self._compiled(fields)
            outputs = self._by_names[names](fields.take(graph))
        return Prediction(**dict(zip(self._outputs, outputs, strict=True)))

    def _compiled(self, fields: GraphTensors) -> Compiled:
        """Energy, forces, stress and whatever else the potential says, as a function of a graph's tensors."""

        def step(*tensors: Tensor) -> list[Tensor]:
            answer = self.potential.answer(fields.give(tensors))
            named = answer.tensors()
            self._outputs = list(named)
            return list(named.values())

        def check(tensors: Sequence[Tensor], answers: Sequence[Tensor]) -> None:
            expected = self.potential.answer(fields.give(tensors))
            pairs = [(name, one, getattr(expected, name)) for name, one in zip(self._outputs, answers, strict=True)]
            require_same(pairs, TOLERANCE[self.dtype])

        return Compiled(step, check)


class CompiledGradient:
    """The value of a loss and its gradient for the weights, by compiled programs, compared for the first sizes of each.

    Args:
        loss: tensors -> loss (); second derivatives of a potential may be in it.
        parameters: the weights; those that the loss does not depend on get no gradient.
        tolerance: of the gradients, relative to the largest entry of each.
    """

    def __init__(self, loss: Callable[..., Tensor], parameters: Sequence[nn.Parameter], tolerance: float) -> None:
        self._loss, self._parameters, self._tolerance = loss, list(parameters), tolerance
        self._used: list[nn.Parameter] = []
        self._compiled = Compiled(self._step, self._check)

    @property
    def programs(self) -> int:
        """How many were compiled."""
        return self._compiled.programs

    def __call__(self, tensors: Sequence[Tensor]) -> Tensor:
        """The loss, detached; its gradient is left in the weights, in the place of what was there.

        Raises:
            CompileError: the step cannot be compiled, or gives other numbers.
        """
        value, *gradients = self._compiled(tensors)
        for parameter, gradient in zip(self._used, gradients, strict=True):
            parameter.grad = gradient
        return value

    def _step(self, *tensors: Tensor) -> list[Tensor]:
        with torch.enable_grad():
            value = self._loss(*tensors)
            slopes = torch.autograd.grad(value, self._parameters, allow_unused=True)
        self._used = [parameter for parameter, slope in zip(self._parameters, slopes, strict=True) if slope is not None]
        return [value.detach(), *(slope for slope in slopes if slope is not None)]

    def _check(self, tensors: Sequence[Tensor], slopes: Sequence[Tensor]) -> None:
        expected = self._step(*tensors)
        least = smallest_gradient(expected[1:])
        names = ["the loss", *(f"gradient {index}" for index in range(len(expected) - 1))]
        require_same(list(zip(names, slopes, expected, strict=True)), self._tolerance, least)


def require_same(pairs: Sequence[tuple[str, Tensor, Tensor]], tolerance: float, least: float = 1e-6) -> None:
    """Refuse a program that says something else than what it was made of; arguments as of `disagreement`.

    Raises:
        CompileError: naming what differs, and by how much.
    """
    if apart := disagreement(pairs, tolerance, least):
        raise CompileError(f"a compiled step gives other numbers: {apart}")
