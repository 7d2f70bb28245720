"""The first look at the directions around an atom, in plain torch: h_i^l = f Σ_j u φ_l(RBF) s_j Y_l for l > 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mlanet.ops.degrees import radial_network, split_degrees
from mlanet.ops.rows import Rows
from mlanet.ops.segment import Neighborhoods


class DirectionInputs(NamedTuple):
    """By atom and by edge.

    - sender s (N, C) · envelope u (E,) · radial RBF (E, B) · harmonics Y (E, (L+1)²)
    """

    sender: Tensor
    envelope: Tensor
    radial: Tensor
    harmonics: Tensor


N_INPUTS = len(DirectionInputs._fields)
"""After them come the layers of the radial network φ, the last with L·C outputs."""


def directions(
    factor: float, around: Neighborhoods, neighbor: Tensor, inputs: DirectionInputs, layers: Sequence[Tensor]
) -> Tensor:
    """(N, (L+1)² − 1, C), degrees 1 … L."""
    l_max = math.isqrt(inputs.harmonics.shape[1]) - 1
    weight = radial_network(inputs.radial, layers).unflatten(1, (l_max, -1)) * (factor * inputs.envelope)[:, None, None]
    weight = weight * inputs.sender.index_select(0, neighbor)[:, None, :]
    rows = split_degrees(inputs.harmonics, l_max)[1:]
    blocks = [w[:, None, :] * y[:, :, None] for w, y in zip(weight.unbind(1), rows, strict=True)]
    return around.sum(torch.cat(blocks, dim=1))


@dataclass(frozen=True)
class DirectionsOfRows:
    """`directions` of all centers, for edges in rows, as far as its kernels have it in common."""

    l_max: int
    factor: float
    rows: Rows
    n_inputs = N_INPUTS

    def blank(self, tensors: Sequence[Tensor]) -> Tensor:
        """(N, (L+1)² − 1, C)."""
        return tensors[0].new_empty(self.rows.start.shape[0] - 1, (self.l_max + 1) ** 2 - 1, tensors[0].shape[1])

    def reference(self, tensors: Sequence[Tensor]) -> Tensor:
        """In plain torch."""
        inputs = DirectionInputs(*tensors[:N_INPUTS])
        return directions(self.factor, self.rows.around(), self.rows.neighbor, inputs, tensors[N_INPUTS:])
