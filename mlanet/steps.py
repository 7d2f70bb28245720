"""What computes the steps of a calculator: the native engine alone, or a potential with torch."""

from __future__ import annotations

import functools
import os
import warnings
from typing import TYPE_CHECKING, Any, Protocol

from ase import Atoms

from mlanet.arrays import AnswerArrays, GraphArrays
from mlanet.errors import CheckpointError
from mlanet.execution import Execution
from mlanet.native import NativePotential

if TYPE_CHECKING:
    from mlanet.capture import Replay
    from mlanet.compiled import CompiledPotential
    from mlanet.graph import AtomicGraph, Prediction
    from mlanet.potential import Potential
    from mlanet.precision import MatmulCost


class Neighbors(Protocol):
    """Where graphs come from: with the pairs within the cutoff, or all pairs of a list with a skin."""

    def graph(self, atoms: Atoms) -> Any:
        """Of pairs within the cutoff."""
        ...

    def wide(self, atoms: Atoms) -> Any:
        """Of all pairs."""
        ...


def steps_of(model: Potential | str | os.PathLike[str], execution: Execution) -> NativeSteps | TorchSteps:
    """Whatever computes a model so; raises as `Execution.answering`."""
    answering = execution.answering(model)
    if isinstance(answering, NativePotential):
        return NativeSteps(answering, os.fspath(model), execution)  # type: ignore[arg-type]  # potentials answer themselves
    return TorchSteps(answering, execution)


class NativeSteps:
    """Of a model file, without torch."""

    matmul_cost: MatmulCost | None = None

    def __init__(self, answering: NativePotential, model: str, execution: Execution) -> None:
        self.answering, self.model, self.execution = answering, model, execution

    @functools.cached_property
    def potential(self) -> Potential:
        """The same with torch, loaded when somebody asks for it.

        Raises:
            CheckpointError: the model's file is gone, is another one now, or is a native one.
        """
        potential = self.execution.resolve(self.model, trained=False)
        engine = getattr(potential.answered_by, "engine", None)
        if engine is None or engine.data != self.answering.engine.data:
            raise CheckpointError(f"{self.model}: is not the model any more that this calculator computes")
        return potential

    def graph(self, atoms: Atoms, cutoff: float) -> GraphArrays:
        """With every pair within a cutoff, Å."""
        return self.answering.graph_of(atoms, cutoff)

    def said(self, neighbors: Neighbors, atoms: Atoms) -> tuple[GraphArrays, AnswerArrays]:
        """The graph of a structure, and what the model says of it."""
        graph = neighbors.graph(atoms)
        return graph, self.answering.said_of(graph)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "potential"}


class TorchSteps:
    """Of a potential: as they are, compiled, or recorded and replayed."""

    def __init__(self, potential: Potential, execution: Execution) -> None:
        self.answering = self.potential = potential
        self.execution = execution
        self.matmul_cost: MatmulCost | None = None
        self._prepare()

    def _prepare(self) -> None:
        from mlanet.capture import Replay
        from mlanet.compiled import CompiledPotential
        from mlanet.precision import use_matmul

        use_matmul(self.potential, self.execution.matmul, functools.partial(setattr, self, "matmul_cost"))
        self.compiled: CompiledPotential | None = CompiledPotential(self.potential) if self.execution.compiled else None
        self.replay: Replay | None = Replay(self.compiled or self.potential) if self.execution.capture else None

    def graph(self, atoms: Atoms, cutoff: float) -> AtomicGraph:
        """With every pair within a cutoff, Å, where the weights are."""
        return self.potential.graph_of(atoms, cutoff, device=self.potential.device)

    def said(self, neighbors: Neighbors, atoms: Atoms) -> tuple[AtomicGraph, Prediction]:
        """The graph of a structure, and what the model says of it: by replay where steps are captured (molecules have
        no images to pad their lists with), by a compiled program where there is one."""
        from mlanet.ambient import usual_torch
        from mlanet.capture import CaptureError
        from mlanet.compiled import CompileError

        with usual_torch():
            if self.replay is not None and atoms.cell.array.any():
                try:
                    wide = neighbors.wide(atoms)
                    # Only limits ask for the graph.
                    graph = wide if self.potential.domain is None else neighbors.graph(atoms)
                    return graph, self.replay(wide)
                except CaptureError as error:
                    self.replay = None
                    warnings.warn(f"{error}; steps are computed one by one", stacklevel=2)
            graph = neighbors.graph(atoms)
            if self.compiled is not None:
                try:
                    return graph, self.compiled(graph)
                except CompileError as error:
                    self.compiled = None
                    warnings.warn(f"{error}; steps are computed as they are", stacklevel=2)
            return graph, self.potential(graph)

    def __getstate__(self) -> dict[str, Any]:
        from mlanet.models import ModelConfig

        state = self.__dict__.copy()
        del state["replay"], state["compiled"], state["answering"]
        # Numbers instead of modules: building them anew is safe while other threads compute (see `copied`).
        potential = self.potential
        if isinstance(potential.model.config, ModelConfig):
            state["potential"] = (potential.model.config, potential.statistics, potential.state_dict())
            state["domain"] = potential.domain
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        from mlanet.ambient import usual_torch
        from mlanet.checkpoint import rebuilt
        from mlanet.kernels import use_kernels

        domain = state.pop("domain", None)
        self.__dict__.update(state)
        with usual_torch():
            if isinstance(self.potential, tuple):
                self.potential = rebuilt(*self.potential).requires_grad_(False)
                self.potential.domain = domain
                if self.execution.tabulated:
                    self.potential.tabulated()
                whole = self.execution.compiled or self.execution.capture
                use_kernels(self.potential, self.execution.kernels, inference=not whole)
            self.answering = self.potential
            self._prepare()
