"""A model as the command line names it, on the device and in the precision asked for."""

from __future__ import annotations

from collections.abc import Callable

from mlanet.execution import Execution
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
