"""Dispersion coefficients C₆ of free atoms, Z = 1 to 102, each with its source (docs/models/long_range.md)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from ase import units
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor

from mlanet.errors import ConfigError


@functools.cache
def chu_dalgarno() -> dict[str, float]:
    """Hartree bohr⁶. Chu and Dalgarno, J. Chem. Phys. 121, 4083 (2004); Pd, Ag, Pt and Au: Ruiz et al., Phys. Rev.
    Lett. 108, 146103 (2012). As ASE tabulates them, beside what loads half of scipy: read when it is asked for."""
    from ase.calculators.vdwcorrection import vdWDB_Chu04jcp, vdWDB_Ruiz12prl

    tabulated = cast(dict[str, Sequence[float]], vdWDB_Ruiz12prl | vdWDB_Chu04jcp)
    return {symbol: float(pair[1]) for symbol, pair in tabulated.items()}


def _table(text: str) -> dict[str, float]:
    """`K=3914 Ga=456 …` as a mapping."""
    return {symbol: float(value) for symbol, value in (word.split("=") for word in text.split())}


GOULD_BUCKO = _table("""
    K=3914 Ga=456 Ge=365 Rb=4660 Y=2599 Zr=1362 Nb=1144 Mo=1025 Tc=939 Ru=809
    Rh=708 Cd=405 In=643 Sn=715 Sb=504 Xe=302 Cs=6657 Ba=5543 La=3729 Ce=3480
    Pr=3760 Nd=3561 Pm=3338 Sm=3134 Eu=2938 Gd=2336 Tb=2587 Dy=2429 Ho=2283 Er=2148
    Tm=2019 Yb=1905 Lu=2022 Hf=1036 Ta=887 W=757 Re=663 Os=584 Ir=522 Hg=268
    Tl=509 Pb=534 Bi=513 Po=424 At=351 Rn=408
""")
"""Hartree bohr⁶, the rest of periods 4 to 6. Gould and Bučko, J. Chem. Theory Comput. 12, 3603 (2016), by
time-dependent DFT of spherical ensembles; as compiled in libMBD (CC0-1.0)."""

BUCKO = _table("""
    Fr=4224.44 Ra=4851.32 Ac=3604.41 Th=4047.54 Pa=2367.42 U=1877.1 Np=2507.88 Pu=2117.27 Am=2110.98 Cm=2403.22
    Bk=1985.82 Cf=1891.92 Es=1851.1 Fm=1787.07 Md=1701 No=1578.18
""")
"""Hartree bohr⁶, period 7 up to No. Bučko, habilitation thesis (TU Berlin), table A.1, as compiled in libMBD (CC0-1.0).
"""

HARTREE_BOHR6 = units.Hartree * units.Bohr**6
"""eV Å⁶."""


def free_c6(species: Sequence[int], own: Mapping[str, float] | None = None) -> Tensor:
    """C₆ of free atoms, eV Å⁶, float64.

    >>> round(free_c6((15,)).item(), 1)
    110.5
    >>> free_c6((15,), {"P": 90.0}).item()
    90.0

    Args:
        species: atomic numbers.
        own: eV Å⁶ by chemical symbol, in the place of what is tabulated.
    Raises:
        ConfigError: an element without a value.
    """
    known = chu_dalgarno() | GOULD_BUCKO | BUCKO
    table = {symbol: value * HARTREE_BOHR6 for symbol, value in known.items()} | dict(own or {})
    missing = [chemical_symbols[z] for z in species if chemical_symbols[z] not in table]
    if missing:
        example = f"free_c6: {{{missing[0]}: 500.0}}"
        raise ConfigError(
            f"long_range: no C6 coefficient of the free atom is tabulated for {', '.join(missing)} (known are Z = 1 to "
            f"102); give one in eV Å⁶, e.g. '{example}'"
        )
    return torch.tensor([table[chemical_symbols[z]] for z in species], dtype=torch.float64)


def require_c6(own: Mapping[str, float]) -> None:
    """Raise `ValueError` for what is no element, or no coefficient."""
    for symbol, value in own.items():
        if symbol not in atomic_numbers or not atomic_numbers[symbol]:
            raise ValueError(f"free_c6: '{symbol}' is no chemical element")
        if not 0 < value < float("inf"):
            raise ValueError(f"free_c6: {symbol}: expected a positive number of eV Å⁶, got {value}")
