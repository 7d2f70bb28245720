"""The dual-path message as an operation in C++ (attention.hpp, message.hpp)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mlanet.ops.cpp import library
from mlanet.ops.cpp.calls import MAX_DEPTH, addresses, call, interleaved, joined, own_places, widths_field
from mlanet.ops.cpp.padding import Widths, crop, pad
from mlanet.ops.message.reference import N_GATHERED, N_INPUTS, MessageShape, MessageWeights, message_of_rows
from mlanet.ops.rows import Rows
from mlanet.ops.tensor_product import couplings

N_WEIGHTS = len(MessageWeights._fields) - 1
"""Weights besides the layers of the radial network."""


class _Sizes(ctypes.Structure):
    """As in attention.hpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("centers", "atoms", "channels", "gates", "gate_channels", "per_head")),
        *((name, ctypes.c_int64) for name in ("heads", "key_dim", "keys", "hidden", "functions", "depth")),
        ("widths", ctypes.c_int64 * (MAX_DEPTH + 1)),
        ("chemical_scale", ctypes.c_double),
        ("uniform_scale", ctypes.c_double),
        ("threads", ctypes.c_int64),
        ("envelope_once", ctypes.c_int64),
    ]


class _Couplings(ctypes.Structure):
    """As in full.hpp."""

    _fields_ = [("count", ctypes.c_int64), *((name, ctypes.c_void_p) for name in ("entry", "row", "value"))]


@dataclass(frozen=True)
class NativeMessage:
    """The dual-path message of all centers (`mlanet.ops.message.reference.message`), an `Operation`.

    Cost per edge 2 (B R + B R' + R (L+1) C/G + R' F C) FLOP for the networks of widths R and R', gates of G channels,
    F = 2 (L+1) for light values and the number of paths for full ones; then 4 (L+1)² C or, with paths (a, b, c),
    2 Σ (2a+1) (2c+1) C for the message. Memory O(N), and O(N) for each thread in the gradient.
    """

    shape: MessageShape
    rows: Rows
    n_inputs: int = field(default=N_INPUTS, init=False)

    def blank(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `Operation`."""
        return tensors[0].new_empty(self.rows.start.shape[0] - 1, *tensors[0].shape[1:])

    def value(self, tensors: Sequence[Tensor]) -> Tensor:
        """m (N, M, C)."""
        run = _Run(self, tensors)
        out = run.new_message()
        run("mlanet_message", run.inputs, out)
        return out[:, :, : tensors[0].shape[2]]

    def gradient(self, up: Tensor, tensors: Sequence[Tensor], with_weights: bool) -> tuple[Tensor, ...]:
        """See `Operation`."""
        run = _Run(self, tensors)
        sums = _Sums(run, with_weights)
        run("mlanet_message_gradient", run.inputs, run.wide(up), addresses([None, *sums.places]))
        return sums.result(tensors)

    def tangent(self, up: Tensor, along: Sequence[Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """See `Operation`."""
        run = _Run(self, tensors)
        sums, out = _Sums(run, with_weights=True), run.new_message()
        both = interleaved(run.inputs, pad(along, run.widths, self.shape))
        run("mlanet_message_tangent", both, run.wide(up), addresses([out, *sums.places]))
        return out[:, :, : up.shape[2]], *sums.result(tensors)

    def reference(self, tensors: Sequence[Tensor]) -> Tensor:
        """In plain torch."""
        return message_of_rows(self.shape, self.rows, tensors)


class _Run:
    """One call of the library: tensors padded to whole vectors, and their sizes."""

    def __init__(self, operation: NativeMessage, tensors: Sequence[Tensor]) -> None:
        shape = operation.shape
        self.operation, self.threads = operation, torch.get_num_threads()
        self.library = library.load(shape.l_max, tensors[0].dtype)
        self.widths = Widths.of(tensors, shape, self.library.mlanet_lanes())
        self.couplings = _couplings(shape, tensors[0].dtype)
        padded = pad(tensors, self.widths, shape)
        self.inputs, self.weights = padded[:N_INPUTS], padded[N_INPUTS:]
        self.sizes = _Sizes(
            centers=len(operation.rows.start) - 1,
            atoms=len(tensors[0]),
            channels=self.widths.channels,
            gates=self.widths.gates,
            gate_channels=shape.gate_channels,
            per_head=tensors[0].shape[2] // max(1, shape.heads),
            heads=shape.heads,
            key_dim=shape.key_dim,
            keys=self.widths.keys,
            hidden=self.widths.hidden,
            functions=self.widths.mlp[0],
            depth=len(self.widths.mlp) - 1,
            widths=widths_field(self.widths.mlp),
            chemical_scale=shape.chemical_scale,
            uniform_scale=shape.uniform_scale,
            threads=self.threads,
            envelope_once=shape.envelope_once,
        )

    def __call__(self, name: str, inputs: Sequence[Tensor], *arguments: object) -> None:
        call(
            self.library,
            name,
            self.sizes,
            self.operation.rows,
            self.couplings,
            addresses(inputs),
            addresses(self.weights),
            *arguments,
        )

    def new_message(self) -> Tensor:
        """(N, M, C) zeros, padded."""
        sent = self.inputs[0]
        return sent.new_zeros(self.sizes.centers, sent.shape[1], sent.shape[2])

    def wide(self, up: Tensor) -> Tensor:
        """(N, M, C), padded."""
        return pad([up], self.widths, self.operation.shape)[0]


class _Sums:
    """Where the gradients go: those of senders and weights to a place of each thread's own."""

    def __init__(self, run: _Run, with_weights: bool) -> None:
        self.shape = run.operation.shape
        self.senders = own_places(run.threads, run.inputs[:N_GATHERED])
        self.others = [torch.empty_like(tensor) for tensor in run.inputs[N_GATHERED:]]
        self.weights = own_places(run.threads, _as_in_kernel(run)) if with_weights else []
        missing: list[Tensor | None] = [None] * (N_WEIGHTS + MAX_DEPTH - len(self.weights))
        self.places: list[Tensor | None] = [*self.senders, *self.others, *self.weights, *missing]

    def result(self, like: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """In torch's order and in the sizes of `like`."""
        gradients = [*map(joined, self.senders), *self.others]
        if self.weights:
            sums = [joined(weight) for weight in self.weights]
            sums[1], sums[3] = sums[1].T, sums[3].T[: len(sums[4])]
            gradients += sums
        return tuple(crop(gradients, like, self.shape))


def _couplings(shape: MessageShape, dtype: torch.dtype) -> object:
    """Nothing for light values. The tensors live as long as the process."""
    if not shape.full:
        return None
    table = couplings(shape.l_max, dtype)
    return ctypes.byref(_Couplings(len(table.entry), *(tensor.data_ptr() for tensor in table)))


def _as_in_kernel(run: _Run) -> list[Tensor]:
    """Weights as the kernels sum their gradients: the inputs of a matrix are its rows, whole vectors its columns."""
    weights = MessageWeights.of(run.weights)
    lanes = run.widths.lanes
    logits = weights.logits.new_empty(weights.logits.shape[1], -(-len(weights.logits) // lanes) * lanes)
    rest = (weights.logits_bias, weights.log_temperature, *weights.mlp)
    return [weights.chemical, weights.gates.T, weights.gates_bias, logits, *rest]
