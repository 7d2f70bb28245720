"""Named problem shapes with seeded random inputs: what tests run every twin of an operation on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mlanet.ops.segment import Neighborhoods


@dataclass(frozen=True)
class Problem:
    """Sizes of one problem: `edges` of each atom in turn, so uneven neighbourhoods and none at all can be written."""

    name: str
    edges: tuple[int, ...]
    l_max: int
    channels: int
    heads: int
    key_dim: int

    @property
    def n_atoms(self) -> int:
        """N."""
        return len(self.edges)

    @property
    def n_edges(self) -> int:
        """E."""
        return sum(self.edges)

    @property
    def rows(self) -> int:
        """M = (L+1)², rows of the feature layout."""
        return (self.l_max + 1) ** 2


SMALL = (
    Problem("even_l1", (3,) * 4, 1, 4, 2, 2),
    Problem("even_l2", (4,) * 5, 2, 4, 4, 1),
    Problem("even_l3", (2,) * 3, 3, 4, 2, 3),
    Problem("uneven", (1, 5, 3, 2), 2, 4, 2, 2),
    Problem("some_alone", (0, 4, 0, 1, 0), 1, 4, 2, 2),
    Problem("one_atom_own_images", (6,), 2, 2, 1, 2),
    Problem("one_edge", (0, 1), 1, 2, 2, 1),
    Problem("no_edges", (0, 0, 0), 2, 4, 2, 2),
    Problem("one_atom", (0,), 3, 2, 1, 1),
)
"""Cheap enough for second derivatives in float64."""

LARGE = (
    Problem("molecules_l1", (8,) * 192, 1, 64, 4, 8),
    Problem("crystal_l2", (42,) * 64, 2, 64, 4, 8),
    Problem("crystal_l3", (42,) * 64, 3, 64, 4, 8),
    Problem("surface_l2", (24,) * 32 + (42,) * 64, 2, 64, 4, 8),
)
"""Sizes that people train with, for timing."""


class Inputs(NamedTuple):
    """Inputs of every operation on attention, in the shapes their docstrings name.

    - query (N, M, H, K) · key (E, M, H, K) · harmonics (E, M) · value (N, M, C) · chemical, geometric (E, L+1, C)
    - logits (E, H) · envelope (E,) in [0, 1] · neighbor (E,) · around: how the edges are grouped
    """

    query: Tensor
    key: Tensor
    harmonics: Tensor
    value: Tensor
    chemical: Tensor
    geometric: Tensor
    logits: Tensor
    envelope: Tensor
    neighbor: Tensor
    around: Neighborhoods


def draw(
    problem: Problem, seed: int = 0, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> Inputs:
    """Seeded inputs with the edges as a sorted list; the same numbers on every device.

    >>> draw(SMALL[0]).key.shape
    torch.Size([12, 4, 2, 2])
    """
    generator = torch.Generator().manual_seed(seed)
    n, e, m = problem.n_atoms, problem.n_edges, problem.rows
    c, h, k = problem.channels, problem.heads, problem.key_dim

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device=device, dtype=dtype)

    center = torch.repeat_interleave(torch.arange(n), torch.tensor(problem.edges)).to(device)
    neighbor = torch.randint(n, (e,), generator=generator).to(device)
    envelope = torch.rand(e, generator=generator, dtype=torch.float64).to(device=device, dtype=dtype)
    return Inputs(
        query=normal(n, m, h, k),
        key=normal(e, m, h, k),
        harmonics=normal(e, m),
        value=normal(n, m, c),
        chemical=normal(e, problem.l_max + 1, c),
        geometric=normal(e, problem.l_max + 1, c),
        logits=normal(e, h),
        envelope=envelope,
        neighbor=neighbor,
        around=Neighborhoods(center, n),
    )


def as_table(inputs: Inputs) -> tuple[Inputs, Tensor]:
    """The same inputs as a neighbourhood table, differentiably, and the table row (E,) of each edge of the list.

    Rows without an edge are zeros with envelope 0, as the layers see them. Needs at least one edge.
    """
    around = inputs.around
    counts = torch.bincount(around.center, minlength=around.n_centers)
    degree = int(counts.max()) if len(around.center) else 0
    if not degree:
        raise ValueError("a problem without edges has no table")
    first = torch.cumsum(counts, 0) - counts
    order = torch.arange(len(around.center), device=around.center.device)
    row = around.center * degree + order - first[around.center]
    n_rows = around.n_centers * degree

    def filled(values: Tensor) -> Tensor:
        return values.new_zeros((n_rows, *values.shape[1:])).index_copy(0, row, values)

    center = torch.arange(around.n_centers, device=around.center.device).repeat_interleave(degree)
    on_edges = ("key", "harmonics", "chemical", "geometric", "logits", "envelope", "neighbor")
    table = {name: filled(getattr(inputs, name)) for name in on_edges}
    return inputs._replace(**table, around=Neighborhoods(center, around.n_centers, degree)), row
