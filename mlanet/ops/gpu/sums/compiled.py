"""Compiles the kernels of filtered sums and products for a GPU that need not be there, as `compiled` does."""

from __future__ import annotations

from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mlanet.ops.gpu.message.compiled import Footprint, assembler_report, pointers_aligned
from mlanet.ops.gpu.sums import filtered_launch, product_launch
from mlanet.ops.gpu.sums.filtered_kernels import Sums
from mlanet.ops.gpu.sums.filtered_launch import FilterSizes
from mlanet.ops.gpu.sums.product_kernels import Lists
from mlanet.ops.gpu.sums.product_launch import ProductSizes


def filtered_footprint(name: str, sizes: FilterSizes, dual: bool, capability: int, real: str = "fp32") -> Footprint:
    """Of one kernel of the filtered sums; real: fp32 or fp64."""
    number = (f"*{real}",) * (1 + dual)
    types: dict[str, Any] = {"x": Sums(number, number, number), "n_edges": "i32"}
    types |= dict.fromkeys(("weight", "out", "up", "to_basis", "to_direction", "to_sent", "to_weight"), f"*{real}")
    types |= dict.fromkeys(("neighbor", "start", "order", "center", "sent_start"), "*i64")
    warps = filtered_launch.WARPS[name]
    return _footprint(filtered_launch.KERNELS[name], types, {"S": sizes}, sizes.tile, warps, dual, capability)


def product_footprint(
    name: str, sizes: ProductSizes, l_out: int, dual: bool, capability: int, real: str = "fp32"
) -> Footprint:
    """Of one kernel of the product; `weighed_rows` as for y."""
    number, rows = (f"*{real}",) * (1 + dual), (l_out + 1) ** 2
    lists = Lists(*(f"*{real}" if one == "value" else "*i32" for one in Lists._fields))
    types: dict[str, Any] = {"x": number, "left": number, "lists": lists, "n_nodes": "i32"}
    types |= dict.fromkeys(("weight", "out", "up", "to_weight"), f"*{real}")
    constants = {"S": sizes, "ROWS": rows, "ROWS_LEFT": sizes.rows_in, "ROWS_UP": rows}
    kernel, warps = product_launch.KERNELS[name], product_launch.WARPS
    return _footprint(kernel, types, constants, sizes.node_tile, warps, dual, capability)


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
