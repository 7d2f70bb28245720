"""What all operations do with degrees and distances: features split by degree, and the radial network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def split_degrees(features: Tensor, l_max: int) -> tuple[Tensor, ...]:
    """(·, (L+1)², …) -> L+1 views (·, 2l+1, …); one split, so the backward is one concatenation."""
    return torch.split(features, [2 * degree + 1 for degree in range(l_max + 1)], dim=1)


def radial_network(radial: Tensor, layers: Sequence[Tensor]) -> Tensor:
    """RBF (E, B) -> (E, n): layers without bias, SiLU between them; vanishes with the basis."""
    hidden = radial
    for index, layer in enumerate(layers):
        hidden = (functional.silu(hidden) if index else hidden) @ layer
    return hidden
