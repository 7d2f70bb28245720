"""A model as the command line names it, on the device and in the precision asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlanet.execution import Execution
from mlanet.limits.committee import require_committee
from mlanet.potential import Potential
from mlanet.precision import use_matmul


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
    potential = execution.resolve(model, trained=False)
    return use_matmul(potential, execution.matmul, lambda found: tell(str(found)))


def open_members(
    potential: Potential, model: str, members: Sequence[str], execution: Execution, tell: Callable[[str], None] = print
) -> list[Potential]:
    """The other members of a committee; none where none are named.

    Raises:
        ConfigError: as `require_committee`; and as `open_model`.
    """
    found = [open_model(name, execution, tell) for name in members]
    if found:
        require_committee([potential, *found], [model, *members])
    return found
