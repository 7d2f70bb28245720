"""What is in a set of samples and what looks wrong with it, before a training spends days on it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlanet.data.duplicates import duplicate_pairs
from mlanet.data.energies import rank_note
from mlanet.data.fit import crowded_atoms
from mlanet.data.magnitudes import shortest
from mlanet.data.samples import Sample
from mlanet.data.sources import sources_of
from mlanet.data.suspicions import suspicions
from mlanet.errors import DataError
from mlanet.quantities import DIPOLE, POLARIZABILITY
from mlanet.units import EV_PER_CUBIC_ANGSTROM_IN_GPA

_HEADER = ("quantity", "labelled", "min", "mean", "max", "unit")


@dataclass(frozen=True)
class Range:
    """A quantity of a set: how many of the frames that could have it do, and its range."""

    quantity: str
    labelled: int
    total: int
    minimum: float
    mean: float
    maximum: float
    unit: str


@dataclass(frozen=True)
class Audit:
    """Counts, ranges and warnings of one set (or of a pair of sets)."""

    n_frames: int
    n_atoms: int
    elements: dict[str, int]
    """Atoms of each element."""
    groups: int
    ranges: tuple[Range, ...]
    duplicates: tuple[tuple[str, str], ...]
    """Where equal geometries stand."""
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """Facts worth knowing that accuse nobody."""
    read: dict[str, dict[str, int]] = field(default_factory=dict)
    """Per quantity: frames read from each key."""
    aside: dict[str, dict[str, int]] = field(default_factory=dict)
    """Per quantity: frames that hold another key, which was left aside."""

    def rows(self) -> list[tuple[str, str, str, str, str, str]]:
        """The table: quantity, labelled ("90/100"), min, mean, max, unit."""
        return [
            (r.quantity, f"{r.labelled}/{r.total}", _short(r.minimum), _short(r.mean), _short(r.maximum), r.unit)
            for r in self.ranges
        ]

    def render(self) -> str:
        """The audit as plain text."""
        table = [_HEADER, *self.rows()]
        widths = [max(len(row[column]) for row in table) for column in range(len(_HEADER))]
        elements = ", ".join(f"{symbol} {count}" for symbol, count in self.elements.items())
        lines = [f"{self.n_frames} frames, {self.n_atoms} atoms ({elements}), {self.groups} group(s)"]
        for row in table:
            cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:5], widths[1:5], strict=True))]
            lines.append("  ".join([*cells, row[5]]).rstrip())
        for quantity, keys in self.read.items():
            lines.append(f"{quantity} read from {_counted(keys)}{self._left(quantity)}")
        lines += [f"note: {text}" for text in self.notes]
        lines += [f"warning: {text}" for text in self.warnings] or ["no warnings"]
        return "\n".join(lines)

    def _left(self, quantity: str) -> str:
        """What was left aside of a quantity, in words."""
        others = self.aside.get(quantity)
        return f"; left aside: {_counted(others)}" if others else ""

    def to_data(self) -> dict[str, object]:
        """The audit as plain data for JSON (numbers that do not exist are None)."""
        return {
            "frames": self.n_frames,
            "atoms": self.n_atoms,
            "elements": dict(self.elements),
            "groups": self.groups,
            "quantities": {
                r.quantity: {
                    "labelled": r.labelled,
                    "total": r.total,
                    "min": _number(r.minimum),
                    "mean": _number(r.mean),
                    "max": _number(r.maximum),
                    "unit": r.unit,
                }
                for r in self.ranges
            },
            "duplicates": [list(pair) for pair in self.duplicates],
            "read": {quantity: dict(keys) for quantity, keys in self.read.items()},
            "left_aside": {quantity: dict(keys) for quantity, keys in self.aside.items()},
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }


def audit(samples: Sequence[Sample]) -> Audit:
    """Look at one set: ranges, missing labels, duplicates, and units and signs that do not fit together.

    Suspicions rest on physics, not on thresholds of taste: finite work between neighbouring frames (units, signs and
    orders of energies, forces and stress, each way of reading them by its likelihood), stiffness and length of bonds,
    size of the stress beside the forces, net force and torque, and the best pair potential. Each says by how much and
    from how many frames; where these cannot tell, nothing is said. Cost about a second for a thousand frames.
    """
    if not samples:
        raise DataError("nothing to audit: no samples")
    pairs = duplicate_pairs(samples)
    ranges = _ranges(samples)
    sources = sources_of(samples)
    warnings = [
        *_missing(ranges),
        *suspicions(samples),
        *crowded_atoms(samples),
        *_duplicate_warnings(samples, pairs),
        *sources.warnings,
    ]
    return Audit(
        **_counts(samples),
        ranges=ranges,
        duplicates=tuple((samples[i].where, samples[j].where) for i, j in pairs),
        warnings=tuple(warnings),
        notes=tuple(rank_note(samples)),
        read=sources.read,
        aside=sources.aside,
    )


def audit_pair(train: Sequence[Sample], valid: Sequence[Sample]) -> Audit:
    """Look at two sets together: leaks, elements that only validation has, labels that only one has.

    The counts and ranges are those of the validation set; `audit` each set for itself besides.
    """
    if not train or not valid:
        raise DataError("nothing to compare: one of the two sets is empty")
    pairs = duplicate_pairs(train, valid)
    warnings = []
    if pairs:
        i, j = pairs[0]
        warnings.append(
            f"leak: {len({j for _, j in pairs})} of {len(valid)} validation frames are also in the training set "
            f"(e.g. {valid[j].where} is {train[i].where})"
        )
    new = set(_numbers(valid)) - set(_numbers(train))
    if new:
        warnings.append(
            f"elements that the training set has not: {', '.join(chemical_symbols[z] for z in sorted(new))}"
        )
    here, there = _ranges(train), _ranges(valid)
    for a, b in zip(here[:3], there[:3], strict=True):
        if bool(a.labelled) != bool(b.labelled) and a.total and b.total:
            only = "training" if a.labelled else "validation"
            warnings.append(f"{a.quantity}: labelled in the {only} set only")
    return Audit(
        **_counts(valid),
        ranges=there,
        duplicates=tuple((train[i].where, valid[j].where) for i, j in pairs),
        warnings=tuple(warnings),
    )


def _numbers(samples: Sequence[Sample]) -> list[int]:
    """All atomic numbers of a set."""
    return [int(z) for sample in samples for z in sample.graph.numbers.tolist()]


def _counts(samples: Sequence[Sample]) -> dict[str, Any]:
    """Frames, atoms, elements and groups."""
    counts = Counter(_numbers(samples))
    return {
        "n_frames": len(samples),
        "n_atoms": sum(counts.values()),
        "elements": {chemical_symbols[z]: counts[z] for z in sorted(counts)},
        "groups": len({sample.group for sample in samples}),
    }


def _ranges(samples: Sequence[Sample]) -> tuple[Range, ...]:
    """The table's rows: energy, forces and stress first, in this order; what else is labelled last."""
    sizes = np.array([sample.graph.n_atoms for sample in samples])
    energy = np.array([float(sample.labels.energy[0]) for sample in samples]) / sizes
    forces = [np.linalg.norm(sample.labels.forces.numpy(), axis=1) for sample in samples]
    # A single atom has no force to speak of, and a molecule no stress: neither counts as missing.
    with_force = [bool(np.isfinite(f).all()) for f in forces]
    could_force = sum(int(n > 1 or has) for n, has in zip(sizes, with_force, strict=True))
    stress = np.array([np.trace(sample.labels.stress[0].numpy()) / 3 for sample in samples])
    could_stress = sum(bool(s.graph.pbc.any()) and float(s.graph.volume()[0]) > 0 for s in samples)
    dipole = [sample.labels.dipole[0].norm().item() for sample in samples]
    could_dipole = sum(not bool(sample.graph.pbc.any()) for sample in samples)
    tensor = [sample.labels.polarizability[0].trace().item() / 3 for sample in samples]
    more = (
        _range("dipole moment", np.array(dipole), could_dipole, DIPOLE.unit),
        _range("mean polarizability", np.array(tensor), len(samples), POLARIZABILITY.unit),
    )
    distances = np.array([shortest(sample.graph) for sample in samples])
    neighbours = np.array([sample.graph.n_edges for sample in samples]) / sizes
    return (
        _range("energy per atom", energy, len(samples), "eV/atom"),
        _range("force", np.concatenate(forces), could_force, "eV/Å", labelled=sum(with_force)),
        _range("mean stress", stress * EV_PER_CUBIC_ANGSTROM_IN_GPA, could_stress, "GPa, tension positive"),
        _range("atoms", sizes.astype(np.float64), len(samples), "per frame"),
        _range("neighbours", neighbours, len(samples), "per atom"),
        _range("shortest distance", distances, len(samples), "Å"),
        *(column for column in more if column.labelled),
    )


def _range(name: str, values: NDArray[np.float64], total: int, unit: str, labelled: int | None = None) -> Range:
    """Range of the finite values."""
    finite = values[np.isfinite(values)]
    count = len(finite) if labelled is None else labelled
    if not len(finite):
        return Range(name, count, total, math.nan, math.nan, math.nan, unit)
    return Range(name, count, total, float(finite.min()), float(finite.mean()), float(finite.max()), unit)


def _missing(ranges: tuple[Range, ...]) -> list[str]:
    """Labels that some or all frames lack; a set without any stress is common and not worth a warning."""
    warnings = []
    for r in (*ranges[:3], *ranges[6:]):
        if r.labelled == 0 and r.total and r.quantity != "mean stress":
            warnings.append(f"{r.quantity}: no frame is labelled")
        elif 0 < r.labelled < r.total:
            missing = r.total - r.labelled
            warnings.append(f"{r.quantity}: {missing} of {r.total} frames are not labelled (left out there)")
    return warnings


def _duplicate_warnings(samples: Sequence[Sample], pairs: list[tuple[int, int]]) -> list[str]:
    """Copies, and equal geometries whose energies contradict each other."""
    warnings = []
    if pairs:
        i, j = pairs[0]
        warnings.append(
            f"{len(pairs)} frame(s) repeat the geometry of another, perhaps turned or shifted "
            f"(e.g. {samples[j].where} is {samples[i].where})"
        )
    differing = [
        (i, j)
        for i, j in pairs
        if abs(float(samples[i].labels.energy[0] - samples[j].labels.energy[0])) > 1e-3 * samples[i].graph.n_atoms
    ]
    if differing:
        i, j = differing[0]
        warnings.append(
            f"{len(differing)} pair(s) of equal geometries have different energies (e.g. {samples[j].where} and "
            f"{samples[i].where}): another charge or spin state, or mixed levels of theory"
        )
    return warnings


def _counted(keys: Mapping[str, int]) -> str:
    """`'energy' (60 frames), 'REF_energy' (3 frames)`."""
    return ", ".join(f"'{key}' ({count} frame{'s' if count > 1 else ''})" for key, count in keys.items())


def _short(value: float) -> str:
    """Five significant digits, or a dash for what does not exist."""
    return f"{value:.5g}" if math.isfinite(value) else "-"


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None
