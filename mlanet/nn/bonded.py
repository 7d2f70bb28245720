"""What an atom gains by having neighbours at all, per element: right energies of lone atoms and of solids."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BondedShift(nn.Module):
    """E_i = s_Z (1 − e^{−n_i}),  n_i = Σ_j u(r_ij) the soft coordination number.

    With references E₀ of free atoms, all that is left to learn is cohesion, some −2 to −9 eV/atom that depends on
    the element first of all. In a solid n_i is about ten, so this is a constant per element there and exerts no force;
    a lone atom has n_i = 0 and keeps E₀. s_Z is trained, from the values that fit the training set best
    (`mlanet.training.start`).
    """

    def __init__(self, n_species: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(n_species))

    def forward(self, species: Tensor, coordination: Tensor) -> Tensor:
        """(N,) eV. - species (N,) rows of `shift` · coordination n (N,)"""
        return self.shift[species] * -torch.expm1(-coordination)
