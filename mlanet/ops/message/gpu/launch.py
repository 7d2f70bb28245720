"""Runs the kernels in order: attention, message, gradients of centers, of senders, of weights."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlanet.ops.gpu.by_sender import Senders
from mlanet.ops.gpu.start import numbers, plain, product_precision, start
from mlanet.ops.message.gpu import backward, forward, senders
from mlanet.ops.message.gpu.sizes import Sizes
from mlanet.ops.message.gpu.tiles import Inputs, Weights
from mlanet.ops.message.reference import N_INPUTS, MessageShape, MessageWeights, each_channel
from mlanet.ops.rows import Rows

TILE = 16
"""Edges at a time: what matrix products want at least, and what leaves registers for the rest."""

WARPS = 8
"""Of a program: with four most kernels spill (`compiled`)."""

PROGRAMS = 512
"""At most so many programs share the centers, or the edges, when weights are summed: each keeps a sum of its own."""

EDGES_OF_PROGRAM = 1024
"""Edges of one program, at least, in the sums of the gradients of gates and last layer."""


class Attention(NamedTuple):
    """What is kept of the attention while a call lasts, numbers: A = u exp(logit - level).

    - logit (E, H) · level (N, H), the logarithm of 1 + Σ u exp(logit)
    """

    logit: tuple[Tensor, ...]
    level: tuple[Tensor, ...]


class Call:
    """See `mlanet.ops.gpu.operation.Call`; inputs as `MessageInputs`."""

    def __init__(
        self, shape: MessageShape, rows: Rows, tensors: Sequence[Tensor], along: Sequence[Tensor] | None
    ) -> None:
        inputs, weights = tensors[:N_INPUTS], MessageWeights.of(tensors[N_INPUTS:])
        self.sizes = Sizes.of(shape, inputs, weights, TILE, product_precision())
        # Kernels share a gate within a head at most; where groups are wider their weights are repeated.
        self.gate_repeats = shape.gate_channels // self.sizes.gate_channels
        wider = [each_channel(tensor, self.gate_repeats, dim=0) for tensor in (weights.gates, weights.gates_bias)]
        weights = weights._replace(gates=wider[0], gates_bias=wider[1])
        self.weights = MessageWeights.of(plain(weights.flat()))
        self.rows, self.n = rows, len(rows.start) - 1
        self.x = Inputs(*numbers(inputs, along))
        self.w = Weights(*self.weights[:6], self.weights.mlp[0], self.weights.mlp[-1])

    def by_head(self, size: int) -> tuple[Tensor, ...]:
        """Room (size, H) for a number."""
        return tuple(tensor.new_empty(size, self.sizes.heads) for tensor in self.x.envelope)

    def empty(self, *shape: int) -> Tensor:
        """Room for an answer."""
        return self.x.sent[0].new_empty(shape)

    def run(self, kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
        """Inputs, weights, arguments, sizes."""
        device = self.x.sent[0].device
        start(kernel, (programs,), device, WARPS, self.x, self.w, *arguments, S=self.sizes, **constants)

    def value(self) -> Tensor:
        """m (N, M, C); or its slope, and in the same sweep the attention, which the gradient behind it reads."""
        out = torch.empty_like(self.x.sent[0])
        if len(self.x.sent) == 1:
            self.run(forward.attend, self.n, *self.rows, None, None, out, KEEP=False, MIX=True)
        else:
            self.attention = self.new_attention()
            self.run(forward.attend, self.n, *self.rows, *self.attention, out, KEEP=True, MIX=True)
        return out

    @functools.cached_property
    def attention(self) -> Attention:
        """Logits and what normalises them."""
        attention = self.new_attention()
        self.run(forward.attend, self.n, *self.rows, *attention, None, KEEP=True, MIX=False)
        return attention

    def new_attention(self) -> Attention:
        """Room for it."""
        return Attention(self.by_head(len(self.rows.neighbor)), self.by_head(self.n))

    def gradient(self, up: Tensor, with_weights: bool) -> tuple[Tensor, ...]:
        """Of <up, m> in the inputs and, if wanted, the weights; or its slope."""
        to = Inputs(*(torch.empty_like(tensor[0]) for tensor in self.x))
        pull, push, mean = *(self.by_head(len(self.rows.neighbor)) for _ in range(2)), self.by_head(self.n)
        programs = min(self.n, PROGRAMS) if with_weights else self.n
        sums = self.partial_sums(programs if with_weights else 0)
        first = sums.mlp[0] if self.sizes.mlp else sums.mlp[-1]
        over = (*self.rows, self.n, *self.attention)
        of_edges = (up, pull, mean, to, sums.chemical, first)
        self.run(backward.edge_gradient, programs, *over, *of_edges, WEIGHTS=with_weights)
        of_logits = (pull, mean, push, to, sums.chemical, sums.logits, sums.logits_bias, sums.log_temperature)
        self.run(backward.logit_gradient, programs, *over, *of_logits, WEIGHTS=with_weights)
        of_senders = Senders.of(self.rows)
        order = (of_senders.order, of_senders.center, of_senders.start)
        self.run(senders.sent_gradient, self.n, *order, *self.attention, up, to)
        self.run(senders.key_gradient, self.n, *order, push, to)
        if not with_weights:
            return to
        weights = MessageWeights.of([tensor.sum(0) for tensor in sums.flat()])
        gates, bias, last = self.channel_sums(up)
        gates, bias = (tensor.unflatten(0, (-1, self.gate_repeats)).sum(1) for tensor in (gates, bias))
        return (*to, *weights._replace(gates=gates, gates_bias=bias, mlp=(*weights.mlp[:-1], last)).flat())

    def partial_sums(self, programs: int) -> MessageWeights:
        """Room for the gradients of the weights by program; none for those that `channel_sums` has."""
        none = self.empty(0)
        rooms = self.weights._replace(gates=none, gates_bias=none, mlp=(*self.weights.mlp[:-1], none))
        return MessageWeights.of([self.empty(programs, *tensor.shape) for tensor in rooms.flat()])

    def channel_sums(self, up: Tensor) -> list[Tensor]:
        """Gradients of gates, their bias and the last layer of the radial network."""
        n_edges = len(self.rows.neighbor)
        programs = max(1, min(PROGRAMS, n_edges // EDGES_OF_PROGRAM))
        shapes = (self.weights.gates.shape, self.weights.gates_bias.shape, self.weights.mlp[-1].shape)
        out = [self.empty(programs, *shape) for shape in shapes]
        over = (self.rows.neighbor, Senders.of(self.rows).center, n_edges, *self.attention, up, *out)
        for first, behind in self.sizes.weight_launches:
            self.run(senders.channel_weight_gradient, programs, *over, FIRST=first, BEHIND=behind)
        return [tensor.sum(0) for tensor in out]
