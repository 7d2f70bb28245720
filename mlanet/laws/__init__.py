"""The laws of physics as numbers that should be zero, for any potential: used by the tests and by `mlanet check`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ase import Atoms

from mlanet.laws import derivatives, extensivity, smoothness, symmetry, wall
from mlanet.laws.law import Law, LawResult, side_by_side, with_charges
from mlanet.potential import Potential

LAWS: tuple[Law, ...] = (*symmetry.LAWS, *derivatives.LAWS, *extensivity.LAWS, *smoothness.LAWS, *wall.LAWS)
"""All laws, cheap ones first."""


def promised(potential: Potential) -> set[str]:
    """Names of the laws that a potential's design promises; the others are measured and reported all the same.

    A configuration may name in `broken_laws` those that its switches give up.
    """
    return {law.name for law in LAWS} - potential.model.config.broken_laws


def run_laws(potential: Potential, systems: Mapping[str, Atoms], laws: Iterable[Law] = LAWS) -> Iterator[LawResult]:
    """Measure laws on systems, one result for each pair about which the law says something.

    What all of them ask about one system is asked together.

    Args:
        potential: float64, in evaluation mode (tolerances are those of float64).
        systems: structures by name, of elements that the potential knows; of a model that reads charge, charged ones
            are made of them.
        laws: which.
    """
    kept, systems, laws = promised(potential), with_charges(potential, systems), tuple(laws)
    found = {
        name: side_by_side(potential, [law.asks(potential, atoms) for law in laws]) for name, atoms in systems.items()
    }
    for place, law in enumerate(laws):
        for name, deviations in found.items():
            deviation = deviations[place]
            if deviation is not None:
                # NaN compares as false: a law that cannot be evaluated is broken.
                holds = bool(deviation <= law.tolerance)
                detail = f"{law.meaning} ({name})"
                yield LawResult(law.name, holds, deviation, law.tolerance, detail, law.name in kept)
