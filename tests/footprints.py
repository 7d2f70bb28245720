"""Compiles the GPU kernels for a GPU that need not be there: registers, spills and shared memory of each."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mlanet.ops.edge_degree import gpu_kernels as direction_kernels
from mlanet.ops.edge_degree.gpu import WARPS_OF_PRODUCTS, DirectionSizes
from mlanet.ops.filtered_sum import gpu as filtered_gpu
from mlanet.ops.filtered_sum import gpu_kernels as filtered_kernels
from mlanet.ops.filtered_sum.gpu import FilterSizes
from mlanet.ops.filtered_sum.gpu_kernels import Sums
from mlanet.ops.message.gpu import backward, forward, senders
from mlanet.ops.message.gpu.launch import WARPS
from mlanet.ops.message.gpu.sizes import Sizes
from mlanet.ops.message.gpu.tiles import Inputs, Weights
from mlanet.ops.neighbor_pooling import gpu_kernels as pooling_kernels
from mlanet.ops.neighbor_pooling.gpu import PoolingSizes
from mlanet.ops.node_product import gpu as product_gpu
from mlanet.ops.node_product import gpu_kernels as product_kernels
from mlanet.ops.node_product.gpu import ProductSizes
from mlanet.ops.node_product.gpu_kernels import Lists

MESSAGE = (
    forward.attend,
    backward.edge_gradient,
    backward.logit_gradient,
    senders.sent_gradient,
    senders.key_gradient,
    senders.channel_weight_gradient,
)
FILTERED = (
    filtered_kernels.receive,
    filtered_kernels.edge_gradient,
    filtered_kernels.sent_gradient,
    filtered_kernels.weight_gradient,
)
PRODUCT = (product_kernels.weighed_rows, product_kernels.path_sums)
"""The kernels of these operations."""

LONGEST = {"WEIGHTS": True, "KEEP": True, "MIX": True}
"""What a kernel can do at most."""


class Footprint(NamedTuple):
    """Of one compiled kernel, bytes but the registers of a thread."""

    kernel: str
    capability: int
    dual: bool
    tile: int
    warps: int
    registers: int
    spilled: int
    shared: int


def source(kernel: Any, sizes: Sizes, dual: bool) -> ASTSource:
    """One kernel with the types of a launch on float32."""
    number = ("*fp32", "*fp32") if dual else ("*fp32",)
    types: dict[str, Any] = {"x": Inputs(*[number] * 9), "w": Weights(*["*fp32"] * 8), "to": Inputs(*["*fp32"] * 9)}
    types |= dict.fromkeys(("logit", "level", "pull", "push", "mean"), number)
    types |= dict.fromkeys(("neighbor", "start", "order", "center", "sent_start"), "*i64")
    types |= {"n_centers": "i32", "n_edges": "i32"} | dict.fromkeys(("S", "FIRST", "BEHIND", *LONGEST), "constexpr")
    signature = {one: types.get(one, "*fp32") for one in kernel.arg_names}
    first, behind = sizes.weight_launches[-1]
    constants = {"S": sizes, "FIRST": first, "BEHIND": behind} | LONGEST
    given = {(kernel.arg_names.index(one),): value for one, value in constants.items() if one in kernel.arg_names}
    return ASTSource(kernel, signature, given, pointers_aligned(signature))


def pointers_aligned(signature: dict[str, Any]) -> dict[tuple[int, ...], list[list[Any]]]:
    """All pointers are multiples of 16 bytes, as torch allocates."""
    found = {}
    for index, kind in enumerate(signature.values()):
        for path in paths_to_pointers(kind):
            found[(index, *path)] = [["tt.divisibility", 16]]
    return found


def paths_to_pointers(kind: Any) -> list[tuple[int, ...]]:
    """Where pointers are in nested types."""
    if isinstance(kind, tuple):
        return [(place, *rest) for place, one in enumerate(kind) for rest in paths_to_pointers(one)]
    return [()] if str(kind).startswith("*") else []


def footprint(kernel: Any, sizes: Sizes, dual: bool, capability: int) -> Footprint:
    """Compile and ask the assembler."""
    target = GPUTarget("cuda", capability, 32)
    options = {"num_warps": WARPS, "num_stages": 1}
    made = triton.compile(source(kernel, sizes, dual), target=target, options=options)
    registers, spilled = assembler_report(made.asm["cubin"])
    return Footprint(kernel.__name__, capability, dual, sizes.tile, WARPS, registers, spilled, made.metadata.shared)


def assembler_report(cubin: bytes) -> tuple[int, int]:
    """Registers and bytes of stack (what is spilled) of a thread."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", text)
    assert found, text
    return int(found[1]), int(found[2])


def filtered_footprint(kernel: Any, sizes: FilterSizes, dual: bool, capability: int, real: str = "fp32") -> Footprint:
    """Of one kernel of the filtered sums; real: fp32 or fp64."""
    number = (f"*{real}",) * (1 + dual)
    types: dict[str, Any] = {"x": Sums(number, number, number), "n_edges": "i32"}
    types |= dict.fromkeys(("weight", "out", "up", "to_basis", "to_direction", "to_sent", "to_weight"), f"*{real}")
    types |= dict.fromkeys(("neighbor", "start", "order", "center", "sent_start"), "*i64")
    return _footprint(kernel, types, {"S": sizes}, sizes.tile, filtered_gpu.WARPS, dual, capability)


def product_footprint(
    kernel: Any, sizes: ProductSizes, l_out: int, dual: bool, capability: int, real: str = "fp32"
) -> Footprint:
    """Of one kernel of the product; `weighed_rows` as for y."""
    number, rows = (f"*{real}",) * (1 + dual), (l_out + 1) ** 2
    lists = Lists(*(f"*{real}" if one == "value" else "*i32" for one in Lists._fields))
    types: dict[str, Any] = {"x": number, "left": number, "lists": lists, "n_nodes": "i32"}
    types |= dict.fromkeys(("weight", "out", "up", "to_weight"), f"*{real}")
    constants = {"S": sizes, "ROWS": rows, "ROWS_LEFT": sizes.rows_in, "ROWS_UP": rows}
    return _footprint(kernel, types, constants, sizes.node_tile, product_gpu.WARPS, dual, capability)


def _footprint(
    kernel: Any, types: dict[str, Any], constants: dict[str, Any], tile: int, warps: int, dual: bool, capability: int
) -> Footprint:
    """Compile and ask the assembler."""
    signature = {one: "constexpr" if one in constants else types[one] for one in kernel.arg_names}
    given = {(kernel.arg_names.index(one),): value for one, value in constants.items() if one in kernel.arg_names}
    source = ASTSource(kernel, signature, given, pointers_aligned(signature))
    options = {"num_warps": warps, "num_stages": 1}
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    registers, spilled = assembler_report(made.asm["cubin"])
    return Footprint(kernel.__name__, capability, dual, tile, warps, registers, spilled, made.metadata.shared)


KERNELS_OF_SUMS = {
    DirectionSizes: (
        direction_kernels.directions,
        direction_kernels.edge_gradient,
        direction_kernels.sender_gradient,
        direction_kernels.last_gradient,
        direction_kernels.first_gradient,
    ),
    PoolingSizes: (pooling_kernels.pool, pooling_kernels.envelope_gradient, pooling_kernels.feature_gradient),
}
"""By what they are compiled for."""


def _source_of_sums(kernel: Any, sizes: DirectionSizes | PoolingSizes, dual: bool, dtype: torch.dtype) -> ASTSource:
    """One kernel with the types of a launch."""
    pointer = {torch.float32: "*fp32", torch.float64: "*fp64"}[dtype]
    number = (pointer,) * (2 if dual else 1)
    types: dict[str, Any] = {"n_centers": "i32", "pooled": number, "S": "constexpr"}
    types |= dict.fromkeys(("neighbor", "start", "order", "center", "sent_start"), "*i64")
    types |= {"DEGREE": "constexpr"}
    constants: dict[str, Any] = {"S": sizes}
    if isinstance(sizes, DirectionSizes):
        types |= {"x": direction_kernels.Inputs(*[number] * 4), "w": direction_kernels.Layers(pointer, pointer)}
        types |= {"to": direction_kernels.Inputs(*[pointer] * 4)}
        constants |= {"DEGREE": sizes.l_max}  # the longest
    else:
        types |= {"x": pooling_kernels.Inputs(number, number)}
    signature = {one: types.get(one, pointer) for one in kernel.arg_names}
    given = {(kernel.arg_names.index(one),): value for one, value in constants.items() if one in kernel.arg_names}
    return ASTSource(kernel, signature, given, pointers_aligned(signature))


def footprints(
    sizes: DirectionSizes | PoolingSizes, dual: bool, capability: int, dtype: torch.dtype = torch.float32
) -> list[Footprint]:
    """Compile all kernels of these sizes and ask the assembler."""
    warps = WARPS_OF_PRODUCTS if isinstance(sizes, DirectionSizes) and sizes.hidden else 1
    found = []
    for kernel in KERNELS_OF_SUMS[type(sizes)]:
        if kernel is direction_kernels.first_gradient and warps == 1:
            continue
        target, options = GPUTarget("cuda", capability, 32), {"num_warps": warps, "num_stages": 1}
        made = triton.compile(_source_of_sums(kernel, sizes, dual, dtype), target=target, options=options)
        use = (*assembler_report(made.asm["cubin"]), made.metadata.shared)
        found.append(Footprint(kernel.__name__, capability, dual, sizes.tile, warps, *use))
    return found


def usual(l_max: int, hidden: int, dtype: torch.dtype) -> tuple[DirectionSizes | PoolingSizes, ...]:
    """64 channels and eight radial functions, as people train with; those of pooling only without hidden layers."""
    sender, functions = torch.empty(0, 64, dtype=dtype), torch.empty(8, hidden or 64 * l_max)
    layers = (functions, torch.empty(hidden, 64 * l_max)) if hidden else (functions,)
    found = DirectionSizes.of(l_max, 0.1, sender, layers)
    return (found,) if hidden else (found, PoolingSizes.of(sender))
