"""Boxes for Fourier sums: the lattice where a structure is periodic, and room to spare where it is not."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

MARGIN = 14.0
"""Empty space along a free direction beyond twice the atoms' extent, in smearings."""

STEP = 4.0
"""The extent is rounded up to so many smearings."""


class Boxes(NamedTuple):
    """Boxes of structures with the same number P of periodic directions, those first.

    - rows (S, 3, 3) Å, differentiable in the cells: P lattice vectors, then free directions at right angles to them
      and to each other · extent (S, 3 − P) Å: of the atoms along the free directions, without gradient
    - n_periodic: P
    """

    rows: Tensor
    extent: Tensor
    n_periodic: int

    @property
    def volume(self) -> Tensor:
        """(S,) Å³, |a · (b × c)|; the second derivative of `torch.linalg.det` fails under another default type."""
        a, b, c = self.rows.unbind(1)
        return (a * torch.linalg.cross(b, c)).sum(1).abs()

    def fractional(self, positions: Tensor, structure: Tensor) -> Tensor:
        """(N, 3) coordinates in the boxes, in [−½, ½], from the structure's first atom on; differentiable.

        So rounding to float32 afterwards does not depend on where the structure stands.
        """
        counts = torch.bincount(structure, minlength=len(self.rows))
        origin = positions.detach()[(torch.cumsum(counts, 0) - counts)[structure]]
        inside = torch.einsum("na,nab->nb", positions - origin, torch.linalg.inv(self.rows)[structure])
        return inside - inside.detach().round()

    def to(self, dtype: torch.dtype) -> Boxes:
        """In another precision."""
        return self._replace(rows=self.rows.to(dtype), extent=self.extent.to(dtype))


def enclose(cell: Tensor, pbc: Tensor, positions: Tensor, structure: Tensor, smearing: float) -> Boxes:
    """Boxes for structures that all have as many periodic directions as the first.

    What a cell says of free directions is ignored, so empty space there changes nothing.

    - cell (S, 3, 3) Å · pbc (S, 3) · positions (N, 3) Å · structure (N,) int64 · smearing Å
    """
    count = int(pbc[0].sum())
    order = torch.argsort((~pbc).to(torch.int8), dim=1, stable=True)
    lattice = cell.gather(1, order[:, :, None].expand(-1, -1, 3))[:, :count]
    free = _directions(lattice, count, cell)
    along = torch.einsum("na,nfa->nf", positions.detach(), free.detach()[structure])
    index = structure[:, None].expand_as(along)
    zeros = along.new_zeros(len(cell), 3 - count)
    high = zeros.scatter_reduce(0, index, along, "amax", include_self=False)
    extent = high - zeros.scatter_reduce(0, index, along, "amin", include_self=False)
    # In steps, so that the box does not follow every motion of the outermost atoms.
    extent = torch.ceil(extent / (STEP * smearing)) * (STEP * smearing)
    length = 2 * extent + MARGIN * smearing
    return Boxes(torch.cat([lattice, free * length[:, :, None]], dim=1), extent, count)


def _directions(lattice: Tensor, count: int, cell: Tensor) -> Tensor:
    """(S, 3 − P, 3) unit vectors at right angles to the lattice vectors and to each other."""
    if count == 3:
        return cell[:, :0]
    if count == 2:
        normal = torch.linalg.cross(lattice[:, 0], lattice[:, 1])
        return _unit(normal)[:, None]
    if count == 0:
        return torch.eye(3, dtype=cell.dtype, device=cell.device).expand(len(cell), 3, 3)
    axis = _unit(lattice[:, 0])
    # Any direction across the wire will do; the Cartesian one that is most so is far from parallel to it.
    other = torch.nn.functional.one_hot(axis.detach().abs().argmin(1), 3).to(axis.dtype)
    across = _unit(other - (other * axis).sum(1, keepdim=True) * axis)
    return torch.stack([across, torch.linalg.cross(axis, across)], dim=1)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=1, keepdim=True)
