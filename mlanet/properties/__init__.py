"""What a material is like: equations of state, elastic constants, phonons, barriers; each of any ASE calculator."""

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
