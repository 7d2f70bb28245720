"""How to compute, chosen once: what every command and the calculator take instead of nine words each.

Nothing here imports torch before `resolve`, so that a command line can be read quickly.
"""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlanet.errors import ConfigError

if TYPE_CHECKING:
    from mlanet.potential import Potential

PRECISIONS = ("float32", "float64")
"""Of weights and forces; energies are summed in float64 in both."""


@dataclass(frozen=True)
class Execution:
    """Where and how a model computes; numbers are those of the same model but for rounding.

    - dtype: "float32" or "float64"; None keeps the model's · device: "cpu", "cuda" or "cuda:N"
    - kernels: "auto", "plain", "fused" or "native" (`mlanet.kernels`)
    - matmul: "float32" or "tf32" (`mlanet.precision`)
    - compiled: whole steps by torch's compiler · capture: replay of a recorded step, on a GPU
    - tabulated: LEIGNN's radial filters from tables · skin: Å, of neighbour lists that serve for several steps
    - max_memory: GiB that a batch may need, or None

    Raises:
        ConfigError: a precision that does not exist, a skin that is no length, or two ways to compute a whole step.
    """

    dtype: str | None = None
    device: str = "cpu"
    kernels: str = "auto"
    matmul: str = "float32"
    compiled: bool = False
    capture: bool = False
    tabulated: bool = False
    skin: float = 0.0
    max_memory: float | None = None

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in PRECISIONS:
            raise ConfigError(f"dtype '{self.dtype}' is not supported; use {' or '.join(PRECISIONS)}")
        if self.kernels == "native" and (self.compiled or self.capture):
            raise ConfigError("kernels: native is a whole step already; leave out compiled and capture, or take fused")
        if not 0.0 <= self.skin < math.inf:
            raise ConfigError(f"skin must be zero or a positive number of Å, got {self.skin}")

    def of_steps(self) -> dict[str, Any]:
        """The words that `MLANetCalculator` takes: all but the memory of a batch."""
        words = dataclasses.asdict(self)
        del words["max_memory"]
        return words

    def resolve(self, model: Potential | str | os.PathLike[str], *, trained: bool = True) -> Potential:
        """The potential that computes so, in evaluation mode: from a file, or a copy of one that there is.

        trained: whether anybody may ask for gradients of the weights, which kernels are compared in then.
        Digits of matrix products are for whoever asks it to say what they cost (`mlanet.precision.use_matmul`).

        Raises:
            CheckpointError: no such model, or a file that is corrupted or of another kind.
            ConfigError: a device that this machine does not have, kernels or tables that this model does not have, a
                recorded step without a GPU.
            KernelError: kernels that cannot be made on this machine.
        """
        from mlanet.checkpoint import copied, load_model, model_path
        from mlanet.devices import device_called
        from mlanet.potential import Potential

        if self.capture and device_called(str(self.device)).type != "cuda":
            raise ConfigError(f"capture is for NVIDIA GPUs; device '{self.device}' is none")
        potential = copied(model) if isinstance(model, Potential) else load_model(model_path(model))
        if not trained:
            potential.requires_grad_(False)
        return self.placed(potential.eval(), inference=True)

    def placed(self, potential: Potential, *, inference: bool = False) -> Potential:
        """The potential itself, in the mode that it is in: moved, in this precision, with these tables and kernels.

        inference: whether it only answers, so that kernels without gradients of weights may serve
        Raises:
            ConfigError, KernelError: as `resolve`.
        """
        import torch

        from mlanet.checkpoint import moved
        from mlanet.kernels import use_kernels

        potential = moved(potential, None if self.dtype is None else getattr(torch, self.dtype), self.device)
        ready = potential.tabulated() if self.tabulated else potential
        # Steps that torch compiles or records are torch's own.
        return use_kernels(ready, self.kernels, inference=inference and not (self.compiled or self.capture))
