"""Atoms alone in space that ride along with a batch, one of each element, so that their energies can be subtracted."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mlanet.ops.traced import is_tracing


class Alone(NamedTuple):
    """Which elements ride along, and which of them each atom is.

    - species (G,) int64, rows of the embeddings · row (N,) int64 in [0, G)
    """

    species: Tensor
    row: Tensor

    @classmethod
    def of(cls, species: Tensor, n_species: int) -> Alone:
        """The elements of a batch; all that are known where a question would make the host wait, or sizes must stay.

        >>> Alone.of(torch.tensor([7, 2, 7]), 89).species.tolist()
        [2, 7]
        """
        if species.device.type != "cpu" or is_tracing():
            return cls(torch.arange(n_species, device=species.device), species)
        return cls(*torch.unique(species, return_inverse=True))

    def less(self, site: Tensor, center: Tensor | None) -> Tensor:
        """(N,) energies of the first N sites less those of their elements alone, which follow them.

        center: (E,) atoms of the pairs; an atom in none of them gets exactly 0, though a matrix product may round its
        row and that of its like differently. None where an atom without a pair is not like one alone: ions, sites that
        feel their whole structure.
        """
        n = self.row.shape[0]
        rest = site[:n] - site[n:][self.row]
        if center is None:
            return rest
        return torch.where(center.new_zeros(n).index_fill(0, center, 1) > 0, rest, 0.0)
