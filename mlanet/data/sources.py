"""Which entries of the files labels were read from, where two of them disagree, and which of two energies to take."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch

from mlanet.data.finite_work import neighbouring_pairs
from mlanet.data.labels import FoundLabels, Rival, Source
from mlanet.data.likelihood import explained
from mlanet.data.samples import Sample
from mlanet.quantities import BY_NAME, ENERGY, NAMES

DECISIVE = 4.6
"""Difference of log-likelihoods (a hundred to one) from which one of two energies is chosen over the other."""


class SourceReport(NamedTuple):
    """Where the labels of a set came from, as plain text and data."""

    read: dict[str, dict[str, int]]
    """Per quantity: frames read from each key."""
    aside: dict[str, dict[str, int]]
    """Per quantity: frames in which another key was there and left aside."""
    warnings: list[str]


def sources_of(samples: Sequence[Sample]) -> SourceReport:
    """The keys read and left aside in a set, with a warning where they change or contradict each other."""
    read: dict[str, dict[str, int]] = {}
    aside: dict[str, dict[str, int]] = {}
    warnings = []
    for quantity in NAMES:
        sourced = [(sample, source) for sample in samples for source in sample.sources if source.quantity == quantity]
        if not sourced:
            continue
        counts = Counter(one.key for _, one in sourced)
        read[quantity] = dict(counts.most_common())
        others = Counter(key for _, one in sourced for key in (*(rival.key for rival in one.rivals), *one.aside))
        if others:
            aside[quantity] = dict(others.most_common())
        if len(counts) > 1:
            places = ", ".join(f"'{key}' in {count}" for key, count in counts.most_common())
            example = next(sample.where for sample, one in sourced if one.key == counts.most_common()[-1][0])
            warnings.append(
                f"{quantity}: read from different keys in different frames ({places}; e.g. {example}); if they are not "
                f"the same level of theory, name one with --key {quantity}=KEY"
            )
        warnings += _conflicts(quantity, sourced, _reason(samples) if quantity == "energy" else "")
    return SourceReport(read, aside, warnings)


def _conflicts(quantity: str, sourced: list[tuple[Sample, Source]], reason: str) -> list[str]:
    """One warning for each two keys that hold different values, with both numbers.

    An `energy` beside a `REF_energy` that was written on purpose is an answer beside its question, no contradiction.
    """
    differing: dict[tuple[str, str], list[tuple[Sample, Rival]]] = {}
    for sample, source in sourced:
        for rival in source.rivals:
            if source.key.lower().startswith("ref_") and rival.key == quantity:
                continue
            size = sample.graph.n_atoms if BY_NAME[quantity].of_each_atom else 1
            if abs(rival.read - rival.other) > BY_NAME[quantity].same_below * size + 1e-9 * abs(rival.read):
                differing.setdefault((source.key, rival.key), []).append((sample, rival))
    unit = BY_NAME[quantity].unit
    return [
        f"{quantity}: '{key}' is used, '{other}' says something else in {len(cases)} frame(s), e.g. "
        f"{cases[0][1].read:.6g} against {cases[0][1].other:.6g} {unit} in {cases[0][0].where}; the other way: "
        f"--key {quantity}={other}{reason if {key, other} == {'energy', 'free_energy'} else ''}"
        for (key, other), cases in differing.items()
    ]


def _reason(samples: Sequence[Sample]) -> str:
    """What forces say of `energy` and `free_energy`, and nothing where there are not both."""
    swapped = [_with_free_energy(sample) for sample in samples if _free_energy(sample) is not None]
    chosen = any(source.key == "free_energy" for sample in samples for source in sample.sources)
    if chosen:
        return " (the forces are the derivative of the free energy)"
    if not swapped:
        return ""
    gain = _support(samples) - _support([_with_free_energy(sample) for sample in samples])
    if gain > DECISIVE:
        return " (the forces are the derivative of the energy)"
    return " (VASP's forces belong to the free energy; these frames cannot tell which of the two explains them)"


def force_consistent(samples: Sequence[Sample]) -> list[Sample]:
    """Where `energy` and `free_energy` differ, take for the whole set the one whose differences the forces explain.

    With smeared occupations (VASP), forces are the derivative of the free energy, while `energy` is extrapolated to
    zero smearing. Where the data cannot tell, `energy` stays.
    """
    if not any(_free_energy(sample) is not None for sample in samples):
        return list(samples)
    swapped = [_with_free_energy(sample) for sample in samples]
    if _support(swapped) > _support(samples) + DECISIVE:
        return swapped
    return list(samples)


def follow(samples: Sequence[Sample], leading: Sequence[Sample]) -> list[Sample]:
    """Read the energies of `samples` from the key that was chosen for `leading`: one run has one energy."""
    chosen = {source.key for sample in leading for source in sample.sources if source.quantity == "energy"}
    here = {source.key for sample in samples for source in sample.sources if source.quantity == "energy"}
    if "free_energy" in chosen and "free_energy" not in here:
        return [_with_free_energy(sample) for sample in samples]
    if "free_energy" in here and "free_energy" not in chosen:
        return [_with_free_energy(sample, back="energy") for sample in samples]
    return list(samples)


def energy_key(samples: Sequence[Sample]) -> str:
    """`free_energy` or `energy` where the energies were read from one of two that differ; "" without a choice."""
    keys = {source.key for sample in samples for source in _energies(sample.sources)}
    if "free_energy" in keys:
        return "free_energy"
    return "energy" if any(_free_energy(sample) is not None for sample in samples) else ""


def read_from(labels: FoundLabels, key: str) -> FoundLabels:
    """The labels with their energy read from `energy` or `free_energy`, whichever `key` says, where both are there."""
    swapped = _swapped(labels.sources, key)
    return labels if swapped is None else labels._replace(energy=swapped[0], sources=swapped[1])


def _energies(sources: Sequence[Source]) -> list[Source]:
    """Those of energies."""
    return [source for source in sources if source.quantity == "energy"]


def _support(samples: Sequence[Sample]) -> float:
    """Log-likelihood of the energies, given the forces (and stress)."""
    return explained(neighbouring_pairs(samples))


def _free_energy(sample: Sample) -> Rival | None:
    """The free energy that was left aside for another energy of the calculator."""
    for source in sample.sources:
        if source.quantity == "energy" and source.key == "energy":
            for rival in source.rivals:
                if rival.key == "free_energy" and abs(rival.read - rival.other) > ENERGY.same_below:
                    return rival
    return None


def _with_free_energy(sample: Sample, back: str = "free_energy") -> Sample:
    """The same sample with its energy read from the other of the two keys."""
    swapped = _swapped(sample.sources, back)
    if swapped is None:
        return sample
    energy = torch.tensor([swapped[0]], dtype=torch.float64)
    return sample._replace(labels=dataclasses.replace(sample.labels, energy=energy), sources=swapped[1])


def _swapped(known: Sequence[Source], back: str) -> tuple[float, tuple[Source, ...]] | None:
    """The energy of the other of the two keys, and the sources then; None where it is not there."""
    sources = list(known)
    for place, one in enumerate(sources):
        if one.quantity != "energy" or {one.key, back} != {"energy", "free_energy"}:
            continue
        rival = next((r for r in one.rivals if r.key == back), None)
        if rival is None:
            continue
        others = tuple(r._replace(read=rival.other) for r in one.rivals if r is not rival)
        sources[place] = Source("energy", back, (Rival(one.key, rival.other, rival.read), *others), one.aside)
        return rival.other, tuple(sources)
    return None
