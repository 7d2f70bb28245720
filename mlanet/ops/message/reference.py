"""The equations of the dual-path message, in plain PyTorch: what every faster form is compared with.

Chemical path   z_ij = SiLU(A s_i + B s_j + D RBF(r)),  gates g^{c,l} = sigmoid(W_g z), of one or several channels c
Geometric path  a^h = aᵀz + Σ_l w^{qk}_{h,l}(z) <q_i^{h,l}, k_j^{h,l}> + Σ_{l>0} w^{qY}_{h,l}(z) <q_i^{h,l}, Y_l(r̂)>
Weights         α^h = u e^{a/τ_h} / (1 + Σ_k u_ik e^{a_ik/τ_h})
product         m_i = (1 + n_i/n̄) Σ_j u α^{h(c)} g^{c,l} ⊙ V^{c,l};  a softmax forgets coordination
sum             m_i = (1 + n_i/n̄) Σ_j u α V^geo + n̄^{-1/2} Σ_j u g ⊙ V^chem
light           V^chem = φ_l(RBF) ⊙ v_j^l,  V^geo = ψ_l(RBF) ⊙ v_j^0 ⊗ Y_l,  V = V^chem + V^geo
full            V^geo = uvu product (v_j ⊗ Y; W(RBF)); V = V^geo in `product`

Layout (·, M, C), M = (L+1)² rows, C channels; row l² + m is component m of degree l. H heads, K key width, R width of
z, B radial functions, G neighbouring channels that share a gate. Edges are sorted by center. Nothing here owns a
parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mlanet.ops.degrees import radial_network, split_degrees
from mlanet.ops.rows import Rows
from mlanet.ops.segment import Neighborhoods
from mlanet.ops.tensor_product import full_product, paths


class MessageShape(NamedTuple):
    """What the equations need to know besides the tensors.

    - heads: 0 where all neighbours are weighed alike, by u n̄^{-1/2} in the place of (1 + n_i/n̄) u α; then
      uniform_scale is n̄^{-1/2}, key and query have no columns, and there are no weights of logits
    - chemical_scale: n̄^{-1/2} of `combine: sum`, or 0 · full: tensor products on edges (`combine: product` only)
    - gate_channels G: divides C · envelope_once: α stands in the place of u α
    """

    l_max: int
    heads: int
    key_dim: int
    chemical_scale: float
    full: bool = False
    gate_channels: int = 1
    uniform_scale: float = 0.0
    envelope_once: bool = False

    @property
    def radial_groups(self) -> int:
        """Outputs of the radial network over C: of φ and ψ for each degree, or one for each path."""
        return len(paths(self.l_max)) if self.full else 2 * (self.l_max + 1)


class MessageInputs(NamedTuple):
    """What neighbours send, what centers hold, and the geometry of the edges.

    - sent v (N, M, C) · key k (N, M, HK) · near B s (N, R), of the neighbours
    - query q (N, M, HK) · here A s (N, R) · factor 1 + n/n̄ (N,), of the centers
    - envelope u (E,) · radial RBF (E, B) · harmonics Y (E, M)
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


N_GATHERED, N_CENTER, N_INPUTS = 3, 6, len(MessageInputs._fields)
"""The first inputs are gathered from neighbours, the next belong to centers, the last to edges; weights follow."""


class MessageWeights(NamedTuple):
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
    def of(cls, flat: Sequence[Tensor]) -> MessageWeights:
        """From a flat sequence."""
        return cls(*flat[:6], mlp=tuple(flat[6:]))  # type: ignore[misc,arg-type]

    def flat(self) -> tuple[Tensor, ...]:
        """As a flat sequence."""
        return (*self[:6], *self.mlp)


class Pieces(NamedTuple):
    """The three sums that have a form of their own for tables of neighbours (`mlanet.ops.message.table`)."""

    degree_dots: Callable[[Tensor, Tensor, Neighborhoods], Tensor]
    harmonic_dots: Callable[[Tensor, Tensor, Neighborhoods], Tensor]
    light_message: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Neighborhoods], Tensor]


def message(
    pieces: Pieces,
    shape: MessageShape,
    around: Neighborhoods,
    neighbor: Tensor,
    inputs: MessageInputs,
    weights: MessageWeights,
) -> Tensor:
    """m (N, M, C): messages of both paths, weighed by attention and gates, summed over the neighbours."""
    z = edge_state(around, neighbor, inputs.here, inputs.near, inputs.radial @ weights.chemical)
    channels = inputs.sent.shape[2]
    if shape.heads:
        logits = _logits(pieces, shape, around, neighbor, inputs, weights, z)
        attention = attention_of_channels(logits, inputs.envelope, inputs.factor, around, channels, shape.envelope_once)
    else:
        attention = inputs.envelope[:, None, None] * shape.uniform_scale
    gates = channel_gates(functional.linear(z, weights.gates, weights.gates_bias), shape.gate_channels, channels)
    geometric, chemical = path_weights(attention, gates, inputs.envelope, shape.chemical_scale)
    filters = radial_network(inputs.radial, weights.mlp)
    if shape.full:
        values = full_product(inputs.sent.index_select(0, neighbor), filters, inputs.harmonics)
        return full_message(values, geometric, around)
    phi, psi = filters.unflatten(1, (2, shape.l_max + 1, channels)).unbind(1)
    along = geometric * psi
    return pieces.light_message(inputs.sent, chemical * phi, along, inputs.harmonics, neighbor, around)


def _logits(
    pieces: Pieces,
    shape: MessageShape,
    around: Neighborhoods,
    neighbor: Tensor,
    inputs: MessageInputs,
    weights: MessageWeights,
    z: Tensor,
) -> Tensor:
    """a/τ (E, H) of `tp_dot`. - z (E, R)"""
    heads = (shape.heads, shape.key_dim)
    query, key = inputs.query.unflatten(2, heads), inputs.key.index_select(0, neighbor).unflatten(2, heads)
    terms = functional.linear(z, weights.logits, weights.logits_bias).unflatten(1, (shape.heads, -1))
    return weighed(terms, query_products(pieces, around, query, key, inputs.harmonics), weights.log_temperature)


@dataclass(frozen=True)
class MessageOfRows:
    """`message` of all centers, for edges in rows, as far as its kernels have it in common."""

    shape: MessageShape
    rows: Rows
    n_inputs = N_INPUTS

    def blank(self, tensors: Sequence[Tensor]) -> Tensor:
        """m (N, M, C)."""
        return tensors[0].new_empty(self.rows.start.shape[0] - 1, *tensors[0].shape[1:])

    def reference(self, tensors: Sequence[Tensor]) -> Tensor:
        """In plain torch."""
        return message_of_rows(self.shape, self.rows, tensors)


def message_of_rows(shape: MessageShape, rows: Rows, tensors: Sequence[Tensor]) -> Tensor:
    """`message` for edges in rows: inputs (`MessageInputs`), weights behind them. Memory of the size of the edges."""
    inputs, weights = MessageInputs(*tensors[:N_INPUTS]), MessageWeights.of(tensors[N_INPUTS:])
    return message(LISTS, shape, rows.around(), rows.neighbor, inputs, weights)


def edge_state(around: Neighborhoods, neighbor: Tensor, here: Tensor, near: Tensor, radial: Tensor) -> Tensor:
    """z = SiLU(A s_i + B s_j + D RBF), (E, R). - here A s, near B s (N, R) · radial D RBF (E, R)"""
    return functional.silu(around.spread(here) + near.index_select(0, neighbor) + radial)


def query_products(pieces: Pieces, around: Neighborhoods, query: Tensor, key: Tensor, harmonics: Tensor) -> Tensor:
    """<q_i, k_j> by degree and <q_i, Y> for l > 0, (E, H, 2L+1), each over √(d_k (2l+1)(L+1)): of unit variance.

    - query (N, M, H, K) · key (E, M, H, K) · harmonics (E, M)
    """
    scale = dot_scale(query)
    dots = pieces.degree_dots(query, key, around)
    along = pieces.harmonic_dots(query.sum(3), harmonics, around)
    return torch.cat([dots * scale, (along * scale)[:, :, 1:]], dim=2)


def dot_scale(query: Tensor) -> Tensor:
    """1/√(d_k (2l+1)(L+1)) by degree, (L+1,), which gives dot products unit variance. - query (N, M, H, K)"""
    l_max = math.isqrt(query.shape[1]) - 1
    degree = torch.arange(l_max + 1, dtype=query.dtype, device=query.device)
    return (query.shape[3] * (l_max + 1) * (2 * degree + 1)).rsqrt()


def weighed(terms: Tensor, products: Tensor | None, log_temperature: Tensor) -> Tensor:
    """Logits over temperature (E, H). - terms (E, H, 1 + P), linear in z · products (E, H, P), or None: z alone"""
    logits = terms[:, :, 0]
    if products is not None:
        logits = logits + (terms[:, :, 1:] * products).sum(2)
    return logits * torch.exp(-log_temperature)


def enveloped_softmax(logits: Tensor, envelope: Tensor, around: Neighborhoods) -> Tensor:
    """Attention weights that fade smoothly to nothing at the cutoff, with a null key.

    α_e = u_e e^{a_e} / (1 + Σ_{e'} u_e' e^{a_e'}), the sum over the edges e' of the same center. The envelope u stands
    inside, so a leaving neighbour does not disturb the others; the 1 is a null key with logit 0, so Σ_e α_e < 1 and a
    center without neighbours needs no exception.

    - logits (E, H) · envelope (E,) in [0, 1] · returns (E, H) in [0, 1)
    """
    # An edge that weighs nothing must not set the scale of the others: they would all underflow.
    logits = torch.where(envelope[:, None] > 0, logits, torch.zeros_like(logits))
    peak = around.max(logits).clamp(min=0)
    weight = envelope[:, None] * torch.exp(logits - around.spread(peak))
    total = torch.exp(-peak) + around.sum(weight)
    return weight / around.spread(total)


def attention_of_channels(
    logits: Tensor, envelope: Tensor, factor: Tensor, around: Neighborhoods, channels: int, once: bool
) -> Tensor:
    """(1 + n_i/n̄) u α of each channel's head, (E, 1, C); without u if `once`. - logits (E, H) · factor (N,)"""
    alpha = enveloped_softmax(logits, envelope, around) * around.spread(factor)[:, None]
    alpha = alpha.repeat_interleave(channels // logits.shape[1], dim=1)
    return alpha[:, None, :] if once else alpha[:, None, :] * envelope[:, None, None]


def channel_gates(linear: Tensor, gate_channels: int, channels: int) -> Tensor:
    """g (E, L+1, C), one for each channel, from W_g z (E, (L+1) C/G), one for each group of neighbouring channels."""
    return each_channel(torch.sigmoid(linear), gate_channels, dim=1).unflatten(1, (-1, channels))


def each_channel(gates: Tensor, gate_channels: int, dim: int) -> Tensor:
    """One for each channel, from one for each group of neighbouring channels."""
    return gates if gate_channels == 1 else gates.repeat_interleave(gate_channels, dim=dim)


def path_weights(attention: Tensor, gates: Tensor, envelope: Tensor, chemical_scale: float) -> tuple[Tensor, Tensor]:
    """What weighs the geometric and the chemical values, (E, L+1, C) each; chemical_scale: 0 for `combine: product`."""
    if not chemical_scale:
        both = attention * gates
        return both, both
    return attention.expand_as(gates), gates * (envelope * chemical_scale)[:, None, None]


def full_message(values: Tensor, gates: Tensor, around: Neighborhoods) -> Tensor:
    """Σ_j g_ij ⊙ V_ij (N, M, C). - values (E, M, C) · gates (E, L+1, C)"""
    rows = torch.cat([gates[:, d : d + 1].expand(-1, 2 * d + 1, -1) for d in range(gates.shape[1])], dim=1)
    return around.sum(rows * values)


def degree_dots(query: Tensor, key: Tensor, around: Neighborhoods) -> Tensor:
    """Σ_m Σ_k q^{l}_{m,h,k} k^{l}_{m,h,k} for each head and degree: the invariant products of the geometric path.

    - query (N, M, H, K) of the centers · key (E, M, H, K) of the edges -> (E, H, L+1)
    """
    per_row = (around.spread(query) * key).sum(-1)
    l_max = math.isqrt(per_row.shape[1]) - 1
    return torch.stack([block.sum(1) for block in split_degrees(per_row, l_max)], dim=2)


def harmonic_dots(query: Tensor, harmonics: Tensor, around: Neighborhoods) -> Tensor:
    """Σ_m q^{l}_{m,h} Y_{l,m}(r̂) for each head and degree: how well an edge points along the query.

    - query (N, M, H) of the centers · harmonics (E, M) -> (E, H, L+1)
    """
    per_row = around.spread(query) * harmonics[:, :, None]
    l_max = math.isqrt(per_row.shape[1]) - 1
    return torch.stack([block.sum(1) for block in split_degrees(per_row, l_max)], dim=2)


def light_message(
    value: Tensor,
    chemical: Tensor,
    geometric: Tensor,
    harmonics: Tensor,
    neighbor: Tensor,
    around: Neighborhoods,
) -> Tensor:
    """Sum over neighbours of a message without a Clebsch–Gordan product: O((L+1)² C) per edge.

    m_i^l = Σ_j  c_ij^l ⊙ v_j^l  +  (d_ij^l ⊙ v_j^0) ⊗ Y_l(r̂_ij)

    - value v (N, M, C) · chemical c and geometric d (E, L+1, C), attention, gates and envelope included
    - harmonics (E, M) · neighbor (E,) -> (N, M, C)
    """
    l_max = chemical.shape[1] - 1
    gathered = split_degrees(value.index_select(0, neighbor), l_max)
    directions = split_degrees(harmonics, l_max)
    along = (geometric * gathered[0]).unbind(1)
    blocks = [
        own[:, None, :] * sent + towards[:, None, :] * direction[:, :, None]
        for own, sent, towards, direction in zip(chemical.unbind(1), gathered, along, directions, strict=True)
    ]
    return around.sum(torch.cat(blocks, dim=1))


LISTS = Pieces(degree_dots, harmonic_dots, light_message)
"""For edges in a sorted list."""
