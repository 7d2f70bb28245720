"""What the periodic table says of an element, as numbers that chemically similar elements share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from ase.data import covalent_radii
from torch import Tensor, nn

from mlanet.nn.exact import ExactConstants

NOBLE_GASES = (0, 2, 10, 18, 36, 54, 86, 118)
"""Atomic numbers at which a period ends."""

HALF_FILLED = {"s": 1, "p": 3, "d": 5, "f": 7}
"""Electrons of a half-filled subshell; twice as many fill it."""

TABULATED = 103
"""Elements above have no tabulated values and get the mean of the others."""

OWN = 0.3
"""Size of an element's own random part next to that of its features, before training."""


def _table(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split())


ELECTRONEGATIVITY = _table("""
    2.20 nan
    0.98 1.57 2.04 2.55 3.04 3.44 3.98 nan
    0.93 1.31 1.61 1.90 2.19 2.58 3.16 nan
    0.82 1.00 1.36 1.54 1.63 1.66 1.55 1.83 1.88 1.91 1.90 1.65 1.81 2.01 2.18 2.55 2.96 3.00
    0.82 0.95 1.22 1.33 1.60 2.16 1.90 2.20 2.28 2.20 1.93 1.69 1.78 1.96 2.05 2.10 2.66 2.60
    0.79 0.89 1.10 1.12 1.13 1.14 1.13 1.17 1.20 1.20 1.10 1.22 1.23 1.24 1.25 1.10 1.27
    1.30 1.50 2.36 1.90 2.20 2.20 2.28 2.54 2.00 1.62 2.33 2.02 2.00 2.20 2.20
    0.70 0.90 1.10 1.30 1.50 1.38 1.36 1.28 1.30 1.30 1.30 1.30 1.30 1.30 1.30 1.30 1.30
""")
"""Pauling's scale, Z = 1 to 103; as tabulated by pymatgen."""

IONIZATION_ENERGY = _table("""
    13.60 24.59
    5.39 9.32 8.30 11.26 14.53 13.62 17.42 21.56
    5.14 7.65 5.99 8.15 10.49 10.36 12.97 15.76
    4.34 6.11 6.56 6.83 6.75 6.77 7.43 7.90 7.88 7.64 7.73 9.39 6.00 7.90 9.79 9.75 11.81 14.00
    4.18 5.69 6.22 6.63 6.76 7.09 7.12 7.36 7.46 8.34 7.58 8.99 5.79 7.34 8.61 9.01 10.45 12.13
    3.89 5.21 5.58 5.54 5.47 5.53 5.58 5.64 5.67 6.15 5.86 5.94 6.02 6.11 6.18 6.25 5.43
    6.83 7.55 7.86 7.83 8.44 8.97 8.96 9.23 10.44 6.11 7.42 7.29 8.42 9.32 10.75
    4.07 5.28 5.38 6.31 5.89 6.19 6.27 6.03 5.97 5.99 6.20 6.28 6.37 6.50 6.58 6.63 4.96
""")
"""First ionization energies, eV, Z = 1 to 103 (NIST, as tabulated by pymatgen)."""


def valence(number: int) -> dict[str, int]:
    """Electrons beyond the last noble gas in each kind of subshell, filled in Madelung's order.

    >>> valence(26)
    {'s': 2, 'p': 0, 'd': 6, 'f': 0}
    """
    left = number - max(z for z in NOBLE_GASES if z < number)
    period = period_of(number)
    order = {1: "s", 2: "sp", 3: "sp", 4: "sdp", 5: "sdp"}.get(period, "sfdp")
    electrons = dict.fromkeys("spdf", 0)
    for shell in order:
        electrons[shell] = min(left, 2 * HALF_FILLED[shell])
        left -= electrons[shell]
    return electrons


def period_of(number: int) -> int:
    """Row of the periodic table, from 1."""
    return sum(z < number for z in NOBLE_GASES)


def group_of(number: int) -> int:
    """Column of the periodic table, 1 to 18; 3 for lanthanides and actinides.

    >>> [group_of(z) for z in (1, 2, 6, 26, 57, 64, 79)]
    [1, 18, 14, 8, 3, 3, 11]
    """
    if number in NOBLE_GASES:
        return 18
    shells = valence(number)
    if shells["p"]:
        return 12 + shells["p"]
    return 2 + max(1, shells["d"]) if shells["d"] or shells["f"] else shells["s"]


def element_features(species: Sequence[int]) -> Tensor:
    """F (S, D), float64: one row per species; columns have mean 0 and variance 1 over the tabulated elements.

    Electronegativity, ionization energy, covalent radius, period, valence electrons in s, p, d and f, how far the p
    and d shells are from half filled; at half the size which group and period it is, one column each. A missing value
    is the mean, 0. Elements that behave alike have similar rows.
    """
    every = torch.tensor([_properties(z) for z in range(1, TABULATED + 1)], dtype=torch.float64)
    mean = every.nanmean(0)
    every = torch.where(every.isnan(), mean, every)
    spread = every.std(0, correction=0).clamp(min=1e-12)
    rows = torch.tensor([_properties(z) for z in species], dtype=torch.float64)
    scaled = (torch.where(rows.isnan(), mean, rows) - mean) / spread
    scaled[:, _N_NUMBERS:] *= 0.5
    return scaled


_N_NUMBERS = 10


def _properties(number: int) -> list[float]:
    """The columns of `element_features` before scaling."""
    shells, known = valence(number), number <= TABULATED
    far = {shell: float(abs(shells[shell] - HALF_FILLED[shell])) for shell in "pd"}
    numbers = [
        ELECTRONEGATIVITY[number - 1] if known else float("nan"),
        IONIZATION_ENERGY[number - 1] if known else float("nan"),
        covalent_radii[number] if number <= 96 else float("nan"),
        period_of(number),
        *shells.values(),
        *far.values(),
    ]
    group, period = group_of(number), period_of(number)
    return [*numbers, *(float(group == k) for k in range(1, 19)), *(float(period == k) for k in range(1, 8))]


class PeriodicEmbedding(ExactConstants):
    """e_Z = t_Z + F_Z W: a row t_Z of its own, and a part that similar elements share.

    W is trained by every atom of every element, so an element or a pair of elements that the training set hardly has
    is understood from its relatives; a table of its own rows alone learns each of them anew. F (`element_features`)
    belongs to the equations: it is fixed, and not in the model file. - species (N,) rows of the table -> (N, C)
    """

    features: Tensor

    def __init__(self, species: Sequence[int], channels: int) -> None:
        super().__init__()
        features = element_features(species)
        rms = element_features(range(1, TABULATED + 1)).square().mean().sqrt()
        self.register_buffer("features", features / rms, persistent=False)
        self.weight = nn.Parameter(OWN * torch.randn(len(species), channels))
        self.shared = nn.Parameter(torch.randn(features.shape[1], channels) / features.shape[1] ** 0.5)

    def forward(self, species: Tensor) -> Tensor:
        """(N,) -> (N, C)."""
        return self.weight[species] + self.features[species].to(self.shared.dtype) @ self.shared


def embedding(kind: Literal["learned", "periodic"], species: Sequence[int], channels: int) -> nn.Module:
    """The model's map from rows of species to channels, (N,) -> (N, C)."""
    return nn.Embedding(len(species), channels) if kind == "learned" else PeriodicEmbedding(species, channels)
