"""A model as the command line names it, on the device and in the precision asked for."""

from __future__ import annotations

from collections.abc import Callable

import torch

from mlanet.checkpoint import load_model, model_path
from mlanet.kernels import use_kernels
from mlanet.potential import Potential
from mlanet.precision import use_matmul

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


def open_model(
    model: str,
    dtype: str | None = None,
    device: str = "cpu",
    kernels: str = "auto",
    matmul: str = "float32",
    tell: Callable[[str], None] = print,
) -> Potential:
    """Load a packaged model or a model file.

    Args:
        model: name of a packaged model, or a path.
        dtype: "float32" or "float64"; None keeps what the model was saved in.
        device: "cpu", "cuda" or "cuda:N".
        kernels: "auto", "plain" or "fused" (`mlanet.kernels.use_kernels`).
        matmul: "float32" or "tf32" (`mlanet.precision`).
        tell: is told once what fewer digits cost.
    Raises:
        CheckpointError: no such model, or a file that is corrupted or of another kind.
        KernelError: kernels that cannot be made on this machine.
        ConfigError: a device or digits that this machine, or kernels that this model does not have.
    """
    precision = None if dtype is None else PRECISIONS[dtype]
    potential = use_kernels(load_model(model_path(model), dtype=precision, device=device), kernels)
    return use_matmul(potential, matmul, lambda found: tell(str(found)))
