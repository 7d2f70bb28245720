"""Who computes with tensors such as these where kernels are chosen: C++ on CPUs (`native`), Triton on NVIDIA GPUs
(`gpu`); for operations that have both for any size: filtered sums and products of nodes.
"""

from __future__ import annotations

import functools
import importlib.util

import torch
from torch import Tensor

from mlanet.ops.cpp import library

OLDEST = (8, 0)
"""Capability from which the kernels in Triton are compiled and tested."""


def by_triton(sample: Tensor) -> bool:
    """Whether the kernels for such tensors are those in Triton and not those in C++."""
    return sample.device.type == "cuda"


def has_kernels(sample: Tensor) -> bool:
    """Whether kernels of either kind serve such tensors here."""
    return not obstacle(sample)


def obstacle(sample: Tensor) -> str:
    """Why there are none for such tensors, in words; empty where there are."""
    kind = sample.device.type
    if sample.dtype not in library.REALS:
        return f"fused kernels are for float32 and float64, not {str(sample.dtype).removeprefix('torch.')}"
    if kind not in ("cpu", "cuda"):
        return f"there are fused kernels for CPUs and CUDA, not for {kind}"
    if torch.is_autocast_enabled(kind):
        return "fused kernels compute in the precision of the weights, not under autocast"
    return "" if kind == "cpu" else _cuda_obstacle(sample.device)


@functools.cache
def _cuda_obstacle(device: torch.device) -> str:
    """What a GPU lacks, asked once: the answer is wanted in every layer."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (CUDA builds of PyTorch bring it)"
    if torch.cuda.get_device_capability(device) < OLDEST:
        return f"{torch.cuda.get_device_name(device)} is below capability {OLDEST[0]}.{OLDEST[1]}"
    return ""
