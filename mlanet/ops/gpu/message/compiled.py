"""Compiles the kernels for a GPU that need not be there: registers, spills and shared memory of each."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mlanet.ops.gpu.message.launch import KERNELS, WARPS
from mlanet.ops.gpu.message.sizes import Sizes
from mlanet.ops.gpu.message.tiles import Inputs, Weights

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


def source(name: str, sizes: Sizes, dual: bool) -> ASTSource:
    """One kernel with the types of a launch on float32."""
    kernel = KERNELS[name]
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


def footprint(name: str, sizes: Sizes, dual: bool, capability: int) -> Footprint:
    """Compile and ask the assembler."""
    target = GPUTarget("cuda", capability, 32)
    options = {"num_warps": WARPS, "num_stages": 1}
    made = triton.compile(source(name, sizes, dual), target=target, options=options)
    registers, spilled = assembler_report(made.asm["cubin"])
    return Footprint(name, capability, dual, sizes.tile, WARPS, registers, spilled, made.metadata.shared)


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
