"""The whole dual-path message of a few centers as one pure function of tensors, and its first and second derivatives.

The same equations as `mlanet.nn.dual_path` writes with modules, for neighbourhood tables: n centers with D rows each.
It is the reference of the kernels (`mlanet.ops.attention`), and what they do where there are none for a machine.

Letters: M = (L+1)², C channels, H heads, K key width, R hidden width of z, B radial functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mlanet.ops.message.reference import split_degrees
from mlanet.ops.rows import Rows
from mlanet.ops.tensor_product import full_values, paths


class BlockShape(NamedTuple):
    """What the equations need to know besides the tensors.

    - chemical_scale: n̄^{-1/2} of `combine: sum`, or 0 · full: tensor products on edges (`combine: product` only)
    - gate_channels G: neighbouring channels that share a gate; divides C
    """

    l_max: int
    heads: int
    key_dim: int
    chemical_scale: float
    full: bool = False
    gate_channels: int = 1

    @property
    def radial_groups(self) -> int:
        """Outputs of the radial network over C: of φ and ψ for each degree, or one for each path."""
        return len(paths(self.l_max)) if self.full else 2 * (self.l_max + 1)


class BlockInputs(NamedTuple):
    """Of n centers: what neighbours send, what centers hold, and the geometry of the edges.

    - sent v_j (n, D, M, C) · key k_j (n, D, M, HK) · near B s_j (n, D, R)
    - query q_i (n, M, HK) · here A s_i (n, R) · factor 1 + n_i/n̄ (n,)
    - envelope u (n, D) · radial RBF (n, D, B) · harmonics Y (n, D, M)
    """

    sent: Tensor
    key: Tensor
    near: Tensor
    query: Tensor
    here: Tensor
    factor: Tensor
    envelope: Tensor
    radial: Tensor
    harmonics: Tensor


N_GATHERED, N_CENTER, N_INPUTS = 3, 6, len(BlockInputs._fields)
"""The first inputs are gathered from neighbours, the next belong to centers, the last to edges; weights follow."""


class BlockWeights(NamedTuple):
    """Weights of the edge networks, in the order in which they follow the inputs.

    - chemical D (B, R) · gates W_g ((L+1) C/G, R) and bias · logits (H(2L+2), R) and bias · log_temperature (H,)
    - mlp: the layers of the radial network of φ and ψ, or of the paths, the last with `radial_groups` C outputs
    """

    chemical: Tensor
    gates: Tensor
    gates_bias: Tensor
    logits: Tensor
    logits_bias: Tensor
    log_temperature: Tensor
    mlp: tuple[Tensor, ...]

    @classmethod
    def of(cls, flat: Sequence[Tensor]) -> BlockWeights:
        """From a flat sequence."""
        return cls(*flat[:6], mlp=tuple(flat[6:]))  # type: ignore[misc,arg-type]

    def flat(self) -> tuple[Tensor, ...]:
        """As a flat sequence."""
        return (*self[:6], *self.mlp)


def message(shape: BlockShape, inputs: BlockInputs, weights: BlockWeights) -> Tensor:
    """m (n, M, C): messages of both paths, weighed by attention and gates, summed over the neighbours."""
    n, degree, _, channels = inputs.sent.shape
    n_degrees = shape.l_max + 1
    ends = inputs.here[:, None] + inputs.near
    z = functional.silu(ends + inputs.radial @ weights.chemical)
    alpha = attention(shape, inputs, z, weights) * (inputs.factor[:, None] * inputs.envelope)[:, :, None]
    alpha = alpha[:, :, None, :, None].expand(-1, -1, n_degrees, -1, channels // shape.heads)
    gates = each_channel(torch.sigmoid(z @ weights.gates.T + weights.gates_bias), shape.gate_channels).view(alpha.shape)
    geometric = alpha if shape.chemical_scale else alpha * gates
    chemical = geometric
    if shape.chemical_scale:
        chemical = gates * (inputs.envelope * shape.chemical_scale)[:, :, None, None, None]
    hidden = inputs.radial
    for index, layer in enumerate(weights.mlp):
        hidden = (functional.silu(hidden) if index else hidden) @ layer
    sent, harmonics = _split(inputs.sent), _split(inputs.harmonics)
    if shape.full:
        values = full_values(sent, hidden.view(n, degree, -1, channels), harmonics)
        scales = geometric.reshape(n, degree, n_degrees, channels).unbind(2)
        return torch.cat([(s[:, :, None] * v).sum(1) for s, v in zip(scales, values, strict=True)], dim=1)
    phi, psi = hidden.view(n, degree, 2, n_degrees, channels).unbind(2)
    own = chemical.reshape(phi.shape) * phi
    along = geometric.reshape(psi.shape) * psi * inputs.sent[:, :, :1]
    rows = [
        (own[:, :, l, None] * one + along[:, :, l, None] * direction[:, :, :, None]).sum(1)
        for l, (one, direction) in enumerate(zip(sent, harmonics, strict=True))  # noqa: E741
    ]
    return torch.cat(rows, dim=1)


def each_channel(gates: Tensor, gate_channels: int, dim: int = -1) -> Tensor:
    """One for each channel, from one for each group of neighbouring channels."""
    return gates if gate_channels == 1 else gates.repeat_interleave(gate_channels, dim=dim)


def attention(shape: BlockShape, inputs: BlockInputs, z: Tensor, weights: BlockWeights) -> Tensor:
    """α (n, D, H) of the enveloped softmax with null key over the D rows of each center."""
    n, degree, rows = inputs.harmonics.shape
    query = inputs.query.view(n, rows, shape.heads, shape.key_dim)
    key = inputs.key.view(n, degree, rows, shape.heads, shape.key_dim)
    dots = _by_degree((key * query[:, None]).sum(4))
    along = _by_degree(inputs.harmonics[:, :, :, None] * query.sum(3)[:, None])
    scale = [(shape.key_dim * (2 * l + 1) * (shape.l_max + 1)) ** -0.5 for l in range(shape.l_max + 1)]  # noqa: E741
    products = [dot * s for dot, s in zip([*dots, *along[1:]], [*scale, *scale[1:]], strict=True)]
    weight = (z @ weights.logits.T + weights.logits_bias).view(n, degree, shape.heads, -1)
    logits = weight[..., 0] + sum(weight[..., k + 1] * one for k, one in enumerate(products))
    logits = logits * torch.exp(-weights.log_temperature)
    # An edge that weighs nothing must not set the scale of the others: they would all underflow.
    logits = torch.where(inputs.envelope[:, :, None] > 0, logits, torch.zeros_like(logits))
    peak = logits.detach().amax(1).clamp(min=0)
    strength = inputs.envelope[:, :, None] * torch.exp(logits - peak[:, None])
    return strength / (torch.exp(-peak) + strength.sum(1))[:, None]


def message_of_rows(shape: BlockShape, rows: Rows, tensors: Sequence[Tensor]) -> Tensor:
    """`message` of all centers at once: inputs by atom and by edge (`BlockInputs`), weights behind them.

    What faster operations are compared with. Needs memory of the size of the edges; edges with u = 0 are absent.
    """
    counts = rows.start.diff()
    n, degree = len(counts), max(1, int(counts.max())) if len(counts) else 1
    column = torch.arange(degree, device=counts.device)
    slot = torch.where(column < counts[:, None], rows.start[:-1, None] + column, len(rows.neighbor)).flatten()

    def tabulated(values: Tensor) -> Tensor:
        filled = torch.cat([values, values.new_zeros(1, *values.shape[1:])])
        return filled.index_select(0, slot).view(n, degree, *values.shape[1:])

    neighbor = tabulated(rows.neighbor)
    by_atom, here, by_edge = tensors[:N_GATHERED], tensors[N_GATHERED:N_CENTER], tensors[N_CENTER:N_INPUTS]
    inputs = [*(one[neighbor] for one in by_atom), *here, *map(tabulated, by_edge)]
    return message(shape, BlockInputs(*inputs), BlockWeights.of(tensors[N_INPUTS:]))


def _split(values: Tensor) -> tuple[Tensor, ...]:
    """(n, D, M, …) -> L+1 views (n, D, 2l+1, …)."""
    l_max = math.isqrt(values.shape[2]) - 1
    flat = split_degrees(values.flatten(0, 1), l_max)
    return tuple(one.view(*values.shape[:2], *one.shape[1:]) for one in flat)


def _by_degree(values: Tensor) -> list[Tensor]:
    """(n, D, M, H) -> L+1 sums (n, D, H) over the components of each degree."""
    return [one.sum(2) for one in _split(values)]
