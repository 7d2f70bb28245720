"""How closely an atom is surrounded, in terms of the closest distances that a training set has."""

from __future__ import annotations

import torch
from torch import Tensor

HALF_POWER = 6
"""Of the twelfth power: the nearest neighbours decide, and their number hardly matters."""
NEAREST = 0.05
"""Of the closest distance; nearer, crowding grows no more, so that float32 can hold it."""


def crowding(vectors: Tensor, closest: Tensor, center: Tensor, n_atoms: int, cutoff: float) -> Tensor:
    """ρ_i = Σ_j (d²/r² − d²/r_c²)₊⁶: about the twelfth power of d/r of the nearest neighbours, (N,), no unit.

    Compressing everything by a factor s multiplies ρ by s⁻¹², but for far neighbours that hardly count.

    - vectors (E, 3) Å · closest d (E,) Å, the smallest distance seen of each pair's elements · center (E,) int64
    """
    square = closest * closest
    ratio = square / (vectors * vectors).sum(1).clamp(min=1e-6)
    term = (ratio.clamp(max=NEAREST**-2) - square / cutoff**2).clamp(min=0.0) ** HALF_POWER
    return torch.zeros(n_atoms, dtype=term.dtype, device=term.device).index_add(0, center, term)
