"""What a crystal is like: equations of state, elastic constants, phonons; each of any ASE calculator."""

from mlanet.properties.elastic import Elasticity, elasticity
from mlanet.properties.eos import EquationOfState, equation_of_state
from mlanet.properties.phonon import Phonons, phonons

__all__ = ["Elasticity", "EquationOfState", "Phonons", "elasticity", "equation_of_state", "phonons"]
