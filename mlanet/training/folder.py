"""The folder of a training: what stands in it, when a run may begin or go on there, and who holds it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch

from mlanet.errors import ConfigError, MLANetError
from mlanet.ownership import owned
from mlanet.training.processes import Processes

MODEL, STATE = "model.safetensors", "checkpoint.safetensors"


def require_free(folder: Path, resume: bool) -> None:
    """Refuse to start over a run, or to go on with none; what a killed run leaves always allows one of the two.

    Raises:
        ConfigError: what stands there and what to do instead.
    """
    if resume and not (folder / STATE).exists():
        raise ConfigError(f"{folder} holds no checkpoint to resume from")
    if not resume and (folder / STATE).exists():
        raise ConfigError(f"{folder} holds a run already; go on with --resume, or choose another run.folder")
    if not resume and (folder / MODEL).exists():
        raise ConfigError(f"{folder} holds a model already; choose another run.folder")


@contextlib.contextmanager
def owned_by_first(folder: Path, processes: Processes) -> Iterator[None]:
    """The folder, held by the first process of a run; if it is refused, all of them end with the error."""
    with contextlib.ExitStack() as stack:
        refusal: MLANetError | None = None
        if processes.first:
            try:
                stack.enter_context(owned(folder, "mlanet train"))
            except MLANetError as error:
                refusal = error
        if processes.sum(torch.tensor([refusal is not None], dtype=torch.float64)).item():
            raise refusal or ConfigError(f"{folder}: was refused to the first process")
        yield
