"""What a material is like: equations of state, elastic constants, phonons, barriers; each of any ASE calculator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlanet.lazily import lookup

if TYPE_CHECKING:
    from mlanet.properties.band import Barrier, barrier
    from mlanet.properties.elastic import Elasticity, elasticity
    from mlanet.properties.eos import EquationOfState, equation_of_state
    from mlanet.properties.hops import hop_into, vacancy_hop
    from mlanet.properties.phonon import Phonons, phonons
    from mlanet.properties.transport import Arrhenius, Mobility, arrhenius, mobilities

__all__ = [
    "Arrhenius",
    "Barrier",
    "Elasticity",
    "EquationOfState",
    "Mobility",
    "Phonons",
    "arrhenius",
    "barrier",
    "elasticity",
    "equation_of_state",
    "hop_into",
    "mobilities",
    "phonons",
    "vacancy_hop",
]

_HOME = {
    "band": ("Barrier", "barrier"),
    "elastic": ("Elasticity", "elasticity"),
    "eos": ("EquationOfState", "equation_of_state"),
    "hops": ("hop_into", "vacancy_hop"),
    "phonon": ("Phonons", "phonons"),
    "transport": ("Arrhenius", "Mobility", "arrhenius", "mobilities"),
}
"""Where each name lives; one property need not wait for what another imports."""

__getattr__ = lookup(
    __name__, {name: f"mlanet.properties.{module}" for module, names in _HOME.items() for name in names}
)
