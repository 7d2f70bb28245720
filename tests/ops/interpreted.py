"""Runs the GPU kernels in Triton's interpreter and compares them with the equations and torch's derivatives of it.

A program of its own, because the interpreter must be chosen before triton is imported:
`TRITON_INTERPRET=1 python interpreted.py PROBLEM,CHEMICAL_SCALE,HIDDEN_LAYERS,float64|float32,WHAT,GATE_CHANNELS …`,
with WHAT one of message, gradient and tangent.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

import torch
from problems import LARGE, SMALL, Problem
from torch import Tensor
from triton.language import core as language
from triton.runtime import interpreter

from mlanet.ops.message.gpu import launch
from mlanet.ops.message.gpu.operation import GpuMessage
from mlanet.ops.message.reference import MessageShape, message_of_rows
from mlanet.ops.rows import Rows

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}
"""Of the largest number of each tensor."""

FULL_WIDTH = {"molecules_l1": (8,), "crystal_l2": (18, 0), "crystal_l3": (3,)}
"""Edges of the few atoms that are kept of large problems. `surface_l2` has the sizes of `crystal_l2`."""

MORE = (Problem("tiles", (17, 0, 16), 1, 6, 3, 2), Problem("own_l3", (2,), 3, 4, 2, 3))
"""In `tiles`, edges of a center fill more than a tile, and nothing is a power of two."""

PROBLEMS = {one.name: one for one in (*SMALL, *MORE)}
PROBLEMS |= {one.name: dataclasses.replace(one, edges=FULL_WIDTH[one.name]) for one in LARGE if one.name in FULL_WIDTH}

WIDTHS = {"tiles": (20, 10, 6)} | {name: (64, 8, 64) for name in FULL_WIDTH}
"""Of z, RBF and the hidden layer, where they are not (5, 3, 6)."""

launch.PROGRAMS, launch.EDGES_OF_PROGRAM = (
    2,
    16,
)  # so that programs have several centers and tiles, and there are several


class PatchedOnce(set[object]):
    """Device functions whose modules are patched: the interpreter patches at each call, most of its time."""

    def call(self, function: interpreter.InterpretedFunction, *arguments: object, **options: object) -> object:
        if function.fn not in self:
            self.add(function.fn)
            interpreter._patch_lang(function.fn)
        return function.rewrite()(*arguments, **options)


PATCHED = PatchedOnce()


def remember_types() -> None:
    """Types of blocks, and the shapes of tensors of them, are made once: the interpreter makes them for each number."""
    blocks: dict[tuple[object, ...], dict[str, object]] = {}
    shapes: dict[tuple[int, ...], tuple[object, object]] = {}
    numpy_types: dict[str, object] = {}
    make_block, make_tensor = language.block_type.__init__, language.tensor.__init__
    numpy_type = interpreter._get_np_dtype

    def block(self: language.block_type, element_ty: language.dtype, shape: Sequence[object]) -> None:
        key = (element_ty.name, *(getattr(one, "value", one) for one in shape))
        if key not in blocks:
            make_block(self, element_ty, shape)
            blocks[key] = dict(self.__dict__)
        self.__dict__.update(blocks[key])

    def tensor(self: language.tensor, handle: object, type: language.dtype) -> None:
        key = tuple(type.shape.values) if type.is_block() else ()
        if key not in shapes:
            make_tensor(self, handle, type)
            shapes[key] = (self.shape, self.numel)
        self.handle, self.type, self.dtype = handle, type, type.scalar
        self.shape, self.numel = shapes[key]

    def numpy_once(kind: language.dtype) -> object:
        name = kind.scalar.name
        if name not in numpy_types:
            numpy_types[name] = numpy_type(kind.scalar)
        return numpy_types[name]

    language.block_type.__init__, language.tensor.__init__ = block, tensor
    interpreter._get_np_dtype = numpy_once


interpreter.InterpretedFunction.__call__ = lambda self, *arguments, **options: PATCHED.call(self, *arguments, **options)
# As where kernels are compiled: checks of the sums of indices double the work on them.
interpreter.interpreter_builder.options = interpreter.InterpreterOptions(sanitize_overflow=False)
remember_types()


def draw(
    problem: Problem, chemical_scale: float, layers: int, gate_channels: int
) -> tuple[MessageShape, Rows, list[Tensor], list[Tensor]]:
    """Seeded inputs by atom and by edge, one edge of envelope 0 among them, and weights."""
    generator = torch.Generator().manual_seed(0)
    n, e, m, c = problem.n_atoms, problem.n_edges, problem.rows, problem.channels
    width, out, terms = (
        problem.heads * problem.key_dim,
        c * (problem.l_max + 1),
        problem.heads * (2 * problem.l_max + 2),
    )
    (hidden, functions, inside), gates = WIDTHS.get(problem.name, (5, 3, 6)), out // gate_channels

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    envelope = torch.rand(e, generator=generator, dtype=torch.float64)
    envelope[1:2] = 0.0
    inputs = [normal(n, m, c), normal(n, m, width), normal(n, hidden), normal(n, m, width), normal(n, hidden)]
    inputs += [normal(n), envelope, normal(e, functions), normal(e, m)]
    weights = [normal(functions, hidden), normal(gates, hidden), normal(gates), normal(terms, hidden), normal(terms)]
    weights += [normal(problem.heads)]
    weights += [normal(functions, inside), normal(inside, 2 * out)] if layers else [normal(functions, 2 * out)]
    rows = Rows(torch.randint(n, (e,), generator=generator), torch.tensor((0, *problem.edges)).cumsum(0))
    shape = MessageShape(problem.l_max, problem.heads, problem.key_dim, chemical_scale, gate_channels=gate_channels)
    return shape, rows, inputs, weights


def reference(shape: MessageShape, rows: Rows, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """The equations."""
    return message_of_rows(shape, rows, [*inputs, *weights])


def compare(what: str, found: Sequence[Tensor], wanted: Sequence[Tensor], dtype: torch.dtype) -> None:
    """The same shapes and numbers, tensor by tensor; at least one number must not vanish where there are edges."""
    for place, (one, other) in enumerate(zip(found, wanted, strict=True)):
        assert one.shape == other.shape and one.dtype == dtype, (what, place, one.shape, other.shape, one.dtype)
        scale = max(1.0, float(other.detach().abs().max())) if other.numel() else 1.0
        wrong = float((one.double() - other.detach()).abs().max()) / scale if other.numel() else 0.0
        assert wrong < TOLERANCE[dtype], f"{what}: tensor {place} differs by {wrong:.1e}"


def main(name: str, chemical_scale: str, layers: str, precision: str, until: str, gate_channels: str) -> None:
    """Values, then first, then second derivatives."""
    dtype = getattr(torch, precision)
    shape, rows, inputs, weights = draw(PROBLEMS[name], float(chemical_scale), int(layers), int(gate_channels))
    leaves = [one.requires_grad_() for one in (*inputs, *weights)]
    given, operation = [one.to(dtype) for one in leaves], GpuMessage(shape, rows)
    present = (inputs[6] > 0).double()  # where the envelope is 0 its slope is left out

    message = reference(shape, rows, inputs, weights)
    compare("message", [operation.value(given)], [message], dtype)
    assert message.abs().max() > 0 or not rows.neighbor.numel()

    if until == "message":
        return
    up = torch.randn(message.shape, dtype=torch.float64).requires_grad_()
    options = {"create_graph": True, "allow_unused": True, "materialize_grads": True}
    first = list(torch.autograd.grad(message, leaves, up, **options))
    wanted = [*first[:6], first[6] * present, *first[7:]]
    found = operation.gradient(up.to(dtype), given, True)
    compare("gradient", found, wanted, dtype)
    inputs_only = operation.gradient(up.to(dtype), given, False)
    compare("gradient of inputs", inputs_only, wanted[:9], dtype)

    if until == "gradient":
        return
    along = [torch.randn(one.shape, dtype=torch.float64) for one in inputs]
    along[6] *= present
    total = torch.stack([(one * a).sum() for one, a in zip(first[:9], along, strict=True)]).sum()
    second = list(torch.autograd.grad(total, [up, *leaves], allow_unused=True, materialize_grads=True))
    second[7] = second[7] * present
    directions = [one.to(dtype) for one in along]
    compare("tangent", operation.tangent(up.to(dtype), directions, given), second, dtype)


if __name__ == "__main__":
    for case in sys.argv[1:]:
        torch.manual_seed(0)
        try:
            main(*case.split(","))
        except Exception as error:
            error.add_note(case)
            raise
