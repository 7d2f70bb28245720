"""Runs the kernels in order: attention, message, gradients of centers, of senders, of weights."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from mlanet.ops.block import BlockShape, BlockWeights, each_channel
from mlanet.ops.gpu import backward, forward, senders
from mlanet.ops.gpu.sizes import Sizes
from mlanet.ops.gpu.tiles import Inputs, Weights
from mlanet.ops.rows import Rows

TILE = 16
"""Edges at a time: what matrix products want at least, and what leaves registers for the rest."""

WARPS = {
    "attend": (4, 4),
    "mix": (4, 4),
    "edge_gradient": (4, 8),
    "logit_gradient": (8, 8),
    "sent_gradient": (4, 8),
    "key_gradient": (4, 8),
    "channel_weight_gradient": (4, 8),
}
"""Of a program, for values and with slopes; chosen by what spills (`compiled`)."""

PROGRAMS = 512
"""At most so many programs share the centers when weights are summed: each keeps a sum of its own."""

EDGES_OF_PROGRAM = 4096
"""Edges of one program, at least, in the sums of the gradients of gates and last layer; 64 programs at most."""

KERNELS = {
    one.__name__: one
    for one in (
        forward.attend,
        forward.mix,
        backward.edge_gradient,
        backward.logit_gradient,
        senders.sent_gradient,
        senders.key_gradient,
        senders.channel_weight_gradient,
    )
}


class Senders(NamedTuple):
    """The edges by who sends.

    - center (E,) of each edge · order (E,): edges sorted by sender, start[j]:start[j+1] those of j
    """

    center: Tensor
    order: Tensor
    start: Tensor

    @classmethod
    def of(cls, rows: Rows) -> Senders:
        """Sorted once for the same `rows.neighbor`, which nobody may change in place."""
        if rows.neighbor not in KNOWN:
            n = len(rows.start) - 1
            counts = torch.bincount(rows.neighbor, minlength=n)
            center = torch.repeat_interleave(torch.arange(n, device=counts.device), rows.start.diff())
            order = torch.argsort(rows.neighbor, stable=True)
            KNOWN[rows.neighbor] = cls(center, order, torch.cat([counts.new_zeros(1), counts.cumsum(0)]))
        return KNOWN[rows.neighbor]


KNOWN: Any = WeakIdKeyDictionary()
"""Transposed orders of the lists that are alive."""


@dataclass(frozen=True)
class Call:
    """One problem on its way through the kernels, with or without a direction of the inputs."""

    sizes: Sizes
    rows: Rows
    x: Inputs
    w: Weights
    weights: BlockWeights
    gate_channels: int

    @classmethod
    def of(
        cls,
        shape: BlockShape,
        rows: Rows,
        inputs: Sequence[Tensor],
        weights: BlockWeights,
        along: Sequence[Tensor] | None = None,
    ) -> Call:
        """Contiguous tensors; matrix products as precise as torch's own are asked to be."""
        # The kernels know a gate for each channel only, so where groups share one its weights are repeated.
        shared = (weights.gates, weights.gates_bias)
        gates, bias = (each_channel(one, shape.gate_channels, dim=0) for one in shared)
        weights = weights._replace(gates=gates, gates_bias=bias)
        weights = BlockWeights.of([one.detach().contiguous() for one in weights.flat()])
        pairs = zip(inputs, along, strict=True) if along is not None else ((one,) for one in inputs)
        x = Inputs(*(tuple(one.detach().contiguous() for one in pair) for pair in pairs))
        w = Weights(*weights[:6], weights.mlp[0], weights.mlp[-1])
        precision = "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"
        return cls(Sizes.of(shape, inputs, weights, TILE, precision), rows, x, w, weights, shape.gate_channels)

    @property
    def n(self) -> int:
        """N."""
        return len(self.rows.start) - 1

    @property
    def degrees(self) -> range:
        """0 … L, each a kernel of its own: one for all is too long for the registers and for the compiler."""
        return range(self.sizes.l_max + 1)

    def by_edge(self) -> tuple[Tensor, ...]:
        """Room (E, H) for a number."""
        return tuple(one.new_empty(len(self.rows.neighbor), self.sizes.heads) for one in self.x.envelope)

    def empty(self, *shape: int) -> Tensor:
        """Room for an answer."""
        return self.x.sent[0].new_empty(shape)

    def run(self, name: str, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
        """One kernel: inputs, weights, arguments, sizes."""
        warps = WARPS[name][len(self.x.sent) - 1]
        device = self.x.sent[0].device
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            KERNELS[name][grid](self.x, self.w, *arguments, S=self.sizes, num_warps=warps, num_stages=1, **constants)

    def attention(self) -> tuple[Tensor, ...]:
        """share (E, H): attention over envelope."""
        share = self.by_edge()
        self.run("attend", (self.n, self.sizes.heads), *self.rows, share)
        return share

    def message(self, share: tuple[Tensor, ...]) -> Tensor:
        """m (N, M, C), or its slope."""
        out = torch.empty_like(self.x.sent[0])
        for degree in self.degrees:
            self.run("mix", (self.n, self.sizes.heads), *self.rows, share, out, DEGREE=degree)
        return out

    def gradient(self, share: tuple[Tensor, ...], up: Tensor, wants_weights: bool) -> tuple[Tensor, ...]:
        """Of <up, m> in the inputs and, if wanted, the weights; or its slope."""
        to, pull, push = Inputs(*(torch.empty_like(one[0]) for one in self.x)), self.by_edge(), self.by_edge()
        programs = min(self.n, PROGRAMS) if wants_weights else self.n
        sums = self.partial_sums(programs if wants_weights else 0)
        first = sums.mlp[0] if self.sizes.mlp else sums.mlp[-1]
        over = (*self.rows, self.n, share)
        of_edges = (*over, up, pull, to, sums.chemical, first)
        for degree in self.degrees:
            self.run("edge_gradient", (programs,), *of_edges, DEGREE=degree, WEIGHTS=wants_weights)
        of_logits = (sums.chemical, sums.logits, sums.logits_bias, sums.log_temperature)
        self.run("logit_gradient", (programs,), *over, pull, push, to, *of_logits, WEIGHTS=wants_weights)
        near = self.sender_gradient(share, push, up, to)
        inputs = (*to[:2], near, *to[3:])
        if not wants_weights:
            return inputs
        channel = self.channel_sums(share, up)
        mlp = (*(one.sum(0) for one in sums.mlp[:-1]), channel[2])
        others = (sums.logits.sum(0), sums.logits_bias.sum(0), sums.log_temperature.sum(0))
        return (*inputs, sums.chemical.sum(0), channel[0], channel[1], *others, *mlp)

    def partial_sums(self, programs: int) -> BlockWeights:
        """Room for the gradients of the weights by program; none for those that `channel_sums` has."""
        none = self.empty(0)
        rooms = self.weights._replace(gates=none, gates_bias=none, mlp=(*self.weights.mlp[:-1], none))
        return BlockWeights.of([self.empty(programs, *one.shape) for one in rooms.flat()])

    def sender_gradient(self, share: tuple[Tensor, ...], push: tuple[Tensor, ...], up: Tensor, to: Inputs) -> Tensor:
        """In what neighbours send: writes to.sent and to.key, gives that of near (N, R)."""
        senders_of = Senders.of(self.rows)
        order = (senders_of.order, senders_of.center, senders_of.start)
        near = self.empty(self.n, self.sizes.heads, self.sizes.hidden)
        grid = (self.n, self.sizes.heads)
        for degree in self.degrees:
            self.run("sent_gradient", grid, *order, share, up, to, near, DEGREE=degree)
        self.run("key_gradient", grid, *order, push, to, near)
        return near.sum(1)

    def channel_sums(self, share: tuple[Tensor, ...], up: Tensor) -> tuple[Tensor, ...]:
        """Gradients of gates, their bias and the last layer of the radial network.

        Those of shared gates are sums over their channels.
        """
        n_edges = len(self.rows.neighbor)
        programs = max(1, min(64, n_edges // EDGES_OF_PROGRAM))
        shapes = (self.weights.gates.shape, self.weights.gates_bias.shape, self.weights.mlp[-1].shape)
        out = tuple(self.empty(programs, *shape) for shape in shapes)
        over = (self.rows.neighbor, Senders.of(self.rows).center, n_edges, share, up, *out)
        for degree in self.degrees:
            self.run("channel_weight_gradient", (programs, self.sizes.heads), *over, DEGREE=degree)
        gates, bias, last = (one.sum(0) for one in out)
        return *(one.unflatten(0, (-1, self.gate_channels)).sum(1) for one in (gates, bias)), last


def message(shape: BlockShape, rows: Rows, inputs: Sequence[Tensor], weights: BlockWeights) -> Tensor:
    """m (N, M, C); inputs as `BlockInputs`, by atom or by edge."""
    if len(rows.start) == 1:
        return torch.zeros_like(inputs[0])
    call = Call.of(shape, rows, inputs, weights)
    return call.message(call.attention())


def gradient(
    shape: BlockShape, rows: Rows, wants_weights: bool, up: Tensor, inputs: Sequence[Tensor], weights: BlockWeights
) -> tuple[Tensor, ...]:
    """Gradients of <up, m> in the nine inputs and, if wanted, in `weights.flat()`; up (N, M, C)."""
    if len(rows.start) == 1:
        return tuple(torch.zeros_like(one) for one in (*inputs, *(weights.flat() if wants_weights else ())))
    call = Call.of(shape, rows, inputs, weights)
    return call.gradient(call.attention(), up.detach().contiguous(), wants_weights)


def tangent(
    shape: BlockShape,
    rows: Rows,
    up: Tensor,
    along: Sequence[Tensor],
    inputs: Sequence[Tensor],
    weights: BlockWeights,
) -> tuple[Tensor, ...]:
    """Derivatives along `along` (like the inputs) of the message, then of all gradients; up and weights stay fixed.

    By the symmetry of second derivatives these are the gradients of <along, gradient in the inputs> in up, inputs and
    weights. An edge of envelope 0 is absent, whatever its direction says.
    """
    if len(rows.start) == 1:
        return tuple(torch.zeros_like(one) for one in (up, *inputs, *weights.flat()))
    call = Call.of(shape, rows, inputs, weights, along)
    share = call.attention()
    return call.message(share), *call.gradient(share, up.detach().contiguous(), True)
