"""How to compute, chosen once: what every command and the calculator take instead of nine words each.

Nothing here imports torch before `resolve`, so that a command line can be read quickly.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlanet.errors import ConfigError
from mlanet.units import MAX_CUTOFF

if TYPE_CHECKING:
    from mlanet.forecast import MemoryLimit
    from mlanet.native import NativePotential
    from mlanet.potential import Potential

    Answering = Potential | NativePotential
    """What answers: with torch or without."""

KERNELS = ("auto", "plain", "fused", "native")
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
        ConfigError: a precision or kernels that do not exist, a skin that is no length, or two ways to compute a step.
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
        if self.kernels not in KERNELS:
            raise ConfigError(f"kernels: '{self.kernels}' is none of {', '.join(KERNELS)}")
        if not 0.0 <= self.skin < math.inf:
            raise ConfigError(f"skin must be zero or a positive number of Å, got {self.skin}")

    def of_steps(self) -> dict[str, Any]:
        """The words that `MLANetCalculator` takes: all but the memory of a batch."""
        options = dataclasses.asdict(self)
        del options["max_memory"]
        return options

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
        from mlanet.ambient import usual_torch
        from mlanet.checkpoint import copied, load_model, model_path
        from mlanet.devices import device_called
        from mlanet.potential import Potential

        if self.capture and device_called(str(self.device)).type != "cuda":
            raise ConfigError(f"capture is for NVIDIA GPUs; device '{self.device}' is none")
        with usual_torch():
            potential = copied(model) if isinstance(model, Potential) else load_model(model_path(model))
            if not trained:
                potential.requires_grad_(False)
            return self.placed(potential.eval(), inference=True)

    def answering(self, model: Potential | str | os.PathLike[str]) -> Answering:
        """What answers so, without torch where the native engine can do all of it; else as `resolve`, untrained.

        Numbers are the same to the last digit. What the engine computes, and was compared with here, is kept as a file
        for it (`mlanet.native.model_cache`): the first call for a model takes torch's time, later ones do not.

        Raises:
            CheckpointError, ConfigError, KernelError: as `resolve`; ConfigError for a skin that reaches too far.
        """
        found = self._answering(model)
        if found.cutoff + self.skin > MAX_CUTOFF:
            raise ConfigError(
                f"skin {self.skin:g} Å: neighbours are looked up within cutoff + skin, {MAX_CUTOFF:g} Å at most, and "
                f"the cutoff of this model is {found.cutoff:g} Å; 0.5 is a fair value"
            )
        return found

    def _answering(self, model: Potential | str | os.PathLike[str]) -> Answering:
        """Whatever the skin."""
        if not (self._native_alone and isinstance(model, str | os.PathLike)):
            return self.resolve(model, trained=False)
        from mlanet.errors import CheckpointError, KernelError
        from mlanet.model_files import digest_of, is_native, model_path
        from mlanet.native import NativePotential, model_cache

        path = model_path(model)
        if is_native(path):
            return NativePotential(path, self.dtype)
        digest = digest_of(path)
        if (data := model_cache.read(digest, self.dtype)) is not None:
            with contextlib.suppress(CheckpointError, KernelError):  # it is made anew, or somebody else says why not
                return NativePotential(data)
        potential = self.resolve(path, trained=False)
        if (answers := potential.answered_by) is not None:
            model_cache.write(digest, self.dtype, answers.engine.data)  # type: ignore[attr-defined]
        return potential

    @property
    def _native_alone(self) -> bool:
        """Whether nothing is asked for that the native engine has not."""
        whole = self.compiled or self.capture or self.tabulated
        plain = self.matmul == "float32" and self.max_memory is None
        return self.device == "cpu" and self.kernels in ("auto", "native") and plain and not whole

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


def batch_limit(answering: Answering, gib: float | None) -> MemoryLimit | None:
    """`mlanet.forecast.memory_limit`, which an engine on the CPU has none of unless one is named."""
    from mlanet.native import NativePotential

    if gib is None and isinstance(answering, NativePotential):
        return None
    from mlanet.forecast import memory_limit

    return memory_limit(answering, gib)  # type: ignore[arg-type]
