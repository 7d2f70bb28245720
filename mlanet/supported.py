"""What a model can be asked about, and what to know of its answers: of graphs as tensors and as arrays alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlanet.errors import UnsupportedElementError
from mlanet.statistics import Statistics

if TYPE_CHECKING:
    from mlanet.arrays import GraphArrays
    from mlanet.graph import AtomicGraph


def require_species(numbers: Any, species: tuple[int, ...]) -> None:
    """Raise `UnsupportedElementError` naming the unknown elements, an atom of each, and what is supported.

    - numbers (N,): an array or a tensor
    """
    there = numbers.tolist()
    unknown = sorted(set(there) - set(species))
    if unknown:
        from ase.data import chemical_symbols

        named = ", ".join(f"{chemical_symbols[z]} (first at atom {there.index(z)})" for z in unknown)
        known = " ".join(chemical_symbols[z] for z in species)
        raise UnsupportedElementError(f"the model was not trained on {named}; it knows: {known}")


def lone_atoms(graph: AtomicGraph | GraphArrays, statistics: Statistics) -> str | None:
    """What to know of the energy of atoms without a neighbour; None where there are none, or it is a free atom's."""
    if (reason := statistics.lone_atoms) is None or not (alone := graph.without_neighbors()):
        return None
    from ase.data import chemical_symbols

    first = alone[0]
    symbol = chemical_symbols[int(graph.numbers[first])]
    return f"{len(alone)} atom(s) without a neighbour within {graph.cutoff:g} Å, e.g. atom {first} ({symbol}); {reason}"


def ignored_charge(charge: float, where: str) -> str:
    """What to know where a structure has a total charge (e) of which the model knows nothing."""
    return (
        f"{where} has a total charge of {charge:+g} e, which this model ignores: it answers as for a neutral one "
        "(a model trained with `charge: total` would not)"
    )
