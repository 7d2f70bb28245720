"""The tensor product of full messages by OpenEquivariance, for NVIDIA and AMD GPUs; optional (extra `oeq`).

Its layout `ir_mul`, its order of paths and its norms are ours, so nothing is permuted. Attention and gate are one
number per channel and degree of the result, so they go into the weights of the paths: the whole message is one
operation that gathers, multiplies and sums, and no product of an edge is stored.
"""

from __future__ import annotations

import functools
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlanet.errors import KernelError
from mlanet.ops.paths import paths
from mlanet.ops.segment import Neighborhoods

REALS = {torch.float32: np.float32, torch.float64: np.float64}
"""Its precisions, by torch's."""


def full_message(
    sent: Tensor, weights: Tensor, gates: Tensor, harmonics: Tensor, neighbor: Tensor, around: Neighborhoods
) -> Tensor:
    """m_i^c = Σ_j g_ij^c ⊙ Σ_path W_path ⊙ (v_j^a ⊗ Y^b)^c (N, M, C).

    - sent v (N, M, C) · weights (E, paths, C) · gates g (E, L+1, C) · harmonics Y (E, M) · neighbor (E,)

    Memory O(E · paths · C), for the weights.

    Raises:
        KernelError: OpenEquivariance is not installed, there is no GPU, the precision is none of its, or torch is told
            to be deterministic.
    """
    # Indices from the host would be copied in every call, which a CUDA graph does not allow.
    of_paths = torch.stack([gates[:, c] for _, _, c in paths(gates.shape[1] - 1)], dim=1)
    return _convolve(sent, weights * of_paths, harmonics, around.center, neighbor)


def full_product(sent: Tensor, weights: Tensor, harmonics: Tensor) -> Tensor:
    """V (E, M, C), as `paths.full_values`: the same operation where every edge has a sender and a center of its own.

    - sent v_j (E, M, C) · weights (E, paths, C) · harmonics Y (E, M)

    Raises:
        KernelError: as `full_message`.
    """
    each = torch.arange(sent.shape[0], device=sent.device)
    return _convolve(sent, weights, harmonics, each, each)


def _convolve(sent: Tensor, weights: Tensor, harmonics: Tensor, center: Tensor, neighbor: Tensor) -> Tensor:
    """Σ over the edges of each center; as many centers as senders."""
    if torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled():
        raise KernelError("kernels: oeq sums in no fixed order, which deterministic algorithms do not allow")
    l_max, channels = round(sent.shape[1] ** 0.5) - 1, sent.shape[2]
    with torch.cuda.device_of(sent):
        convolution = _convolution(l_max, channels, sent.dtype, sent.device)
        found: Tensor = convolution(sent.flatten(1), harmonics, weights.flatten(1), center.long(), neighbor.long())
    return found.view_as(sent)


@functools.cache
def _convolution(l_max: int, channels: int, dtype: torch.dtype, device: torch.device) -> Any:
    """OpenEquivariance's own, with sums by atomics: the sums of fixed order need every edge's reverse in the list."""
    oeq = _library(device)
    if dtype not in REALS:
        raise KernelError(f"kernels: oeq computes in float32 and float64, not {str(dtype).removeprefix('torch.')}")
    with torch.inference_mode(False):
        return oeq.TensorProductConv(problem(oeq, l_max, channels, dtype), deterministic=False)


def problem(oeq: Any, l_max: int, channels: int, dtype: torch.dtype) -> Any:
    """What OpenEquivariance (the module) is asked to compute."""

    def irreps(copies: int) -> Any:
        return oeq.Irreps("+".join(f"{copies}x{l}{'eo'[l % 2]}" for l in range(l_max + 1)))  # noqa: E741

    return oeq.TPProblem(
        irreps(channels),
        irreps(1),
        irreps(channels),
        [(a, b, c, "uvu", True) for a, b, c in paths(l_max)],
        shared_weights=False,
        internal_weights=False,
        irrep_dtype=REALS[dtype],
        weight_dtype=REALS[dtype],
        layout="ir_mul",
    )


def _library(device: torch.device) -> Any:
    """The module. Without CUDA or HIP it cannot be imported; ROCm's devices are called cuda too."""
    if find_spec("openequivariance") is None:
        raise KernelError('kernels: oeq needs an NVIDIA or AMD GPU and OpenEquivariance: pip install "mlanet[oeq]"')
    if device.type != "cuda":
        raise KernelError(f"kernels: oeq needs an NVIDIA or AMD GPU; this potential is on the {device.type}")
    import openequivariance

    return openequivariance
