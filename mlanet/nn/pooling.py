"""Multi-perspective pooling: features of all atoms -> site energies, in four modes with different laws.

The source (arXiv 2603.22810) pools sum, mean and maximum in parallel and concatenates them. As written (`paper`) that
is not size-extensive; `local` keeps the three perspectives but takes each over an atom's own neighbourhood.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlanet.nn.edges import Edges
from mlanet.ops.dispatch import neighbor_pooling
from mlanet.ops.segment import segment_max, segment_mean, segment_sum


class Structures(NamedTuple):
    """Which atoms belong together: structure (N,), counts (S,) atoms of each, S."""

    structure: Tensor
    counts: Tensor
    n_structures: int


def readout(n_in: int, hidden: int) -> nn.Sequential:
    """Two-layer scalar network, n_in -> 1."""
    return nn.Sequential(nn.Linear(n_in, hidden), nn.SiLU(), nn.Linear(hidden, 1))


class SumPooling(nn.Module):
    """E = Σ e(x_i): extensive, additive, local."""

    per_atom = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.readout = readout(channels, channels)

    def forward(self, scalars: Tensor, edges: Edges, structures: Structures) -> Tensor:
        """(N, C) -> (N,)."""
        return self.readout(scalars)[:, 0]


class LocalPooling(nn.Module):
    """E = Σ e(x_i ‖ Σ_j u y_j / n̄ ‖ Σ_j u y_j / (1 + n_i) ‖ smooth max_j y_j), y = b tanh(x/b).

    Extensive, additive, local.

    A smooth maximum log(1 + Σ u e^x) lets go of a neighbour where u e^x < 1. With x = 20, within reach of a random
    network, that is 10⁻³ Å from the cutoff, over which the energy would fall by what a bond is worth. The bound b
    keeps e^y small, so that a neighbour leaves as slowly as its envelope; None stands for y = x.
    """

    per_atom = True

    def __init__(self, channels: int, mean_neighbors: float, bound: float | None = None) -> None:
        super().__init__()
        self.mean_neighbors, self.bound = mean_neighbors, bound
        self.readout = readout(4 * channels, channels)

    def forward(self, scalars: Tensor, edges: Edges, structures: Structures) -> Tensor:
        """(N, C) -> (N,)."""
        l_max = math.isqrt(edges.harmonics.shape[1]) - 1
        seen = scalars if self.bound is None else self.bound * torch.tanh(scalars / self.bound)
        pooled = neighbor_pooling(l_max, edges.around, edges.neighbor, edges.rows, seen, edges.envelope)
        around, highest = pooled.unbind(1)
        mean = around / (1 + edges.coordination)[:, None]
        return self.readout(torch.cat([scalars, around / self.mean_neighbors, mean, highest], dim=1))[:, 0]


def structure_views(scalars: Tensor, structures: Structures) -> tuple[Tensor, Tensor, Tensor]:
    """Sum, mean and maximum of the scalars over each structure, three (S, C).

    Atoms that share a maximum (equivalent atoms of a crystal) share its gradient, so forces stay symmetric.
    """
    index, n = structures.structure, structures.n_structures
    is_peak = (scalars == segment_max(scalars, index, n)[index]).to(scalars.dtype)
    share = is_peak / segment_sum(is_peak, index, n)[index]
    return segment_sum(scalars, index, n), segment_mean(scalars, index, n), segment_sum(share * scalars, index, n)


class ExtensivePooling(nn.Module):
    """E = Σ e(x_i) + N · MLP[mean x ‖ max x]: extensive, but neither additive nor local."""

    per_atom = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.site = readout(channels, channels)
        self.whole = readout(2 * channels, channels)

    def forward(self, scalars: Tensor, edges: Edges, structures: Structures) -> Tensor:
        """(N, C) -> (N,)."""
        _, mean, peak = structure_views(scalars, structures)
        whole = self.whole(torch.cat([mean, peak], dim=1))
        return (self.site(scalars) + whole[structures.structure])[:, 0]


class PaperPooling(nn.Module):
    """E = MLP[Σ x ‖ mean x ‖ max x], shared equally among the atoms: neither extensive nor additive nor local."""

    per_atom = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.whole = readout(3 * channels, channels)

    def forward(self, scalars: Tensor, edges: Edges, structures: Structures) -> Tensor:
        """(N, C) -> (N,)."""
        whole = self.whole(torch.cat(structure_views(scalars, structures), dim=1))
        return (whole / structures.counts[:, None])[structures.structure][:, 0]


Pooling = SumPooling | LocalPooling | ExtensivePooling | PaperPooling


def build_pooling(mode: str, channels: int, mean_neighbors: float, bound: float | None = None) -> Pooling:
    """The mode's module; `mode` has been checked by the configuration. bound: of `local` only."""
    if mode == "local":
        return LocalPooling(channels, mean_neighbors, bound)
    if mode == "sum":
        return SumPooling(channels)
    return ExtensivePooling(channels) if mode == "extensive" else PaperPooling(channels)
