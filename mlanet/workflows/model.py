"""A model as the command line names it, on the device and in the precision asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mlanet.batched_potential import BatchedPotential
from mlanet.errors import ConfigError
from mlanet.execution import Execution, batch_limit
from mlanet.native import NativePotential

if TYPE_CHECKING:
    from mlanet.execution import Answering
    from mlanet.potential import Potential


def batched_potential_of(potential: Answering, execution: Execution, max_edges: int = 20_000) -> BatchedPotential:
    """A potential that is where it computes, for many structures at a time, in batches of this memory.

    Raises:
        ConfigError: compiled or recorded steps, which are of one structure.
    """
    if execution.compiled or execution.capture:
        raise ConfigError("many structures at a time are computed without --compile and --capture; leave these out")
    return BatchedPotential(potential, max_edges=max_edges, fits=batch_limit(potential, execution.max_memory))


def open_model(model: str, execution: Execution | None = None, tell: Callable[[str], None] = print) -> Potential:
    """Load a packaged model or a model file.

    Args:
        model: name of a packaged model, or a path.
        execution: how it computes; if not given, as it was saved, on the CPU, by the fastest kernels.
        tell: is told once what fewer digits cost.
    Raises:
        CheckpointError, ConfigError, KernelError: as `Execution.resolve`.
    """
    execution = execution or Execution()
    return _telling(execution.resolve(model, trained=False), execution, tell)


def open_answering(model: str, execution: Execution, tell: Callable[[str], None] = print) -> Answering:
    """The same, without torch where that can be; raises as `Execution.answering`."""
    answering = execution.answering(model)
    return answering if isinstance(answering, NativePotential) else _telling(answering, execution, tell)


def _telling(potential: Potential, execution: Execution, tell: Callable[[str], None]) -> Potential:
    from mlanet.precision import use_matmul

    return use_matmul(potential, execution.matmul, lambda cost: tell(str(cost)))


def open_members(
    potential: Potential, model: str, members: Sequence[str], execution: Execution, tell: Callable[[str], None] = print
) -> list[Potential]:
    """The other members of a committee; none where none are named.

    Raises:
        ConfigError: as `require_committee`; and as `open_model`.
    """
    opened = [open_model(name, execution, tell) for name in members]
    if opened:
        from mlanet.limits.committee import require_committee

        require_committee([potential, *opened], [model, *members])
    return opened
