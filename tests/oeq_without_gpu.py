"""OpenEquivariance where there is no GPU: a stand-in for its module, on a CPU.

`StandIn` has its interface, computes with e3nn, and refuses what its C++ refuses (shapes, types, as many centers as
senders). `Emulated` has the package itself write the CUDA kernels and compiles them as C++ (`emulated.hpp`).
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import subprocess
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from e3nn import o3
from torch import Tensor, nn

from mlanet.nn.tensor_product import TensorProduct

TYPES = {np.float32: torch.float32, np.float64: torch.float64}


class Problem:
    """`TPProblem`: what of its arguments is used here."""

    def __init__(
        self,
        irreps_in1: o3.Irreps,
        irreps_in2: o3.Irreps,
        irreps_out: o3.Irreps,
        instructions: list[tuple[Any, ...]],
        *,
        shared_weights: bool,
        internal_weights: bool,
        irrep_dtype: type,
        weight_dtype: type,
        layout: str,
    ) -> None:
        assert not shared_weights and not internal_weights and irrep_dtype == weight_dtype and layout == "ir_mul"
        self.irreps, self.instructions = (irreps_in1, irreps_in2, irreps_out), instructions
        self.irrep_dtype = irrep_dtype


def check(problem: Any, dims: Sequence[int], tensors: Sequence[Tensor]) -> None:
    """What `torch_core.hpp` checks: X (V, dim), Y (E, dim), W (E, weight_numel), rows and cols (E,) int64."""
    sent, harmonics, weights, rows, cols = tensors
    assert [one.shape[1] for one in (sent, harmonics, weights)] == list(dims)
    assert len(harmonics) == len(weights) == len(rows) == len(cols) and rows.dtype == cols.dtype == torch.int64
    assert {one.dtype for one in (sent, harmonics, weights)} == {TYPES[problem.irrep_dtype]}


class StandIn(nn.Module):
    """`TensorProductConv` by e3nn, a gather and a sum."""

    def __init__(self, problem: Problem, *, deterministic: bool) -> None:
        super().__init__()
        assert not deterministic
        self.problem = problem
        self.product = TensorProduct(*problem.irreps, problem.instructions, own_weights=False)
        self.product = self.product.to(TYPES[problem.irrep_dtype])

    def forward(self, sent: Tensor, harmonics: Tensor, weights: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        first, second, out = self.problem.irreps
        check(self.problem, (first.dim, second.dim, self.product.weight_numel), (sent, harmonics, weights, rows, cols))
        parts = self.product(turned(sent, first, False)[cols], harmonics, weights)
        return turned(sent.new_zeros(len(sent), out.dim).index_add(0, rows, parts), out, True)


def turned(values: Tensor, irreps: o3.Irreps, back: bool) -> Tensor:
    """From `ir_mul` to e3nn's `mul_ir`, or back."""
    found = []
    for block, (mul, ir) in zip(torch.split(values, [one.dim for one in irreps], dim=1), irreps, strict=True):
        shape = (mul, ir.dim) if back else (ir.dim, mul)
        found.append(block.unflatten(1, shape).transpose(1, 2).flatten(1))
    return torch.cat(found, dim=1)


def stand_in() -> types.SimpleNamespace:
    """In the place of the module."""
    return types.SimpleNamespace(Irreps=o3.Irreps, TPProblem=Problem, TensorProductConv=StandIn)


class Gpu(NamedTuple):
    """What the package asks a GPU. Little shared memory makes many segments."""

    maxSharedMemPerBlock: int = 16384
    multiprocessorCount: int = 2
    warpsize: int = 32


class Emulated(nn.Module):
    """`TensorProductConv` with the package's kernels, compiled as C++."""

    def __init__(self, problem: Any, *, deterministic: bool, folder: Path, gpu: Gpu) -> None:
        from openequivariance.core.LoopUnrollConv import LoopUnrollConv

        super().__init__()
        self.problem = problem
        conv = LoopUnrollConv(problem, gpu, False, torch_op=True, deterministic=deterministic)
        written = json.loads(conv.kernel_string)
        self.segments = [len(one.segments) for one in (conv.forward_schedule, conv.backward_schedule)]
        self.launches = [
            (ctypes.c_int * 2)(one["num_blocks"], one["num_threads"])
            for one in (written[f"{name}_config"] for name in ("forward", "backward", "double_backward"))
        ]
        self.code = compiled(written["kernel"], folder)

    def forward(self, sent: Tensor, harmonics: Tensor, weights: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        problem = self.problem
        dims = (problem.irreps_in1.dim, problem.irreps_in2.dim, problem.weight_numel)
        check(problem, dims, (sent, harmonics, weights, rows, cols))
        found: Tensor = Value.apply(self, rows, cols, sent, harmonics, weights)
        return found

    def run(self, name: str, rows: Tensor, cols: Tensor, tensors: Sequence[Tensor]) -> None:
        """One of the entries of `emulated.hpp`; what is written must be contiguous."""
        kept = [one.detach().contiguous() for one in tensors]
        pointers = (ctypes.c_void_p * len(kept))(*[one.data_ptr() for one in kept])
        ends = [ctypes.c_void_p(one.contiguous().data_ptr()) for one in (rows, cols)]
        getattr(self.code, name)(*self.launches, pointers, *ends, ctypes.c_long(len(rows)), ctypes.c_long(len(kept[0])))


class Value(torch.autograd.Function):
    """As `TensorProductConv.register_autograd`: the derivative is an operation with a derivative."""

    @staticmethod
    def forward(ctx: Any, conv: Emulated, rows: Tensor, cols: Tensor, *inputs: Tensor) -> Tensor:
        ctx.conv, ctx.ends = conv, (rows, cols)
        ctx.save_for_backward(*inputs)
        out = inputs[0].new_zeros(len(inputs[0]), conv.problem.irreps_out.dim)
        conv.run("value", rows, cols, [*inputs, out])
        return out

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> Any:
        return None, None, None, *Gradient.apply(ctx.conv, *ctx.ends, *ctx.saved_tensors, up)


class Gradient(torch.autograd.Function):
    """Of sent, harmonics and weights; those of weights are written, not added."""

    @staticmethod
    def forward(ctx: Any, conv: Emulated, rows: Tensor, cols: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.conv, ctx.ends = conv, (rows, cols)
        ctx.save_for_backward(*inputs)
        sent, harmonics, weights, _ = inputs
        found = torch.zeros_like(sent), torch.zeros_like(harmonics), torch.full_like(weights, torch.nan)
        conv.run("gradient", rows, cols, [*inputs, *found])
        return found

    @staticmethod
    def backward(ctx: Any, *along: Tensor) -> Any:
        inputs = ctx.saved_tensors
        sent, harmonics, weights, up = inputs
        found = torch.zeros_like(sent), torch.zeros_like(harmonics), torch.full_like(weights, torch.nan)
        to_up = torch.zeros_like(up)
        ctx.conv.run("second", *ctx.ends, [*inputs, *along, *found, to_up])
        return None, None, None, *found, to_up


def compiled(kernels: str, folder: Path) -> ctypes.CDLL:
    """The kernels as a library.

    Between two segments they count on lanes that move together (there is no __syncwarp), as those of a GPU do unless
    they diverge. So lanes wait for each other before every copy.
    """
    header, copy = Path(__file__).with_name("emulated.hpp").read_text(), '_Pragma ("unroll")'
    assert copy in kernels
    source = header.replace("KERNELS", kernels.replace(copy, f"__syncwarp(); {copy}"))
    place = folder / f"oeq_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    place.with_suffix(".cpp").write_text(source)
    files = [str(place.with_suffix(".cpp")), "-o", str(place.with_suffix(".so"))]
    subprocess.run(["g++", "-std=c++20", "-O1", "-w", "-shared", "-fPIC", *files], check=True)
    return ctypes.CDLL(str(place.with_suffix(".so")))


def emulated(oeq: Any, folder: Path, gpu: Gpu) -> types.SimpleNamespace:
    """In the place of the module, whose own problems it takes."""

    def convolution(problem: Any, *, deterministic: bool) -> Emulated:
        return Emulated(problem, deterministic=deterministic, folder=folder, gpu=gpu)

    return types.SimpleNamespace(Irreps=oeq.Irreps, TPProblem=oeq.TPProblem, TensorProductConv=convolution)
