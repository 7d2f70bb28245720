"""Which element each atom type of LAMMPS is: told, by its label, or by its mass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.data import atomic_masses_iupac2016, atomic_numbers, chemical_symbols

from mlanet.errors import DataError, UnsupportedElementError

NEAR = 0.06
"""amu; a mass that near to an element's counts as it, where the next is `CLEAR` times as far: 59 is no element's."""
CLEAR = 4.0
REMEDY = "name the elements, one for each type (--elements, or elements= in Python)"


def as_numbers(elements: Sequence[str], n_types: int) -> list[int]:
    """Atomic numbers of symbols that were given for every type.

    Raises:
        DataError: another number of them than there are types, or a word that is no element.
    """
    if len(elements) != n_types:
        raise DataError(
            f"{len(elements)} element(s) given ({' '.join(elements) or 'none'}) for {n_types} atom type(s); "
            "give one for each type, in their order, the same twice where two types are one element"
        )
    for place, symbol in enumerate(elements, start=1):
        if symbol not in atomic_numbers or symbol == "X":
            raise DataError(f"'{symbol}', given for atom type {place}, is no element; write symbols such as Si O")
    return [atomic_numbers[symbol] for symbol in elements]


def require_known(numbers: Sequence[int], species: Sequence[int]) -> None:
    """Raise `UnsupportedElementError` naming type and element that a model does not know."""
    for place, number in enumerate(numbers, start=1):
        if number not in species:
            known = " ".join(chemical_symbols[z] for z in species)
            raise UnsupportedElementError(
                f"the model was not trained on {chemical_symbols[number]} (atom type {place}); it knows: {known}"
            )


def of_labels(lmp: Any) -> list[int] | None:
    """Atomic numbers by `labelmap atom 1 Si 2 O`; None where not every type has a symbol for its label."""
    n_types = lmp.extract_setting("ntypes")
    found = [0] * n_types
    lmp.set_show_error(0)
    try:
        for symbol in chemical_symbols[1:]:
            if lmp.eval(f"is_typelabel(atom,{symbol})"):
                found[int(lmp.eval(f"label2type(atom,{symbol})")) - 1] = atomic_numbers[symbol]
    except Exception as error:
        if "labelmap" not in str(error):
            raise
    finally:
        lmp.set_show_error(1)
    return found if all(found) else None


def of_masses(lmp: Any, species: Sequence[int]) -> list[int]:
    """Atomic numbers by the masses of types; among elements of about one mass that which the model knows, `species`.

    Raises:
        DataError: a mass that is near no element's, or between two.
    """
    masses = lmp.extract_atom("mass")
    n_types = lmp.extract_setting("ntypes")
    if not masses:
        raise DataError(f"atom types have no masses that tell their elements; {REMEDY}")
    return [_of_mass(float(masses[index]), index, species) for index in range(1, n_types + 1)]


def _of_mass(mass: float, place: int, species: Sequence[int]) -> int:
    distance = np.abs(atomic_masses_iupac2016 - mass)
    distance[0] = np.inf
    near = [int(z) for z in np.argsort(distance, kind="stable") if distance[z] <= CLEAR * NEAR]
    if not near or distance[near[0]] > NEAR:
        raise DataError(f"mass {mass:g} of atom type {place} is that of no element; {REMEDY}")
    known = [z for z in near if z in species] or near
    if len(known) > 1 and distance[known[1]] < CLEAR * distance[known[0]]:
        one, other = (chemical_symbols[it] for it in known[:2])
        raise DataError(f"mass {mass:g} of atom type {place} may be {one} or {other}; {REMEDY}")
    if distance[known[0]] > NEAR:
        return near[0]  # which the model does not know, and that is what is said
    return known[0]
