"""The dual-path dynamic attention: a chemical path and a geometric path weigh every neighbour together.

Chemical path   z_ij = SiLU(A s_i + B s_j + D RBF(r)),  gates g^{c,l} = sigmoid(W_g z), of one or several channels c
Geometric path  a^h = aᵀz + Σ_l w^{qk}_{h,l}(z) <q_i^{h,l}, k_j^{h,l}> + Σ_{l>0} w^{qY}_{h,l}(z) <q_i^{h,l}, Y_l(r̂)>
Weights         α^h = u e^{a/τ_h} / (1 + Σ_k u_ik e^{a_ik/τ_h})

The source (arXiv 2603.22810) states the two paths, the query/key roles, the temperature, the softmax and the gate; the
equations are ours. The GATv2 form of z (arXiv 2105.14491) makes the ranking of neighbours depend on the query.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from e3nn import o3
from torch import Tensor, nn

from mlanet.nn.edges import Edges
from mlanet.nn.equivariant import (
    EquivariantRMSNorm,
    GatedMLP,
    Linear,
    NodeProduct,
    from_e3nn,
    natural_irreps,
    to_e3nn,
)
from mlanet.nn.radial import RadialMLP
from mlanet.nn.tensor_product import TensorProduct
from mlanet.ops.attention import Kernels, attention_message, can_fuse
from mlanet.ops.message.block import BlockInputs, BlockShape, BlockWeights, each_channel
from mlanet.ops.message.layouts import by_layout
from mlanet.ops.segment import enveloped_softmax


class AttentionShape(NamedTuple):
    """Sizes and switches of one dual-path layer, from the model's configuration."""

    heads: int
    key_dim: int
    radial_functions: int
    radial_hidden: tuple[int, ...]
    hidden: int
    mean_neighbors: float
    attention: str
    message: str
    combine: str
    gate_channels: int = 1


def can_be_fused(attention: str, message: str, combine: str) -> bool:
    """Whether there are kernels for these settings of a model."""
    return attention == "tp_dot" and (message == "light" or combine == "product")


class ChemicalPath(nn.Module):
    """z_ij = SiLU(A s_i + B s_j + D RBF(r)), invariant; the node parts are computed per atom and only gathered.

    - scalars (N, C), radial (E, B) -> (E, R)
    """

    def __init__(self, channels: int, functions: int, hidden: int) -> None:
        super().__init__()
        self.center = nn.Linear(channels, hidden)
        self.neighbor = nn.Linear(channels, hidden, bias=False)
        self.radial = RadialMLP(functions, (), hidden)

    def forward(self, scalars: Tensor, edges: Edges) -> Tensor:
        """(N, C) -> (E, R)."""
        ends = edges.around.spread(self.center(scalars)) + self.neighbor(scalars).index_select(0, edges.neighbor)
        return nn.functional.silu(ends + self.radial(edges.radial))


class GeometricLogits(nn.Module):
    """a_ij^h of the head of this file, with its variants.

    `tp_dot`: query · key and query · Y, each over √(d_k (2l+1)(L+1)); `fctp`: key = TP(k_j, Y; W(RBF)), all
    paths, dotted with the query, after arXiv 2006.10503; `gatv2`: aᵀz alone, no geometry.
    """

    def __init__(self, irreps: o3.Irreps, shape: AttentionShape) -> None:
        super().__init__()
        self.shape, self.l_max = shape, irreps.lmax
        width = natural_irreps(shape.heads * shape.key_dim, irreps.lmax)
        geometric = {"tp_dot": 2 * self.l_max + 1, "fctp": self.l_max + 1, "gatv2": 0}[shape.attention]
        self.weights = nn.Linear(shape.hidden, shape.heads * (1 + geometric))
        self.log_temperature = nn.Parameter(torch.zeros(shape.heads))
        if geometric:
            self.query, self.key = Linear(irreps, width), Linear(irreps, width)
        if shape.attention == "fctp":
            self.edge_key = FullValue(width, shape)

    def forward(self, features: Tensor, z: Tensor, edges: Edges) -> Tensor:
        """(N, M, C) and (E, R) -> logits over temperature (E, H)."""
        heads = self.shape.heads
        weights = self.weights(z).unflatten(1, (heads, -1))
        logits = weights[:, :, 0]
        if self.shape.attention != "gatv2":
            query = self.query(features)
            query = query.unflatten(2, (heads, self.shape.key_dim))
            dots = self._dots(query, self.key(features), edges)
            logits = logits + (weights[:, :, 1:] * dots).sum(2)
        return logits * torch.exp(-self.log_temperature)

    def _dots(self, query: Tensor, key: Tensor, edges: Edges) -> Tensor:
        """Invariant products of the query with what the edge offers, (E, H, number of products), of unit variance."""
        ops, degree = by_layout(edges.around), torch.arange(self.l_max + 1, dtype=query.dtype, device=query.device)
        scale = (self.shape.key_dim * (self.l_max + 1) * (2 * degree + 1)).rsqrt()
        if self.shape.attention == "fctp":
            key = self.edge_key(key, edges)
            return ops.degree_dots(query, key.unflatten(2, query.shape[2:]), edges.around) * scale
        key = key.index_select(0, edges.neighbor).unflatten(2, query.shape[2:])
        dots = ops.degree_dots(query, key, edges.around)
        along = ops.harmonic_dots(query.sum(3), edges.harmonics, edges.around)
        return torch.cat([dots * scale, (along * scale)[:, :, 1:]], dim=2)


class FullValue(nn.Module):
    """V_ij = uvu tensor product of v_j with Y(r̂), weights from the distance, all natural-parity paths.

    - value (N, M, C) -> (E, M, C). e3nn `o3.TensorProduct`; the most expressive message.
    """

    def __init__(self, irreps: o3.Irreps, shape: AttentionShape) -> None:
        super().__init__()
        self.irreps_in = self.irreps_out = irreps
        degrees = range(irreps.lmax + 1)
        paths = [
            (a, b, c, "uvu", True)
            for a in degrees
            for b in degrees
            for c in range(abs(a - b), min(irreps.lmax, a + b) + 1, 2)
        ]
        harmonics = natural_irreps(1, irreps.lmax)
        self.product = TensorProduct(irreps, harmonics, irreps, paths, own_weights=False)
        self.radial = RadialMLP(shape.radial_functions, shape.radial_hidden, self.product.weight_numel)

    def forward(self, value: Tensor, edges: Edges) -> Tensor:
        """(N, M, C) -> (E, M, C)."""
        flat = to_e3nn(value).index_select(0, edges.neighbor)
        product = self.product(flat, edges.harmonics, self.radial(edges.radial))
        return from_e3nn(product, self.irreps_out[0].mul, self.irreps_out.lmax)

    def message(self, value: Tensor, gates: Tensor, edges: Edges) -> Tensor:
        """Σ_j g_ij ⊙ V_ij: value (N, M, C) and gates (E, L+1, C) -> (N, M, C)."""
        rows = torch.cat([gates[:, d : d + 1].expand(-1, 2 * d + 1, -1) for d in range(gates.shape[1])], dim=1)
        return edges.around.sum(rows * self(value, edges))


class DualPathAttention(nn.Module):
    """Messages of one layer: attention (geometry) and gates (chemistry) on light or full values.

    product  m_i = (1 + n_i/n̄) Σ_j u α^{h(c)} g^{c,l} ⊙ V^{c,l}, the first factor because a softmax forgets coordination
    sum      m_i = (1 + n_i/n̄) Σ_j u α V^geo + n̄^{-1/2} Σ_j u g ⊙ V^chem
    light    V^chem = φ_l(RBF) ⊙ v_j^l,  V^geo = ψ_l(RBF) ⊙ v_j^0 ⊗ Y_l,  V = V^chem + V^geo
    full     V^geo = uvu product (v_j ⊗ Y; W(RBF)); V = V^geo in `product`
    With `attention: none`, (1 + n_i/n̄) α is replaced by n̄^{-1/2}.

    - features (N, (L+1)², C) -> (N, (L+1)², C). Cost per edge: `light` O((L+1)² C) + the edge MLPs O(R C (L+1)).
    """

    def __init__(self, irreps: o3.Irreps, shape: AttentionShape) -> None:
        super().__init__()
        self.irreps_in = self.irreps_out = irreps
        self.shape, self.channels, self.n_degrees = shape, irreps[0].mul, irreps.lmax + 1
        self.chemical = ChemicalPath(self.channels, shape.radial_functions, shape.hidden)
        self.gates = nn.Linear(shape.hidden, self.channels // shape.gate_channels * self.n_degrees)
        self.logits = None if shape.attention == "none" else GeometricLogits(irreps, shape)
        self.value = Linear(irreps, irreps)
        self.full = FullValue(irreps, shape) if shape.message == "full" else None
        n_radial = {"light": 2, "full": 1 if shape.combine == "sum" else 0}[shape.message]
        widths = (shape.radial_functions, shape.radial_hidden, n_radial * self.channels * self.n_degrees)
        self.radial = RadialMLP(*widths) if n_radial else None
        self.kernels: Kernels = "plain"

    def can_fuse(self, features: Tensor, edges: Edges) -> bool:
        """Whether the message is one operation: by query, key and Y, with kernels for these edges."""
        shape = self.shape
        if self.kernels != "fused" or not can_be_fused(shape.attention, shape.message, shape.combine):
            return False
        return can_fuse(self.kernels, self.fused_shape(), features, self.fused_weights())

    def fused_shape(self) -> BlockShape:
        """What the one operation knows besides tensors."""
        shape = self.shape
        chemical_scale = shape.mean_neighbors**-0.5 if shape.combine == "sum" else 0.0
        sizes = (self.n_degrees - 1, shape.heads, shape.key_dim)
        return BlockShape(*sizes, chemical_scale, self.full is not None, shape.gate_channels)

    def fused_weights(self) -> BlockWeights:
        """The weights that the one operation takes."""
        network = self.radial if self.full is None else self.full.radial
        assert self.logits is not None and network is not None
        return BlockWeights(
            chemical=self.chemical.radial.weights[0],
            gates=self.gates.weight,
            gates_bias=self.gates.bias,
            logits=self.logits.weights.weight,
            logits_bias=self.logits.weights.bias,
            log_temperature=self.logits.log_temperature,
            mlp=tuple(network.weights),
        )

    def forward(self, features: Tensor, edges: Edges) -> Tensor:
        """(N, M, C) -> (N, M, C)."""
        if self.can_fuse(features, edges):
            return self._fused(features, edges)
        z = self.chemical(features[:, 0], edges)
        envelope = edges.envelope[:, None, None]
        attention = self._edge_weights(features, z, edges) * envelope
        gates = each_channel(torch.sigmoid(self.gates(z)), self.shape.gate_channels)
        gates = gates.unflatten(1, (self.n_degrees, self.channels))
        if self.shape.combine == "product":
            geometric_gate = chemical_gate = attention * gates
        else:
            geometric_gate = attention.expand_as(gates)
            chemical_gate = gates * (envelope / math.sqrt(self.shape.mean_neighbors))
        return self._messages(self.value(features), geometric_gate, chemical_gate, edges)

    def _fused(self, features: Tensor, edges: Edges) -> Tensor:
        """The same as `forward`, as one operation."""
        assert self.logits is not None
        inputs = BlockInputs(
            sent=self.value(features),
            key=self.logits.key(features),
            near=self.chemical.neighbor(features[:, 0]),
            query=self.logits.query(features),
            here=self.chemical.center(features[:, 0]),
            factor=1 + edges.coordination / self.shape.mean_neighbors,
            envelope=edges.envelope,
            radial=edges.radial,
            harmonics=edges.harmonics,
        )
        return attention_message(self.fused_shape(), edges.rows, inputs, self.fused_weights())

    def attention_weights(self, features: Tensor, edges: Edges) -> Tensor:
        """α (E, H) of the enveloped softmax with null key; Σ_j α < 1."""
        if self.logits is None:
            raise ValueError("a layer with `attention: none` has no attention weights")
        logits = self.logits(features, self.chemical(features[:, 0], edges), edges)
        return enveloped_softmax(logits, edges.envelope, edges.around)

    def _edge_weights(self, features: Tensor, z: Tensor, edges: Edges) -> Tensor:
        """(1 + n_i/n̄) α per channel, (E, 1, C); n̄^{-1/2} without attention."""
        if self.logits is None:
            return z.new_full((1, 1, 1), self.shape.mean_neighbors**-0.5)
        alpha = enveloped_softmax(self.logits(features, z, edges), edges.envelope, edges.around)
        degree_factor = 1 + edges.coordination / self.shape.mean_neighbors
        alpha = alpha * edges.around.spread(degree_factor)[:, None]
        return alpha.repeat_interleave(self.channels // self.shape.heads, dim=1)[:, None, :]

    def _messages(self, value: Tensor, geometric_gate: Tensor, chemical_gate: Tensor, edges: Edges) -> Tensor:
        """Weigh and sum the values over the neighbours."""
        radial = None if self.radial is None else self.radial(edges.radial)
        light_message = by_layout(edges.around).light_message
        if self.full is None:
            assert radial is not None
            phi, psi = radial.unflatten(1, (2, self.n_degrees, self.channels)).unbind(1)
            chemical, geometric = chemical_gate * phi, geometric_gate * psi
            return light_message(value, chemical, geometric, edges.harmonics, edges.neighbor, edges.around)
        message = self.full.message(value, geometric_gate, edges)
        if radial is None:
            return message
        chemical = chemical_gate * radial.unflatten(1, (self.n_degrees, self.channels))
        nothing = torch.zeros_like(chemical)
        return message + light_message(value, chemical, nothing, edges.harmonics, edges.neighbor, edges.around)

    def extra_repr(self) -> str:
        """The representation is part of the type."""
        return f"{self.irreps_in} -> {self.irreps_out}, {self.shape.attention}, {self.shape.message}"


class InteractionLayer(nn.Module):
    """One layer: h ← h + Linear(m(ĥ)); h ← h + TP(ĥ, ĥ) (optional); h ← h + Linear(Gate(Linear(h))), ĥ = norm(h).

    - (N, (L+1)², C) -> (N, (L_out+1)², C); the last layer of a gradient model returns scalars only, since only they
    are read, and its product still contracts the directions into them.
    """

    def __init__(
        self, irreps_in: o3.Irreps, irreps_out: o3.Irreps, shape: AttentionShape, *, product: bool, normalised: bool
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = irreps_in, irreps_out
        self.rows_out = (irreps_out.lmax + 1) ** 2
        self.attention = DualPathAttention(irreps_in, shape)
        self.mix = Linear(irreps_in, irreps_in)
        self.product = NodeProduct(irreps_in, irreps_out) if product else None
        self.attention_norm = EquivariantRMSNorm(irreps_in) if normalised else None
        self.product_norm = EquivariantRMSNorm(irreps_in) if normalised and product else None
        self.update = GatedMLP(irreps_out, irreps_out)

    def forward(self, features: Tensor, edges: Edges) -> Tensor:
        """(N, M, C) -> (N, M_out, C)."""
        source = features if self.attention_norm is None else self.attention_norm(features)
        features = features + self.mix(self.attention(source, edges))
        if self.product is None:
            features = features[:, : self.rows_out]
        else:
            # A product squares its input: without a norm, sizes would run away with the depth.
            factor = features if self.product_norm is None else self.product_norm(features)
            features = features[:, : self.rows_out] + self.product(factor)
        return features + self.update(features)
