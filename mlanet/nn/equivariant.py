"""Node-wise equivariant layers on e3nn irreps, in the layout (N, (L+1)², C), channels last.

All features have natural parity and one multiplicity for all degrees: I = C×0e + C×1o + C×2e + …. Row l² + m of the
middle axis is component m of degree l in e3nn's order, so `to_e3nn` is a permutation of numbers, nothing more.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mlanet.irreps import o3
from mlanet.ops.dispatch import node_product
from mlanet.ops.node_product.reference import product_paths


def natural_irreps(channels: int, l_max: int) -> o3.Irreps:
    """Channels × (l, (−1)^l) for l = 0 … l_max.

    >>> natural_irreps(4, 2)
    4x0e+4x1o+4x2e
    """
    return o3.Irreps([(channels, (degree, (-1) ** degree)) for degree in range(l_max + 1)])


def degree_of_row(l_max: int) -> Tensor:
    """((L+1)²,) the degree l of each row of the layout.

    >>> degree_of_row(1).tolist()
    [0, 1, 1, 1]
    """
    return torch.repeat_interleave(torch.arange(l_max + 1), 2 * torch.arange(l_max + 1) + 1)


def to_e3nn(features: Tensor) -> Tensor:
    """(N, (L+1)², C) -> (N, D), e3nn's `mul_ir` order: for each degree, channel-major."""
    l_max = math.isqrt(features.shape[1]) - 1
    blocks = [features[:, l * l : (l + 1) ** 2].transpose(1, 2).flatten(1) for l in range(l_max + 1)]  # noqa: E741
    return torch.cat(blocks, dim=1)


class Linear(nn.Module):
    """y^l = x^l W_l, one matrix per degree: `e3nn.o3.Linear` in our layout, as one batched product.

    - x (N, (L_in+1)², C_in) -> (N, (L_out+1)², C_out), L_out ≤ L_in. W_l ~ N(0, 1/C_in), no bias.
    Cost 2 N (L_out+1)² C_in C_out FLOP. e3nn's weight is √C_in W_l.
    """

    degree: Tensor

    def __init__(self, irreps_in: o3.Irreps, irreps_out: o3.Irreps) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = irreps_in, irreps_out
        self.rows = (irreps_out.lmax + 1) ** 2
        c_in, c_out = irreps_in[0].mul, irreps_out[0].mul
        self.weight = nn.Parameter(torch.randn(irreps_out.lmax + 1, c_in, c_out) / math.sqrt(c_in))
        self.register_buffer("degree", degree_of_row(irreps_out.lmax), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, (L_in+1)², C_in) -> (N, (L_out+1)², C_out)."""
        if self.rows == 1:
            return (x[:, 0] @ self.weight[0])[:, None]
        return self._by_degree(x, self.weight)

    def together(self, x: Tensor, *others: Linear) -> tuple[Tensor, ...]:
        """What this one and others of the same degrees make of one x, in one product."""
        every = (self, *others)
        weight = torch.cat([linear.weight for linear in every], dim=2)
        return self._by_degree(x, weight).split([linear.weight.shape[2] for linear in every], dim=2)

    def _by_degree(self, x: Tensor, weight: Tensor) -> Tensor:
        x = x if x.shape[1] == self.rows else x[:, : self.rows]
        return torch.bmm(x.transpose(0, 1), weight.index_select(0, self.degree)).transpose(0, 1)

    def extra_repr(self) -> str:
        """The representation is part of the type."""
        return f"{self.irreps_in} -> {self.irreps_out}"


class GatedMLP(nn.Module):
    """Linear(Gate(Linear(h))): SiLU on scalars, l > 0 multiplied by sigmoids of scalars, so directions survive.

    - x (N, (L_in+1)², C) -> (N, (L_out+1)², C). Gate after arXiv 1807.02547 (as e3nn's `nn.Gate`).
    """

    gate: Tensor

    def __init__(self, irreps_in: o3.Irreps, irreps_out: o3.Irreps) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = irreps_in, irreps_out
        self.channels, self.l_max = irreps_in[0].mul, irreps_out.lmax
        hidden = natural_irreps(self.channels, self.l_max)
        self.linear_in = Linear(irreps_in, hidden)
        self.gates = nn.Linear(self.channels, self.channels * self.l_max) if self.l_max else None
        self.linear_out = Linear(hidden, irreps_out)
        self.register_buffer("gate", degree_of_row(self.l_max)[1:] - 1, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, (L_in+1)², C) -> (N, (L_out+1)², C)."""
        hidden = self.linear_in(x)
        scalars = nn.functional.silu(hidden[:, :1])
        if self.gates is None:
            return self.linear_out(scalars)
        gates = torch.sigmoid(self.gates(x[:, 0])).unflatten(1, (self.l_max, self.channels))
        return self.linear_out(torch.cat([scalars, hidden[:, 1:] * gates.index_select(1, self.gate)], dim=1))

    def extra_repr(self) -> str:
        """The representation is part of the type."""
        return f"{self.irreps_in} -> {self.irreps_out}"


class EquivariantRMSNorm(nn.Module):
    """x / rms(x) · γ_{l,c}, with rms² = mean over degrees and channels of |x^l|²/(2l+1); one number per node.

    The scalars of a node never vanish together, so the norm stays smooth where all l > 0 features are zero.
    """

    degree: Tensor
    weight_of_row: Tensor

    def __init__(self, irreps: o3.Irreps) -> None:
        super().__init__()
        self.irreps_in = self.irreps_out = irreps
        degree = degree_of_row(irreps.lmax)
        self.gain = nn.Parameter(torch.ones(irreps.lmax + 1, irreps[0].mul))
        self.register_buffer("degree", degree, persistent=False)
        share = ((2 * degree + 1) * (irreps.lmax + 1)).to(torch.float32).reciprocal()
        self.register_buffer("weight_of_row", share, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, (L+1)², C) -> the same shape."""
        square = (x * x).sum(2) @ self.weight_of_row.to(x.dtype) / x.shape[2]
        return x * torch.rsqrt(square + 1e-6)[:, None, None] * self.gain.index_select(0, self.degree)

    def extra_repr(self) -> str:
        """The representation is part of the type."""
        return f"{self.irreps_in} -> {self.irreps_out}"


class NodeProduct(nn.Module):
    """h ⊗ h -> I, channel by channel (e3nn `uuu` paths), then mixed: raises the body order at O(N), not O(E), cost.

    - x (N, (L_in+1)², C) -> (N, (L_out+1)², C). All natural-parity paths l₁ ⊗ l₂ -> l with l₁ ≤ l₂ (h ⊗ h is
    symmetric), a weight per path and channel. After MACE's products (arXiv 2206.07697), with one factor of 2.
    """

    def __init__(self, irreps_in: o3.Irreps, irreps_out: o3.Irreps) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = irreps_in, irreps_out
        self.channels, self.l_out = irreps_in[0].mul, irreps_out.lmax
        weight = nn.Parameter(torch.randn(len(product_paths(irreps_in.lmax, self.l_out)) * self.channels))
        # Named as the weight of e3nn's product is, so that model files of any time are read.
        self.product = nn.Module()
        self.product.product = nn.Module()
        self.product.product.register_parameter("weight", weight)
        self.linear = Linear(natural_irreps(self.channels, self.l_out), irreps_out)

    @property
    def path_weights(self) -> Tensor:
        """(paths, C)."""
        return self.get_parameter("product.product.weight").view(-1, self.channels)

    def forward(self, x: Tensor, *, by_kernel: bool = False) -> Tensor:
        """(N, (L_in+1)², C) -> (N, (L_out+1)², C). - by_kernel: see `mlanet.ops.dispatch.node_product`"""
        return self.linear(node_product(x, self.path_weights, self.l_out, by_kernel))

    def extra_repr(self) -> str:
        """The representation is part of the type."""
        return f"{self.irreps_in} x {self.irreps_in} -> {self.irreps_out}"
