"""The dual-path dynamic attention: a chemical path and a geometric path weigh every neighbour together.

The equations are in `mlanet.ops.message.reference`; here are the weights, and the switches between variants. The source
(arXiv 2603.22810) states the two paths, the query/key roles, the temperature, the softmax and the gate; the equations
are ours. The GATv2 form of z (arXiv 2105.14491) makes the ranking of neighbours depend on the query.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlanet.irreps import o3
from mlanet.nn.edges import Edges
from mlanet.nn.equivariant import EquivariantRMSNorm, GatedMLP, Linear, NodeProduct, natural_irreps
from mlanet.nn.radial import RadialMLP
from mlanet.ops import dispatch
from mlanet.ops.message import reference
from mlanet.ops.message.reference import MessageInputs, MessageShape, MessageWeights
from mlanet.ops.tensor_product import full_product, paths


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
    output_gate: str = "none"
    attention_envelope: str = "twice"


def is_one_operation(attention: str, message: str, combine: str) -> bool:
    """Whether the message of these settings of a model is `reference.message`, which has other forms too."""
    return attention in ("tp_dot", "none") and (message == "light" or combine == "product")


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
        here, near = self.center(scalars), self.neighbor(scalars)
        return reference.edge_state(edges.around, edges.neighbor, here, near, self.radial(edges.radial))


class GeometricLogits(nn.Module):
    """a_ij^h over the temperature, with its variants.

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
        """(N, M, C) and (E, R) -> (E, H)."""
        terms = self.weights(z).unflatten(1, (self.shape.heads, -1))
        products = None if self.shape.attention == "gatv2" else self._products(features, edges)
        return reference.weighed(terms, products, self.log_temperature)

    def _products(self, features: Tensor, edges: Edges) -> Tensor:
        """Invariant products of the query with what the edge offers, (E, H, number of products), of unit variance."""
        pieces, heads = dispatch.message_pieces(edges.around), (self.shape.heads, self.shape.key_dim)
        query, key = self.query(features).unflatten(2, heads), self.key(features)
        if self.shape.attention == "fctp":
            key = self.edge_key(key, edges).unflatten(2, heads)
            return pieces.degree_dots(query, key, edges.around) * reference.dot_scale(query)
        key = key.index_select(0, edges.neighbor).unflatten(2, heads)
        return reference.query_products(pieces, edges.around, query, key, edges.harmonics)


class FullValue(nn.Module):
    """V_ij = uvu tensor product of v_j with Y(r̂), weights from the distance, all natural-parity paths.

    - value (N, M, C) -> (E, M, C). As e3nn `o3.TensorProduct`; the most expressive message.
    """

    def __init__(self, irreps: o3.Irreps, shape: AttentionShape) -> None:
        super().__init__()
        self.irreps_in = self.irreps_out = irreps
        weights = len(paths(irreps.lmax)) * irreps[0].mul
        self.radial = RadialMLP(shape.radial_functions, shape.radial_hidden, weights)

    def forward(self, value: Tensor, edges: Edges) -> Tensor:
        """(N, M, C) -> (E, M, C)."""
        return full_product(value.index_select(0, edges.neighbor), self.radial(edges.radial), edges.harmonics)


class DualPathAttention(nn.Module):
    """Messages of one layer: attention (geometry) and gates (chemistry) on light or full values.

    `combine`, `message`: see `mlanet.ops.message.reference`. With `attention: none`, (1 + n_i/n̄) α is replaced by
    n̄^{-1/2}. With `output_gate: head` the message of each head is multiplied by 2 σ(w_h s_i + b_h), of the center's
    scalars: what was gathered can be turned down, or up to twice, as a whole (after arXiv 2606.02419).

    - features (N, (L+1)², C) -> (N, (L+1)², C). Cost per edge: `light` O((L+1)² C) + the edge MLPs O(R C (L+1)).
    """

    def __init__(self, irreps: o3.Irreps, shape: AttentionShape) -> None:
        super().__init__()
        self.irreps_in = self.irreps_out = irreps
        self.shape, self.channels, self.n_degrees = shape, irreps[0].mul, irreps.lmax + 1
        self.one_operation = is_one_operation(shape.attention, shape.message, shape.combine)
        self.chemical = ChemicalPath(self.channels, shape.radial_functions, shape.hidden)
        self.gates = nn.Linear(shape.hidden, self.channels // shape.gate_channels * self.n_degrees)
        self.logits = None if shape.attention == "none" else GeometricLogits(irreps, shape)
        self.value = Linear(irreps, irreps)
        self.full = FullValue(irreps, shape) if shape.message == "full" else None
        n_radial = {"light": 2, "full": 1 if shape.combine == "sum" else 0}[shape.message]
        widths = (shape.radial_functions, shape.radial_hidden, n_radial * self.channels * self.n_degrees)
        self.radial = RadialMLP(*widths) if n_radial else None
        self.output_gate = None if shape.output_gate == "none" else nn.Linear(self.channels, shape.heads)

    def message_shape(self) -> MessageShape:
        """What the one operation knows besides tensors."""
        shape = self.shape
        chemical_scale = shape.mean_neighbors**-0.5 if shape.combine == "sum" else 0.0
        heads, uniform_scale = (0, shape.mean_neighbors**-0.5) if self.logits is None else (shape.heads, 0.0)
        sizes = (self.n_degrees - 1, heads, shape.key_dim)
        once = shape.attention_envelope == "once"
        return MessageShape(*sizes, chemical_scale, self.full is not None, shape.gate_channels, uniform_scale, once)

    def message_weights(self) -> MessageWeights:
        """The weights that the one operation takes."""
        network = self.radial if self.full is None else self.full.radial
        assert network is not None
        gates = self.gates.weight
        if self.logits is None:
            logits = gates.new_empty(0, gates.shape[1]), gates.new_empty(0), gates.new_empty(0)
        else:
            logits = self.logits.weights.weight, self.logits.weights.bias, self.logits.log_temperature
        return MessageWeights(
            chemical=self.chemical.radial.weights[0],
            gates=gates,
            gates_bias=self.gates.bias,
            logits=logits[0],
            logits_bias=logits[1],
            log_temperature=logits[2],
            mlp=tuple(network.weights),
        )

    def forward(self, features: Tensor, edges: Edges) -> Tensor:
        """(N, M, C) -> (N, M, C)."""
        messages = self._by_one_operation(features, edges) if self.one_operation else self._by_parts(features, edges)
        if self.output_gate is None:
            return messages
        gate = 2 * torch.sigmoid(self.output_gate(features[:, 0]))
        return messages * gate.repeat_interleave(self.channels // self.shape.heads, dim=1)[:, None, :]

    def _by_one_operation(self, features: Tensor, edges: Edges) -> Tensor:
        """What kernels know."""
        if self.logits is None:
            sent = self.value(features)
            key = query = sent.new_empty(*sent.shape[:2], 0)
        else:
            sent, key, query = self.value.together(features, self.logits.key, self.logits.query)
        scalars = features[:, 0]
        inputs = MessageInputs(
            sent=sent,
            key=key,
            near=self.chemical.neighbor(scalars),
            query=query,
            here=self.chemical.center(scalars),
            factor=self._degree_factor(edges),
            envelope=edges.envelope,
            radial=edges.radial,
            harmonics=edges.harmonics,
        )
        shape, weights = self.message_shape(), self.message_weights()
        return dispatch.message(shape, edges.around, edges.neighbor, edges.rows, inputs, weights)

    def attention_weights(self, features: Tensor, edges: Edges) -> Tensor:
        """α (E, H) of the enveloped softmax with null key; Σ_j α < 1."""
        if self.logits is None:
            raise ValueError("a layer with `attention: none` has no attention weights")
        logits = self.logits(features, self.chemical(features[:, 0], edges), edges)
        return reference.enveloped_softmax(logits, edges.envelope, edges.around)

    def _degree_factor(self, edges: Edges) -> Tensor:
        """1 + n_i/n̄ (N,)."""
        return 1 + edges.coordination / self.shape.mean_neighbors

    def _by_parts(self, features: Tensor, edges: Edges) -> Tensor:
        """Other logits than `tp_dot`, none, or both kinds of values."""
        z, shape = self.chemical(features[:, 0], edges), self.message_shape()
        if self.logits is None:
            attention = edges.envelope[:, None, None] * shape.uniform_scale
        else:
            logits, factor = self.logits(features, z, edges), self._degree_factor(edges)
            sizes = (edges.around, self.channels, shape.envelope_once)
            attention = reference.attention_of_channels(logits, edges.envelope, factor, *sizes)
        gates = reference.channel_gates(self.gates(z), self.shape.gate_channels, self.channels)
        geometric, chemical = reference.path_weights(attention, gates, edges.envelope, shape.chemical_scale)
        return self._messages(self.value(features), geometric, chemical, edges)

    def _messages(self, value: Tensor, geometric: Tensor, chemical: Tensor, edges: Edges) -> Tensor:
        """Weigh and sum the values over the neighbours."""
        radial = None if self.radial is None else self.radial(edges.radial)
        light_message = dispatch.message_pieces(edges.around).light_message
        if self.full is None:
            assert radial is not None
            phi, psi = radial.unflatten(1, (2, self.n_degrees, self.channels)).unbind(1)
            along = geometric * psi
            return light_message(value, chemical * phi, along, edges.harmonics, edges.neighbor, edges.around)
        message = reference.full_message(self.full(value, edges), geometric, edges.around)
        if radial is None:
            return message
        chemical = chemical * radial.unflatten(1, (self.n_degrees, self.channels))
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
            features = features[:, : self.rows_out] + self.product(factor, by_kernel=edges.rows is not None)
        return features + self.update(features)
