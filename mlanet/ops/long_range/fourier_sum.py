"""Σ_{i≠j} c_i c_j φ(r_ij) over all images, φ smooth: wave by wave for small structures, on a mesh for large ones.

Free directions (slabs, wires, molecules) are free indeed; batches may mix all kinds. Cost: O(N^2) with a small factor
up to `MESH_FROM` atoms, O(N log N) beyond.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mlanet.errors import GeometryError
from mlanet.ops.long_range.boxes import Boxes, enclose
from mlanet.ops.long_range.free_axes import FreeAxes
from mlanet.ops.long_range.mesh_sum import SPACING, mesh_sum
from mlanet.ops.long_range.power_law import PowerLaw
from mlanet.ops.segment import segment_sum

MESH_FROM = {torch.float64: 500, torch.float32: 150}
"""Atoms of a structure from which the mesh is faster than single waves (measured on two CPU cores)."""
WAVES = {torch.float64: 7.5, torch.float32: 5.0}
"""Largest wave number in units of 1/σ: what is left out is below e^{−28} and e^{−12} of the whole."""


MOST_POINTS = 2**27
"""Of the mesh of one structure, or waves times atoms: a gibibyte for every table of them, in float64."""


def require_room(cell: Tensor, pbc: Tensor, positions: Tensor, structure: Tensor, smearing: float) -> None:
    """Raise a `GeometryError` for a structure whose sum over waves would need more than `MOST_POINTS`.

    - as `smooth_sum`; smearing Å
    """
    counts = torch.bincount(structure, minlength=len(cell))
    large = counts >= MESH_FROM.get(positions.dtype, 150)
    kinds = pbc.sum(1)
    for kind in kinds.unique().tolist():
        group = (kinds == kind) & (large if kind == 0 else torch.ones_like(large))
        if not bool(group.any()):
            continue
        inner = (torch.cumsum(group, 0) - 1)[structure]
        atoms = group[structure]
        rows = enclose(cell[group], pbc[group], positions[atoms], inner[atoms], smearing).rows.double()
        lengths = rows.norm(dim=2) / smearing
        waves = (2 * WAVES.get(positions.dtype, 5.0) / (2 * math.pi) * lengths + 1).prod(1) / 2 * counts[group]
        points = torch.where(large[group], (lengths / SPACING).prod(1), waves)
        if float(points.max()) > MOST_POINTS:
            sides = " × ".join(f"{side:.3g}" for side in rows[points.argmax()].norm(dim=1).tolist())
            raise GeometryError(
                f"the long-range term would need {float(points.max()):.2g} waves or mesh points in a box of {sides} Å, "
                f"more than {MOST_POINTS:.2g}; give the structure less empty space, or use a model without that term"
            )


def smooth_sum(
    charges: Tensor,
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    structure: Tensor,
    laws: Sequence[PowerLaw],
) -> Tensor:
    """e_i = ½ c_i Σ_{j≠i} c_j φ(r_ij), images included (an atom meets its own images); (N, C), Å⁻ᵖ times charges².

    Twice differentiable in charges, positions and cells. p = 1: a crystal with a net charge lies in a uniform
    background, as if its charges were points; a charged slab or wire has an energy only up to a constant times its
    squared charge.

    - charges (N, C): one column for each of the `laws`, which share one smearing; the sum is done in their precision
    - positions (N, 3) Å and cell (S, 3, 3) Å, in the same or a higher one · pbc (S, 3) bool
    - structure (N,) int64 ascending
    """
    counts = torch.bincount(structure, minlength=len(cell))
    kinds = pbc.sum(1) + 4 * (counts >= MESH_FROM.get(charges.dtype, 150))
    own = charges.square() * charges.new_tensor([0.5 * law.at_zero for law in laws])
    result = torch.zeros_like(charges)
    for kind in kinds.unique().tolist():
        chosen = kinds == kind
        groups = [chosen] if kind < 4 else [torch.arange(len(cell)) == s for s in chosen.nonzero()[:, 0].tolist()]
        for group in groups:
            result = result + _scattered(charges, positions, cell, pbc, structure, group.to(pbc.device), laws, kind)
    return result - own * (pbc.any(1) | (kinds >= 4))[structure, None]


def _scattered(
    charges: Tensor,
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    structure: Tensor,
    group: Tensor,
    laws: Sequence[PowerLaw],
    kind: int,
) -> Tensor:
    """The sum for the structures of a group, (N, C) with zeros for all others."""
    atoms = group[structure].nonzero()[:, 0]
    number = torch.cumsum(group, 0) - 1
    inner = number[structure[atoms]]
    charges_in, positions_in = charges[atoms], positions[atoms]
    if kind == 0:
        sums = pair_sum(charges_in, positions_in, inner, laws)
    else:
        boxes = enclose(cell[group], pbc[group], positions_in, inner, laws[0].smearing)
        place = boxes.fractional(positions_in, inner).to(charges.dtype)
        boxes = boxes.to(charges.dtype)
        sums = (
            mesh_sum(charges_in, place, boxes, laws) if kind >= 4 else wave_sum(charges_in, place, inner, boxes, laws)
        )
    return torch.zeros_like(charges).index_add(0, atoms, sums)


def pair_sum(charges: Tensor, positions: Tensor, structure: Tensor, laws: Sequence[PowerLaw]) -> Tensor:
    """Molecules, pair by pair: e_i without any image; self-interaction left out."""
    counts = torch.bincount(structure)
    center = torch.arange(len(structure), device=structure.device).repeat_interleave(counts[structure])
    first = (torch.cumsum(counts, 0) - counts)[structure[center]]
    place = torch.arange(len(center), device=center.device)
    start = torch.cumsum(counts[structure], 0) - counts[structure]
    other = first + place - start[center]
    center, other = center[center != other], other[center != other]
    vectors = (positions[other] - positions[center]).to(charges.dtype)
    distance = torch.sqrt((vectors * vectors).sum(1))
    potential = torch.stack([law.smooth(distance) for law in laws], dim=1) * charges[other]
    return 0.5 * charges * segment_sum(potential, center, len(structure))


def wave_sum(charges: Tensor, place: Tensor, structure: Tensor, boxes: Boxes, laws: Sequence[PowerLaw]) -> Tensor:
    """Periodic structures, wave by wave; each atom's interaction with itself included.

    e_i = (c_i / 2V) Σ_k G(k) [cos(k·r_i) Σ_j c_j cos(k·r_j) + sin(k·r_i) Σ_j c_j sin(k·r_j)], half of the waves twice.

    - charges (N, C) · place (N, 3): `Boxes.fractional` coordinates · structure (N,)
    """
    orders, owner = _waves(boxes, WAVES.get(charges.dtype, 5.0) / laws[0].smearing)
    strength = _strengths(orders, owner, boxes, laws)
    n_structures = len(boxes.rows)
    atom, n_atoms = _slots(structure, n_structures)
    wave, n_waves = _slots(owner, n_structures)
    placed = place.new_zeros(n_structures * n_atoms, 3).index_copy(0, atom, place)
    charged = charges.new_zeros(n_structures * n_atoms, charges.shape[1]).index_copy(0, atom, charges)
    index = placed.new_zeros(n_structures * n_waves, 3).index_copy(0, wave, orders.to(placed.dtype))
    strength = charges.new_zeros(n_structures * n_waves, charges.shape[1]).index_copy(0, wave, strength)
    placed, charged, index, strength = (
        tensor.view(n_structures, -1, tensor.shape[1]) for tensor in (placed, charged, index, strength)
    )
    phase = 2 * math.pi * placed @ index.transpose(1, 2)
    potential = torch.zeros_like(charged)
    for part in (torch.cos(phase), torch.sin(phase)):
        potential = potential + part @ (strength * (part.transpose(1, 2) @ charged))
    return 0.5 * charges * potential.flatten(0, 1)[atom]


def _waves(boxes: Boxes, longest: float) -> tuple[Tensor, Tensor]:
    """Orders m (K, 3) int64 of the waves |k| ≤ longest of every box, one of each ±k, and whose they are (K,)."""
    rows = boxes.rows.detach()
    top = torch.floor(longest * rows.norm(dim=2) / (2 * math.pi)).long()
    size = torch.stack([top[:, 0] + 1, 2 * top[:, 1] + 1, 2 * top[:, 2] + 1], dim=1)
    total = size.prod(1)
    owner = torch.arange(len(rows), device=rows.device).repeat_interleave(total)
    place = torch.arange(len(owner), device=rows.device) - (torch.cumsum(total, 0) - total)[owner]
    third, rest = place % size[owner, 2], place // size[owner, 2]
    orders = torch.stack([rest // size[owner, 1], rest % size[owner, 1] - top[owner, 1], third - top[owner, 2]], dim=1)
    vectors = wave_vectors(orders, owner, rows)
    a, b, c = orders.unbind(1)
    half = (a > 0) | ((a == 0) & ((b > 0) | ((b == 0) & (c >= 0))))
    kept = half & (vectors.square().sum(1) <= longest**2)
    return orders[kept], owner[kept]


def wave_vectors(orders: Tensor, owner: Tensor, rows: Tensor) -> Tensor:
    """k = 2π m · inv(rows)ᵀ, (K, 3) Å⁻¹."""
    reciprocal = 2 * math.pi * torch.linalg.inv(rows).transpose(1, 2)
    return torch.einsum("ka,kab->kb", orders.to(rows.dtype), reciprocal[owner])


def _strengths(orders: Tensor, owner: Tensor, boxes: Boxes, laws: Sequence[PowerLaw]) -> Tensor:
    """(K, C): G(k)/V, doubled for waves that stand for ±k."""
    volume = boxes.volume
    twice = torch.where((orders == 0).all(1), 1.0, 2.0).to(volume.dtype)
    if boxes.n_periodic == 3:
        squared = wave_vectors(orders, owner, boxes.rows).square().sum(1)
        columns = [lattice_coefficients(law, squared) for law in laws]
    else:
        columns = _in_space(orders, owner, boxes, laws)
    return torch.stack([column * twice / volume[owner] for column in columns], dim=1)


def _in_space(orders: Tensor, owner: Tensor, boxes: Boxes, laws: Sequence[PowerLaw]) -> list[Tensor]:
    """(K,) for each law, read off tables over waves along the lattice × orders along free directions."""
    count = boxes.n_periodic
    low = orders[:, :count].amin(0).clamp(max=0)
    sizes = (orders[:, :count].amax(0) - low + 1).tolist()
    ranges = [torch.arange(n, device=orders.device) for n in sizes]
    along = torch.cartesian_prod(*ranges).view(-1, count) + low if count else orders.new_zeros(1, 0)
    reciprocal = 2 * math.pi * torch.linalg.inv(boxes.rows).transpose(1, 2)[:, :count]
    squared = (along.to(boxes.rows.dtype) @ reciprocal).square().sum(-1)
    place = torch.zeros_like(owner)
    for axis, size in enumerate(sizes):
        place = place * size + orders[:, axis] - low[axis]
    free = orders[:, count:].abs()
    highest = int(free.max())
    coefficients = (FreeAxes(law, boxes, highest).coefficients(squared) for law in laws)
    return [grid[(owner, place, *free.unbind(1))] for grid in coefficients]


def lattice_coefficients(law: PowerLaw, squared: Tensor) -> Tensor:
    """Transforms in three periodic directions, k = 0 included."""
    origin = squared.detach() == 0
    return torch.where(origin, law.fourier_at_zero, law.fourier(torch.where(origin, 1.0, squared)))


def _slots(owner: Tensor, n_owners: int) -> tuple[Tensor, int]:
    """Rows of an (owners × widest) table for things sorted by owner, and how wide it is."""
    counts = torch.bincount(owner, minlength=n_owners)
    widest = int(counts.max())
    start = torch.cumsum(counts, 0) - counts
    return owner * widest + torch.arange(len(owner), device=owner.device) - start[owner], widest
