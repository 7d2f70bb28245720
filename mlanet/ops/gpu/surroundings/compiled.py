"""As `compiled`, of the kernels of first directions and views."""

from __future__ import annotations

from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mlanet.ops.gpu.message.compiled import Footprint, assembler_report, pointers_aligned
from mlanet.ops.gpu.surroundings import direction_kernels, view_kernels
from mlanet.ops.gpu.surroundings.directions import WARPS_OF_PRODUCTS, DirectionSizes
from mlanet.ops.gpu.surroundings.views import ViewSizes

KERNELS = {
    DirectionSizes: (
        direction_kernels.directions,
        direction_kernels.edge_gradient,
        direction_kernels.sender_gradient,
        direction_kernels.last_gradient,
        direction_kernels.first_gradient,
    ),
    ViewSizes: (view_kernels.surroundings, view_kernels.envelope_gradient, view_kernels.feature_gradient),
}
"""By what they are compiled for."""


def source(kernel: Any, sizes: DirectionSizes | ViewSizes, dual: bool, dtype: torch.dtype) -> ASTSource:
    """One kernel with the types of a launch."""
    pointer = {torch.float32: "*fp32", torch.float64: "*fp64"}[dtype]
    number = (pointer,) * (2 if dual else 1)
    types: dict[str, Any] = {"n_centers": "i32", "views": number, "S": "constexpr"}
    types |= dict.fromkeys(("neighbor", "start", "order", "center", "sent_start"), "*i64")
    types |= {"DEGREE": "constexpr"}
    constants: dict[str, Any] = {"S": sizes}
    if isinstance(sizes, DirectionSizes):
        types |= {"x": direction_kernels.Inputs(*[number] * 4), "w": direction_kernels.Layers(pointer, pointer)}
        types |= {"to": direction_kernels.Inputs(*[pointer] * 4)}
        constants |= {"DEGREE": sizes.l_max}  # the longest
    else:
        types |= {"x": view_kernels.Inputs(number, number)}
    signature = {one: types.get(one, pointer) for one in kernel.arg_names}
    given = {(kernel.arg_names.index(one),): value for one, value in constants.items() if one in kernel.arg_names}
    return ASTSource(kernel, signature, given, pointers_aligned(signature))


def footprints(
    sizes: DirectionSizes | ViewSizes, dual: bool, capability: int, dtype: torch.dtype = torch.float32
) -> list[Footprint]:
    """Compile all kernels of these sizes and ask the assembler."""
    warps = WARPS_OF_PRODUCTS if isinstance(sizes, DirectionSizes) and sizes.hidden else 1
    found = []
    for kernel in KERNELS[type(sizes)]:
        if kernel is direction_kernels.first_gradient and warps == 1:
            continue
        target, options = GPUTarget("cuda", capability, 32), {"num_warps": warps, "num_stages": 1}
        made = triton.compile(source(kernel, sizes, dual, dtype), target=target, options=options)
        use = (*assembler_report(made.asm["cubin"]), made.metadata.shared)
        found.append(Footprint(kernel.__name__, capability, dual, sizes.tile, warps, *use))
    return found


def usual(l_max: int, hidden: int, dtype: torch.dtype) -> tuple[DirectionSizes | ViewSizes, ...]:
    """64 channels and eight radial functions, as people train with; those of views only without a hidden layer."""
    sender, functions = torch.empty(0, 64, dtype=dtype), torch.empty(8, hidden or 64 * l_max)
    layers = (functions, torch.empty(hidden, 64 * l_max)) if hidden else (functions,)
    found = DirectionSizes.of(l_max, 0.1, sender, layers)
    return (found,) if hidden else (found, ViewSizes.of(sender))
