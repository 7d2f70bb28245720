"""What physics says against the labels of a set, the most telling test first and each fault named once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mlanet.data.consistency import judge
from mlanet.data.energies import per_atom_evidence, suspicious_energies
from mlanet.data.finite_work import neighbouring_pairs
from mlanet.data.magnitudes import (
    looks_like_bohr,
    suspicious_distances,
    suspicious_forces,
    suspicious_stress,
    suspicious_zeros,
)
from mlanet.data.pairwise import pair_fit
from mlanet.data.samples import Sample
from mlanet.data.species import swapped_by_forces, swapped_species
from mlanet.units import BOHR_IN_ANGSTROM


def suspicions(samples: Sequence[Sample]) -> list[str]:
    """Everything that looks wrong; nothing where the data cannot tell."""
    suspects = suspicious_distances(samples)
    if (text := looks_like_bohr(samples)) is not None:
        suspects.append(text)
        samples = [_in_bohr(sample) for sample in samples]
    if (text := swapped_species(samples) or swapped_by_forces(samples)) is not None:
        suspects.append(text)
    zeros = suspicious_zeros(samples)
    suspects += zeros
    pairs = neighbouring_pairs(samples)
    energies = suspicious_energies(samples, pairs)
    constant = any("constant" in text or "are the same" in text for text in energies)
    if constant or any("all exactly zero" in text for text in zeros):
        return [*suspects, *energies, *suspicious_stress(samples)]
    fit = pair_fit(samples)
    verdict = judge(pairs, per_atom_evidence(samples), fit)
    suspects += verdict.suspicions
    if verdict.related:
        suspects += energies
    suspects += suspicious_forces(samples)
    if not any("the stress" in text for text in suspects):
        suspects += suspicious_stress(samples)
    if fit.unexplained and not any("the forces" in text for text in suspects):
        suspects.append(
            f"the forces do not follow from the structures (correlation {fit.force_correlation:.2f} with the best pair "
            f"potential, {fit.n_force} components): shuffled, or not forces"
        )
    return suspects


def _in_bohr(sample: Sample) -> Sample:
    """The same structure with its lengths taken as bohr."""
    graph = sample.graph
    scaled = dataclasses.replace(
        graph,
        positions=graph.positions * BOHR_IN_ANGSTROM,
        cell=graph.cell * BOHR_IN_ANGSTROM,
        cutoff=graph.cutoff * BOHR_IN_ANGSTROM,
    )
    return sample._replace(graph=scaled)
