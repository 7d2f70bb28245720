"""The dual-path message as an operation in C++ (attention.hpp, message.hpp)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mlanet.ops.cpp.calls import MAX_DEPTH, addresses, widths_field
from mlanet.ops.cpp.operation import NativeCall, NativeOperation
from mlanet.ops.cpp.padding import Widths, crop, pad, rounded_up
from mlanet.ops.message.reference import N_GATHERED, N_INPUTS, MessageOfRows, MessageShape, MessageWeights
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


class NativeMessage(MessageOfRows, NativeOperation):
    """The message in C++.

    Cost per edge 2 (B R + B R' + R (L+1) C/G + R' F C) FLOP for the networks of widths R and R', gates of G channels,
    F = 2 (L+1) for light values and the number of paths for full ones; then 4 (L+1)² C or, with paths (a, b, c),
    2 Σ (2a+1) (2c+1) C for the message. Memory O(N), and O(N) for each thread in the gradient.
    """

    def call(self, tensors: Sequence[Tensor]) -> NativeCall:
        """See `NativeOperation`."""
        return _Call(self, tensors)


class _Call(NativeCall):
    """Weights in the order of `MessageWeights`."""

    kernel = "mlanet_message"
    gathered = N_GATHERED
    weight_places = N_WEIGHTS + MAX_DEPTH

    def __init__(self, operation: NativeMessage, tensors: Sequence[Tensor]) -> None:
        self.shape = shape = operation.shape
        super().__init__(shape.l_max, operation.rows, tensors[0].dtype)
        self.widths = Widths.of(tensors, shape, self.lanes)
        self.couplings = _couplings(shape, tensors[0].dtype)
        padded = self.pad(tensors)
        self.inputs, self.weights = padded[:N_INPUTS], padded[N_INPUTS:]
        self.sizes = _Sizes(
            centers=self.centers,
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

    def given(self, inputs: Any) -> tuple[Any, ...]:
        """See `NativeCall`."""
        return self.graph, self.couplings, inputs, addresses(self.weights)

    def room(self) -> Tensor:
        """(N, M, C) zeros."""
        sent = self.inputs[0]
        return sent.new_zeros(self.centers, sent.shape[1], sent.shape[2])

    def pad(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """See `NativeCall`; also weights behind the inputs."""
        return pad(inputs, self.widths, self.shape)

    def summed_weights(self) -> Sequence[Tensor]:
        """The inputs of a matrix are its rows, whole vectors its columns."""
        weights = MessageWeights.of(self.weights)
        logits = weights.logits.new_empty(weights.logits.shape[1], rounded_up(len(weights.logits), self.lanes))
        rest = (weights.logits_bias, weights.log_temperature, *weights.mlp)
        return [weights.chemical, weights.gates.T, weights.gates_bias, logits, *rest]

    def crop(self, inputs: list[Tensor], weights: list[Tensor], like: Sequence[Tensor]) -> Sequence[Tensor]:
        """See `NativeCall`; weights in torch's order."""
        if weights:
            weights[1], weights[3] = weights[1].T, weights[3].T[: len(weights[4])]
        return crop([*inputs, *weights], like, self.shape)


def _couplings(shape: MessageShape, dtype: torch.dtype) -> object:
    """Nothing for light values. The tensors live as long as the process."""
    if not shape.full:
        return None
    table = couplings(shape.l_max, dtype)
    return ctypes.byref(_Couplings(len(table.entry), *(tensor.data_ptr() for tensor in table)))
