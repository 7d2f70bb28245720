"""A model as the command line names it, on the device and in the precision asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlanet.errors import ConfigError
from mlanet.execution import Execution
from mlanet.forecast import memory_limit
from mlanet.limits.committee import require_committee
from mlanet.potential import Potential
from mlanet.precision import use_matmul
from mlanet.together import Together


def together_as(potential: Potential, execution: Execution, max_edges: int = 20_000) -> Together:
    """A potential that is where it computes, for many structures at a time, in batches of this memory.

    Raises:
        ConfigError: compiled or recorded steps, which are of one structure.
    """
    if execution.compiled or execution.capture:
        raise ConfigError("many structures at a time are computed without --compile and --capture; leave these out")
    return Together(potential, max_edges=max_edges, fits=memory_limit(potential, execution.max_memory))


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
