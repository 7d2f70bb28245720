"""Layers on F scalars and F vectors per atom, after LEIGNN (arXiv 2311.02869): messages, updates, and a global node.

Scalars x (N, F), vectors v (N, 3, F); in e3nn's words F×0e + F×1o. Linear maps act on F and never on the axis of
directions, and those of vectors have no bias, which is all that equivariance asks for.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlanet.nn.pooling import Structures
from mlanet.ops.dispatch import filtered_sum
from mlanet.ops.filtered_sum.reference import FilterEdges, Senders
from mlanet.ops.segment import segment_mean


class ScaledSiLU(nn.Module):
    """a(x) = SiLU(x) / 0.6, which keeps the variance of a normal input near one."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return nn.functional.silu(x) * (1 / 0.6)


def two_layers(n_in: int, hidden: int, n_out: int) -> nn.Sequential:
    """Linear, a, linear."""
    return nn.Sequential(nn.Linear(n_in, hidden), ScaledSiLU(), nn.Linear(hidden, n_out))


class Message(nn.Module):
    """m_i = x_i + Σ_j p_s and m⃗_i = v_i + Σ_j (p_a û_ij + p_v ∘ v_j), p = MLP(x_j) ∘ λ(d_ij).

    Where `scaled`, as published: p divided by √3, the sum of vectors by √F, and m by √2. That keeps vectors some twelve
    times smaller than scalars, and training learns angles late.

    - scalars x (N, F), vectors v (N, 3, F) or None where they are still 0; the basis carries envelope and bias of λ
    Cost: see `mlanet.ops.filtered_sum`; the MLP is per atom. Source: arXiv 2311.02869, eqs. 1 and 2, and its code.
    """

    table: Tensor | None

    def __init__(self, channels: int, basis: int, *, first: bool, scaled: bool) -> None:
        super().__init__()
        self.factors = (3**-0.5, channels**-0.5, 2**-0.5) if scaled else (1.0, 1.0, 1.0)
        self.blocks = 2 if first else 3
        self.network = two_layers(channels, channels // 2, self.blocks * channels)
        bound = 1 / math.sqrt(basis)
        self.filter = nn.Parameter(torch.empty(self.blocks * channels, basis).uniform_(-bound, bound))
        self.register_buffer("table", None, persistent=False)

    def tabulate(self, table: Tensor) -> None:
        """Read λ from a table (G, 2F or 3F) from now on."""
        self.table = table.to(self.filter)

    def forward(self, scalars: Tensor, vectors: Tensor | None, edges: FilterEdges) -> tuple[Tensor, Tensor]:
        """-> m (N, F) and m⃗ (N, 3, F)."""
        width = scalars.shape[1]
        of_messages, of_vectors, of_scalars = self.factors
        sent = self.network(scalars) * of_messages
        carried = None if vectors is None else sent[:, None, 2 * width :] * vectors
        senders = Senders(sent[:, :width], sent[:, width : 2 * width], carried)
        weight = self.filter if self.table is None else self.table
        around, along = filtered_sum(edges, senders, weight)
        along = along * of_vectors
        return (scalars + around) * of_scalars, along if vectors is None else vectors + along


class GatedUpdate(nn.Module):
    """Node memory update: x_i = m + h_x/√2 + tanh(h_g) ∘ m,  v_i = m⃗ + h_v ∘ (U m⃗),  h = MLP[m ; |V m⃗|].

    The length is one of `invariant_length`.
    - m (N, F), m⃗ (N, 3, F) -> x, v; v is None where only scalars are asked for.
    Source: arXiv 2311.02869, eqs. 3 and 4, and its code.
    """

    def __init__(self, channels: int, *, invariant: str, scalars_only: bool) -> None:
        super().__init__()
        self.invariant, self.scalars_only = invariant, scalars_only
        self.mix = nn.Linear(channels, channels if scalars_only else 2 * channels, bias=False)
        self.network = two_layers(2 * channels, channels, (2 if scalars_only else 3) * channels)

    def forward(self, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor | None]:
        """-> x (N, F), v (N, 3, F) or None."""
        width = scalars.shape[1]
        mixed = self.mix(vectors)
        gates = self.network(torch.cat([scalars, invariant_length(mixed[..., :width], self.invariant)], dim=1))
        updated = scalars + gates[:, :width] * math.sqrt(0.5) + torch.tanh(gates[:, width : 2 * width]) * scalars
        if self.scalars_only:
            return updated, None
        return updated, vectors + gates[:, None, 2 * width :] * mixed[..., width:]


class PaiNNUpdate(nn.Module):
    """x_i = m + (h_x + h_p ∘ <U m⃗, V m⃗>/√F)/√2,  v_i = m⃗ + h_v ∘ (U m⃗),  h = MLP[m ; |V m⃗|].

    Shapes as `GatedUpdate`. Source: the ablation "Vanilla" of arXiv 2311.02869, after PaiNN (arXiv 2102.03150).
    """

    def __init__(self, channels: int, *, invariant: str, scalars_only: bool) -> None:
        super().__init__()
        self.invariant, self.scalars_only = invariant, scalars_only
        self.mix = nn.Linear(channels, 2 * channels, bias=False)
        self.network = two_layers(2 * channels, channels, (2 if scalars_only else 3) * channels)

    def forward(self, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor | None]:
        """-> x (N, F), v (N, 3, F) or None."""
        width = scalars.shape[1]
        mixed = self.mix(vectors)
        norm, value = mixed[..., :width], mixed[..., width:]
        gates = self.network(torch.cat([scalars, invariant_length(norm, self.invariant)], dim=1))
        product = (norm * value).sum(1) * (1 / math.sqrt(width))
        updated = scalars + (gates[:, :width] + gates[:, width : 2 * width] * product) * math.sqrt(0.5)
        if self.scalars_only:
            return updated, None
        return updated, vectors + gates[:, None, 2 * width :] * value


def invariant_length(vectors: Tensor, kind: str) -> Tensor:
    """(N, 3, F) -> (N, F): `soft` √(1 + Σ v²) − 1, `squared` Σ v², `norm` √(Σ v² + 10⁻⁸).

    The first two have no cusp at v = 0; the first and the last grow with the length only, so that structures far from
    the training data do not drive the network through products of large numbers.
    """
    square = (vectors * vectors).sum(1)
    if kind == "squared":
        return square
    # The same as √(1 + s) − 1, without its loss of digits at small s.
    return square / (1 + torch.sqrt(1 + square)) if kind == "soft" else torch.sqrt(square + 1e-8)


class GlobalNode(NamedTuple):
    """One scalar and one vector row per structure: scalars g (S, F), vectors γ (S, 3, F) or None while they are 0."""

    scalars: Tensor
    vectors: Tensor | None


class Distribute(nn.Module):
    """From the global node to the atoms: x_i += φ[x_i ; g],  v_i += G (v_i + γ); no G where both vectors are 0.

    Source: arXiv 2311.02869, eqs. 5 and 6; in the code, and here, an activation also follows the last layer of φ.
    """

    def __init__(self, channels: int, *, first: bool) -> None:
        super().__init__()
        self.scalars = nn.Sequential(*two_layers(2 * channels, channels, channels), ScaledSiLU())
        self.vectors = None if first else nn.Linear(channels, channels, bias=False)

    def forward(
        self, scalars: Tensor, vectors: Tensor | None, whole: GlobalNode, structures: Structures
    ) -> tuple[Tensor, Tensor | None]:
        """-> x (N, F), v (N, 3, F) or None."""
        near = torch.cat([scalars, whole.scalars[structures.structure]], dim=1)
        scalars = scalars + self.scalars(near)
        if self.vectors is not None and vectors is not None and whole.vectors is not None:
            vectors = vectors + self.vectors(vectors + whole.vectors[structures.structure])
        return scalars, vectors


class Aggregate(nn.Module):
    """From the atoms to the global node: g += ψ[mean x ; g],  γ <- γ + H (mean v + γ), means over the structure.

    The mean makes the energy neither additive nor local. Source: arXiv 2311.02869, eqs. 7 and 8.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scalars = nn.Sequential(*two_layers(2 * channels, channels, channels), ScaledSiLU())
        self.vectors = nn.Linear(channels, channels, bias=False)

    def forward(self, scalars: Tensor, vectors: Tensor, whole: GlobalNode, structures: Structures) -> GlobalNode:
        """-> g (S, F), γ (S, 3, F)."""
        mean = segment_mean(scalars, structures.structure, structures.n_structures)
        arrows = segment_mean(vectors, structures.structure, structures.n_structures)
        before = arrows if whole.vectors is None else arrows + whole.vectors
        after = self.vectors(before)
        after = after if whole.vectors is None else after + whole.vectors
        return GlobalNode(whole.scalars + self.scalars(torch.cat([mean, whole.scalars], dim=1)), after)
