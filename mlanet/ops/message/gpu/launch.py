"""Runs the kernels in order: attention, message, gradients of centers, of senders, of weights."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlanet.ops.gpu.by_sender import Senders
from mlanet.ops.message.gpu import backward, forward, senders
from mlanet.ops.message.gpu.sizes import Sizes
from mlanet.ops.message.gpu.tiles import Inputs, Weights
from mlanet.ops.message.reference import MessageShape, MessageWeights, each_channel
from mlanet.ops.rows import Rows

TILE = 16
"""Edges at a time: what matrix products want at least, and what leaves registers for the rest."""

WARPS = 8
"""Of a program: with four most kernels spill (`compiled`)."""

PROGRAMS = 512
"""At most so many programs share the centers, or the edges, when weights are summed: each keeps a sum of its own."""

EDGES_OF_PROGRAM = 1024
"""Edges of one program, at least, in the sums of the gradients of gates and last layer."""

KERNELS = {
    tensor.__name__: tensor
    for tensor in (
        forward.attend,
        backward.edge_gradient,
        backward.logit_gradient,
        senders.sent_gradient,
        senders.key_gradient,
        senders.channel_weight_gradient,
    )
}


class Attention(NamedTuple):
    """What is kept of the attention while a call lasts, numbers: A = u exp(logit - level).

    - logit (E, H) · level (N, H), the logarithm of 1 + Σ u exp(logit)
    """

    logit: tuple[Tensor, ...]
    level: tuple[Tensor, ...]


@dataclass(frozen=True)
class Call:
    """One problem on its way through the kernels, with or without a direction of the inputs."""

    sizes: Sizes
    rows: Rows
    x: Inputs
    w: Weights
    weights: MessageWeights
    gate_repeats: int

    @classmethod
    def of(
        cls,
        shape: MessageShape,
        rows: Rows,
        inputs: Sequence[Tensor],
        weights: MessageWeights,
        along: Sequence[Tensor] | None = None,
    ) -> Call:
        """Contiguous tensors; matrix products as precise as torch's own are asked to be."""
        precision = "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"
        sizes = Sizes.of(shape, inputs, weights, TILE, precision)
        # Kernels share a gate within a head at most; where groups are wider their weights are repeated.
        repeats = shape.gate_channels // sizes.gate_channels
        wider = [each_channel(tensor, repeats, dim=0) for tensor in (weights.gates, weights.gates_bias)]
        weights = weights._replace(gates=wider[0], gates_bias=wider[1])
        weights = MessageWeights.of([tensor.detach().contiguous() for tensor in weights.flat()])
        pairs = zip(inputs, along, strict=True) if along is not None else ((tensor,) for tensor in inputs)
        x = Inputs(*(tuple(tensor.detach().contiguous() for tensor in pair) for pair in pairs))
        w = Weights(*weights[:6], weights.mlp[0], weights.mlp[-1])
        return cls(sizes, rows, x, w, weights, repeats)

    @property
    def n(self) -> int:
        """N."""
        return len(self.rows.start) - 1

    def by_head(self, size: int) -> tuple[Tensor, ...]:
        """Room (size, H) for a number."""
        return tuple(tensor.new_empty(size, self.sizes.heads) for tensor in self.x.envelope)

    def empty(self, *shape: int) -> Tensor:
        """Room for an answer."""
        return self.x.sent[0].new_empty(shape)

    def run(self, name: str, programs: int, *arguments: Any, **constants: Any) -> None:
        """One kernel: inputs, weights, arguments, sizes."""
        device = self.x.sent[0].device
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            kernel = KERNELS[name][(programs,)]
            kernel(self.x, self.w, *arguments, S=self.sizes, num_warps=WARPS, num_stages=1, **constants)

    def message(self) -> Tensor:
        """m (N, M, C), and nothing else."""
        out = torch.empty_like(self.x.sent[0])
        self.run("attend", self.n, *self.rows, None, None, out, KEEP=False, MIX=True)
        return out

    def attention(self) -> Attention:
        """Logits and what normalises them."""
        attention = Attention(self.by_head(len(self.rows.neighbor)), self.by_head(self.n))
        self.run("attend", self.n, *self.rows, *attention, None, KEEP=True, MIX=False)
        return attention

    def both(self) -> tuple[Tensor, Attention]:
        """Message, or its slope, and attention in one sweep."""
        out = torch.empty_like(self.x.sent[0])
        attention = Attention(self.by_head(len(self.rows.neighbor)), self.by_head(self.n))
        self.run("attend", self.n, *self.rows, *attention, out, KEEP=True, MIX=True)
        return out, attention

    def gradient(self, attention: Attention, up: Tensor, wants_weights: bool) -> tuple[Tensor, ...]:
        """Of <up, m> in the inputs and, if wanted, the weights; or its slope."""
        to = Inputs(*(torch.empty_like(tensor[0]) for tensor in self.x))
        pull, push, mean = *(self.by_head(len(self.rows.neighbor)) for _ in range(2)), self.by_head(self.n)
        programs = min(self.n, PROGRAMS) if wants_weights else self.n
        sums = self.partial_sums(programs if wants_weights else 0)
        first = sums.mlp[0] if self.sizes.mlp else sums.mlp[-1]
        over = (*self.rows, self.n, *attention)
        of_edges = (up, pull, mean, to, sums.chemical, first)
        self.run("edge_gradient", programs, *over, *of_edges, WEIGHTS=wants_weights)
        of_logits = (pull, mean, push, to, sums.chemical, sums.logits, sums.logits_bias, sums.log_temperature)
        self.run("logit_gradient", programs, *over, *of_logits, WEIGHTS=wants_weights)
        of_senders = Senders.of(self.rows)
        order = (of_senders.order, of_senders.center, of_senders.start)
        self.run("sent_gradient", self.n, *order, *attention, up, to)
        self.run("key_gradient", self.n, *order, push, to)
        if not wants_weights:
            return to
        weights = MessageWeights.of([tensor.sum(0) for tensor in sums.flat()])
        gates, bias, last = self.channel_sums(attention, up)
        gates, bias = (tensor.unflatten(0, (-1, self.gate_repeats)).sum(1) for tensor in (gates, bias))
        return (*to, *weights._replace(gates=gates, gates_bias=bias, mlp=(*weights.mlp[:-1], last)).flat())

    def partial_sums(self, programs: int) -> MessageWeights:
        """Room for the gradients of the weights by program; none for those that `channel_sums` has."""
        none = self.empty(0)
        rooms = self.weights._replace(gates=none, gates_bias=none, mlp=(*self.weights.mlp[:-1], none))
        return MessageWeights.of([self.empty(programs, *tensor.shape) for tensor in rooms.flat()])

    def channel_sums(self, attention: Attention, up: Tensor) -> list[Tensor]:
        """Gradients of gates, their bias and the last layer of the radial network."""
        n_edges = len(self.rows.neighbor)
        programs = max(1, min(PROGRAMS, n_edges // EDGES_OF_PROGRAM))
        shapes = (self.weights.gates.shape, self.weights.gates_bias.shape, self.weights.mlp[-1].shape)
        out = [self.empty(programs, *shape) for shape in shapes]
        over = (self.rows.neighbor, Senders.of(self.rows).center, n_edges, *attention, up, *out)
        for first, behind in self.sizes.weight_launches:
            self.run("channel_weight_gradient", programs, *over, FIRST=first, BEHIND=behind)
        return [tensor.sum(0) for tensor in out]


def message(shape: MessageShape, rows: Rows, inputs: Sequence[Tensor], weights: MessageWeights) -> Tensor:
    """m (N, M, C); inputs as `MessageInputs`, by atom or by edge."""
    if len(rows.start) == 1:
        return torch.zeros_like(inputs[0])
    call = Call.of(shape, rows, inputs, weights)
    return call.message()


def gradient(
    shape: MessageShape, rows: Rows, wants_weights: bool, up: Tensor, inputs: Sequence[Tensor], weights: MessageWeights
) -> tuple[Tensor, ...]:
    """Gradients of <up, m> in the nine inputs and, if wanted, in `weights.flat()`; up (N, M, C)."""
    if len(rows.start) == 1:
        return tuple(torch.zeros_like(tensor) for tensor in (*inputs, *(weights.flat() if wants_weights else ())))
    call = Call.of(shape, rows, inputs, weights)
    return call.gradient(call.attention(), up.detach().contiguous(), wants_weights)


def tangent(
    shape: MessageShape,
    rows: Rows,
    up: Tensor,
    along: Sequence[Tensor],
    inputs: Sequence[Tensor],
    weights: MessageWeights,
) -> tuple[Tensor, ...]:
    """Derivatives along `along` (like the inputs) of the message, then of all gradients; up and weights stay fixed.

    By the symmetry of second derivatives these are the gradients of <along, gradient in the inputs> in up, inputs and
    weights. An edge of envelope 0 is absent, whatever its direction says.
    """
    if len(rows.start) == 1:
        return tuple(torch.zeros_like(tensor) for tensor in (up, *inputs, *weights.flat()))
    call = Call.of(shape, rows, inputs, weights, along)
    message, attention = call.both()
    return message, *call.gradient(attention, up.detach().contiguous(), True)
