"""The fused dual-path message: from node features, edge geometry and weights to what every center receives, as one
operation with first and second derivatives, in memory of the size of the atoms.

`mlanet.ops.message.block.message` says what it computes. Who computes it: C++ on CPUs (`native`), Triton
on NVIDIA GPUs (`gpu`).
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from mlanet.ops import autograd, backend
from mlanet.ops.cpp.calls import MAX_DEPTH
from mlanet.ops.edge_degree.cpu import NativeDirections
from mlanet.ops.edge_degree.gpu import GpuDirections
from mlanet.ops.edge_degree.gpu import obstacle as directions_obstacle
from mlanet.ops.edge_degree.reference import DirectionInputs, directions
from mlanet.ops.message.block import BlockInputs, BlockShape, BlockWeights
from mlanet.ops.message.cpu import NativeMessage
from mlanet.ops.message.gpu.operation import GpuMessage
from mlanet.ops.message.gpu.sizes import obstacle as message_obstacle
from mlanet.ops.neighbor_pooling.cpu import NativeViews
from mlanet.ops.neighbor_pooling.gpu import GpuViews
from mlanet.ops.neighbor_pooling.gpu import obstacle as views_obstacle
from mlanet.ops.neighbor_pooling.reference import surroundings
from mlanet.ops.rows import Rows
from mlanet.ops.segment import Neighborhoods

Kernels = Literal["plain", "fused"]
"""How messages are computed: in plain torch, all edges at once; or by kernels written for the purpose."""


def can_fuse(kernels: Kernels, shape: BlockShape, sent: Tensor, weights: BlockWeights) -> bool:
    """Whether these kernels serve such sizes, device and precision."""
    return kernels == "fused" and not obstacle(shape, sent, weights)


def obstacle(shape: BlockShape, sent: Tensor, weights: BlockWeights) -> str:
    """Why there is no fused kernel for a message, in words; empty where there is one."""
    if found := backend.obstacle(sent):
        return found
    if backend.by_triton(sent):
        return message_obstacle(shape, sent.shape[-1], weights)
    depth = len(weights.mlp)
    return f"radial networks may have {MAX_DEPTH} layers, this has {depth}" if depth > MAX_DEPTH else ""


def attention_message(shape: BlockShape, rows: Rows, inputs: BlockInputs, weights: BlockWeights) -> Tensor:
    """m (N, M, C); `inputs` as `BlockInputs`, but by atom (N, …) and by edge (E, …)."""
    by_triton = backend.by_triton(inputs.sent)
    operation: autograd.Operation = GpuMessage(shape, rows) if by_triton else NativeMessage(shape, rows)
    return autograd.apply(operation, inputs, weights.flat())


def first_directions(
    kernels: Kernels,
    factor: float,
    around: Neighborhoods,
    rows: Rows,
    inputs: DirectionInputs,
    layers: tuple[Tensor, ...],
) -> Tensor:
    """h⁰ (N, (L+1)² − 1, C) of degrees 1 … L, by kernels where there are some."""
    l_max, sender = math.isqrt(inputs.harmonics.shape[1]) - 1, inputs.sender
    there, by_triton = kernels == "fused" and backend.has_kernels(sender), backend.by_triton(sender)
    operation: autograd.Operation
    if there and by_triton and not directions_obstacle(l_max, sender.shape[1], layers):
        operation = GpuDirections(l_max, factor, rows)
    elif there and not by_triton and len(layers) <= MAX_DEPTH:
        operation = NativeDirections(l_max, factor, rows)
    else:
        return directions(factor, around, rows.neighbor, inputs, layers)
    return autograd.apply(operation, inputs, layers)


def views(
    kernels: Kernels, l_max: int, around: Neighborhoods, rows: Rows, features: Tensor, envelope: Tensor
) -> Tensor:
    """Weighed sum and smooth maximum of the neighbours' features (N, 2, C), by kernels where there are some."""
    there, by_triton = kernels == "fused" and backend.has_kernels(features), backend.by_triton(features)
    operation: autograd.Operation
    if there and by_triton and not views_obstacle(features.shape[1]):
        operation = GpuViews(rows)
    elif there and not by_triton:
        operation = NativeViews(l_max, rows)
    else:
        return surroundings(features, envelope, rows.neighbor, around)
    return autograd.apply(operation, (features, envelope), ())
