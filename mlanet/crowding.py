"""How closely an atom is surrounded, in terms of the closest distances that a training set has."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import numpy as np

Numbers = TypeVar("Numbers")
"""Arrays of numpy, or tensors of torch, which is not loaded here."""

HALF_POWER = 6
"""Of the twelfth power: the nearest neighbours decide, and their number hardly matters."""
NEAREST = 0.05
"""Of the closest distance; nearer, crowding grows no more, so that float32 can hold it."""


def crowding(vectors: Numbers, closest: Numbers, center: Numbers, n_atoms: int, cutoff: float) -> Numbers:
    """ρ_i = Σ_j (d²/r² − d²/r_c²)₊⁶: about the twelfth power of d/r of the nearest neighbours, (N,), no unit.

    Compressing everything by a factor s multiplies ρ by s⁻¹², but for far neighbours that hardly count.

    - vectors (E, 3) Å · closest d (E,) Å, of each pair's elements (`Statistics.wall`) · center (E,) int64
    """
    apart: Any = vectors
    known: Any = closest
    square = known * known
    ratio = square / (apart * apart).sum(1).clip(min=1e-6)
    term = (ratio.clip(max=NEAREST**-2) - square / cutoff**2).clip(min=0.0) ** HALF_POWER
    if isinstance(term, np.ndarray):
        summed: Any = np.bincount(cast(Any, center), term, n_atoms)
    else:
        summed = term.new_zeros(n_atoms).index_add(0, center, term)
    return cast(Numbers, summed)
