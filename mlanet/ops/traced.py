"""Operations in the view of torch's tracers: registered operators that no tracer enters.

A tracer runs a program on tensors without numbers and writes down every operator. The kernels in C++ and Triton read
addresses, so while tracing (`tracing`) an operation is called through one of three operators of its own: its value, its
gradient, its tangent. What is written down is a number that stands for the operation, and its tensors.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from mlanet.ops.rows import Rows

_TRACING: ContextVar[bool] = ContextVar("tracing", default=False)

_KNOWN: list[Any] = []
"""Operations without their rows; a number in a traced program is a place in this list, so nothing is ever removed."""


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """While a program is traced."""
    token = _TRACING.set(True)
    try:
        yield
    finally:
        _TRACING.reset(token)


def is_tracing() -> bool:
    """Whether tensors may have no numbers, and no question of them an answer."""
    return _TRACING.get()


class TracedOperation:
    """An operation (`mlanet.ops.autograd.Operation`) whose calls tracers see."""

    def __init__(self, operation: Any) -> None:
        self.operation = operation
        self.n_inputs: int = operation.n_inputs
        rows = getattr(operation, "rows", None)
        self._rows = [] if rows is None else list(rows)
        known = operation if rows is None else dataclasses.replace(operation, rows=None)
        if known not in _KNOWN:
            _KNOWN.append(known)
        self._number = _KNOWN.index(known)

    def blank(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `Operation`."""
        blank: Tensor = self.operation.blank(tensors)
        return blank

    def value(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `Operation`."""
        return _value(self._number, self._rows, list(tensors))

    def gradient(self, up: Tensor, tensors: Sequence[Tensor], with_weights: bool) -> tuple[Tensor, ...]:
        """See `Operation`."""
        return tuple(_gradient(self._number, self._rows, up, list(tensors), with_weights))

    def tangent(self, up: Tensor, along: Sequence[Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """See `Operation`."""
        return tuple(_tangent(self._number, self._rows, up, list(along), list(tensors)))

    def reference(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `Operation`."""
        reference: Tensor = self.operation.reference(tensors)
        return reference


def _operation(number: int, rows: Sequence[Tensor]) -> Any:
    """The operation of a number, with its rows."""
    known = _KNOWN[number]
    return dataclasses.replace(known, rows=Rows(*rows)) if rows else known


@torch.library.custom_op("mlanet::value", mutates_args=())
def _value(number: int, rows: list[Tensor], tensors: list[Tensor]) -> Tensor:
    value: Tensor = _operation(number, rows).value(tensors)
    return value.contiguous()


@_value.register_fake
def _(number: int, rows: list[Tensor], tensors: list[Tensor]) -> Tensor:
    blank: Tensor = _operation(number, rows).blank(tensors)
    return blank


@torch.library.custom_op("mlanet::gradient", mutates_args=())
def _gradient(number: int, rows: list[Tensor], up: Tensor, tensors: list[Tensor], with_weights: bool) -> list[Tensor]:
    gradients = _operation(number, rows).gradient(up.contiguous(), tensors, with_weights)
    return [tensor.contiguous() for tensor in gradients]


@_gradient.register_fake
def _(number: int, rows: list[Tensor], up: Tensor, tensors: list[Tensor], with_weights: bool) -> list[Tensor]:
    known = _KNOWN[number]
    return [tensor.new_empty(tensor.shape) for tensor in (tensors if with_weights else tensors[: known.n_inputs])]


@torch.library.custom_op("mlanet::tangent", mutates_args=())
def _tangent(number: int, rows: list[Tensor], up: Tensor, along: list[Tensor], tensors: list[Tensor]) -> list[Tensor]:
    tangents = _operation(number, rows).tangent(up.contiguous(), along, tensors)
    return [tensor.contiguous() for tensor in tangents]


@_tangent.register_fake
def _(number: int, rows: list[Tensor], up: Tensor, along: list[Tensor], tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.new_empty(tensor.shape) for tensor in (up, *tensors)]
