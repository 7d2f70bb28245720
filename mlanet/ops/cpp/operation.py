"""An operation by three kernels in C++, of its value, gradient and tangent, from one call of the library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mlanet.ops.cpp import library
from mlanet.ops.cpp.calls import addresses, graph_of, interleaved, joined, own_places, run
from mlanet.ops.cpp.padding import rounded_up, wider
from mlanet.ops.rows import Rows


class NativeCall:
    """One call, over edges in rows or over nodes: tensors padded to whole vectors (`padding`), and their sizes.

    Subclasses set `inputs`, `weights`, `sizes`, and the class attributes.

    - kernel: name of the one for the value; `_gradient` and `_tangent` follow it in the names of the others
    - gathered: the first so many inputs are of senders, whose gradients are summed over edges
    - weight_places: how many gradients of weights the kernels have room for
    """

    kernel: str
    gathered = 1
    weight_places = 0
    inputs: list[Tensor]
    weights: Sequence[Tensor] = ()
    sizes: Any

    def __init__(self, l_max: int, rows: Rows | None, dtype: torch.dtype) -> None:
        self.threads = torch.get_num_threads()
        if rows is not None:
            self.rows, self.centers, self.graph = rows, len(rows.start) - 1, graph_of(rows)
        self.library = library.load(l_max, dtype)
        self.lanes: int = self.library.mlanet_lanes()

    def run(self, suffix: str, inputs: Sequence[Tensor], *arguments: Any) -> None:
        """A kernel; inputs: values, or values and changes."""
        run(self.library, self.kernel + suffix, self.sizes, *self.given(addresses(inputs)), *arguments)

    def given(self, inputs: Any) -> tuple[Any, ...]:
        """Arguments of all three kernels."""
        weights = (addresses(self.weights),) if self.weights else ()
        return (self.graph, inputs, *weights)

    def room(self) -> Tensor:
        """For the value, padded; kernels add to it."""
        raise NotImplementedError

    def pad(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Inputs, or changes of them: the channels of the first filled up."""
        return [self.wide(inputs[0]), *(tensor.contiguous() for tensor in inputs[1:])]

    def wide(self, tensor: Tensor) -> Tensor:
        """Channels filled up."""
        return wider(tensor, rounded_up(tensor.shape[-1], self.lanes)).contiguous()

    def summed_weights(self) -> Sequence[Tensor]:
        """Weights in the layout in which the kernels sum their gradients."""
        return self.weights

    def crop(self, inputs: list[Tensor], weights: list[Tensor], like: Sequence[Tensor]) -> Sequence[Tensor]:
        """Gradients in the sizes of inputs and weights."""
        return [inputs[0][..., : like[0].shape[-1]], *inputs[1:]]


class _Gradients:
    """Where the kernels leave gradients: those of senders and weights at a place of each thread's own."""

    def __init__(self, native: NativeCall, with_weights: bool) -> None:
        self.native = native
        self.gathered = own_places(native.threads, native.inputs[: native.gathered])
        self.others = [torch.empty_like(tensor) for tensor in native.inputs[native.gathered :]]
        self.weights = own_places(native.threads, native.summed_weights()) if with_weights else []

    def places(self, out: Tensor | None) -> Any:
        """Addresses, behind that of a value."""
        missing = [None] * (self.native.weight_places - len(self.weights))
        return addresses([out, *self.gathered, *self.others, *self.weights, *missing])

    def sums(self, like: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """In the sizes of inputs and weights."""
        inputs, weights = [*map(joined, self.gathered), *self.others], [*map(joined, self.weights)]
        return tuple(self.native.crop(inputs, weights, like))


class NativeOperation:
    """An `Operation` (`mlanet.ops.autograd`) by the kernels of a `NativeCall`; subclasses say the rest of it."""

    def call(self, tensors: Sequence[Tensor]) -> NativeCall:
        """For inputs and weights."""
        raise NotImplementedError

    def value(self, tensors: Sequence[Tensor]) -> Tensor:
        """See `Operation`."""
        native = self.call(tensors)
        out = native.room()
        native.run("", native.inputs, out)
        return out[..., : tensors[0].shape[-1]]

    def gradient(self, up: Tensor, tensors: Sequence[Tensor], with_weights: bool) -> tuple[Tensor, ...]:
        """See `Operation`."""
        native = self.call(tensors)
        gradients = _Gradients(native, with_weights)
        native.run("_gradient", native.inputs, native.wide(up), gradients.places(None))
        return gradients.sums(tensors)

    def tangent(self, up: Tensor, along: Sequence[Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """See `Operation`."""
        native = self.call(tensors)
        gradients, out = _Gradients(native, True), native.room()
        both = interleaved(native.inputs, native.pad(along))
        native.run("_tangent", both, native.wide(up), gradients.places(out))
        return out[..., : up.shape[-1]], *gradients.sums(tensors)
