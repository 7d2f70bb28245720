"""Energies by themselves: constant ones, energies per atom, single ones far off, and what compositions determine."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlanet.data.finite_work import Pairs
from mlanet.data.likelihood import TRAPEZOID, floor_of
from mlanet.data.samples import Sample

MIN_FRAMES = 8
SURE = 10.0
"""Nats that it takes to accuse."""
APART = 25.0
"""An energy is an outlier this many times further off than nine tenths of the others; at most 9 in any real set."""
EVEN = 0.2
"""Misfit over size of energies below which compositions explain energies per atom."""
OUTLYING = 0.3
"""eV/atom; nearer than this no energy is called an outlier."""


def suspicious_energies(samples: Sequence[Sample], pairs: Pairs) -> list[str]:
    """Energies that do not change, or single ones that nothing else in the set agrees with.

    Args:
        samples: the set.
        pairs: its neighbouring frames.
    """
    if (text := _constant(samples)) is not None:
        return [text]
    suspects = _off_the_forces(samples, pairs) | _off_the_compositions(samples)
    if not suspects or len(suspects) > max(3, len(samples) // 5):
        return []
    first = samples[min(suspects)]
    energy = float(first.labels.energy[0])
    return [
        f"{len(suspects)} energy outlier(s), more than {APART:.0f} times further off than the others: {first.where} "
        f"({energy:.6g} eV, {energy / first.graph.n_atoms:.6g} eV/atom)"
        + (f", and {', '.join(samples[k].where for k in sorted(suspects)[1:4])}" if len(suspects) > 1 else "")
    ]


def _constant(samples: Sequence[Sample]) -> str | None:
    """Equal energies of structures that differ."""
    classes: dict[bytes, list[Sample]] = defaultdict(list)
    for sample in samples:
        if bool(sample.labels.energy.isfinite().all()) and sample.graph.n_atoms > 1:
            classes[np.sort(sample.graph.numbers.numpy()).tobytes()].append(sample)
    energies = np.array([float(s.labels.energy[0]) for members in classes.values() for s in members])
    if len(energies) >= MIN_FRAMES and len(classes) > 1 and np.ptp(energies) <= 1e-9 * abs(energies[0]) + 1e-12:
        return f"the energies are the same, {energies[0]:.6g}, in all {len(energies)} frames of different composition"
    same, compared = 0, 0
    for members in classes.values():
        values = np.array([float(sample.labels.energy[0]) for sample in members])
        if len(members) < 3 or all(_equal(members[0], other) for other in members[1:]):
            continue
        compared += len(members)
        same += len(members) if np.ptp(values) <= 1e-9 * abs(values[0]) + 1e-12 else 0
    if compared < MIN_FRAMES or same < 0.9 * compared:
        return None
    return f"the energies are constant: equal in all {same} frames of the same composition, whatever the structure"


def _equal(one: Sample, other: Sample) -> bool:
    """Whether two structures of one composition are the same, as far as distances tell."""
    here, there = one.graph, other.graph
    if here.n_edges != there.n_edges:
        return False
    first = np.sort(here.edge_vectors().norm(dim=1).numpy())
    return bool(np.allclose(first, np.sort(there.edge_vectors().norm(dim=1).numpy()), atol=1e-4))


def _off_the_forces(samples: Sequence[Sample], pairs: Pairs) -> set[int]:
    """Frames whose energy every neighbouring frame contradicts, given the forces between them."""
    pairs = pairs.chosen(~pairs.strained | np.isfinite(pairs.virial).all(axis=(1, 2)))
    if pairs.frames < MIN_FRAMES:
        return set()
    work, bent = pairs.stress_work(np.nan_to_num(pairs.virial)), pairs.stress_work(np.nan_to_num(pairs.change))
    left = pairs.energy - pairs.force - work
    width = TRAPEZOID * (np.abs(pairs.bend) + np.abs(bent)) + floor_of(pairs)
    size = np.abs(left) / width
    usual = max(1.0, float(np.quantile(size, 0.5)))
    far = np.quantile(np.abs(pairs.energy), 0.75)
    suspects = set()
    for frame in np.union1d(pairs.first, pairs.second):
        mine = (pairs.first == frame) | (pairs.second == frame)
        offsets = np.where(pairs.second == frame, left, -left)[mine]
        alike = len(offsets) >= 2 and np.ptp(offsets) < 0.3 * np.abs(offsets).mean()
        outlying = np.abs(offsets).min() > max(OUTLYING * samples[int(frame)].graph.n_atoms, 2 * far)
        if alike and outlying and (size[mine] > APART * usual).all():
            suspects.add(int(frame))
    return suspects


def _off_the_compositions(samples: Sequence[Sample]) -> set[int]:
    """Frames whose energy per atom is far from what composition gives, beyond all proportion to the others."""
    rows = [k for k, s in enumerate(samples) if s.graph.n_atoms > 1 and bool(s.labels.energy.isfinite().all())]
    shares = _shares([samples[k] for k in rows])
    if len(rows) < 3 * MIN_FRAMES or len(rows) < 2 * shares.shape[1]:
        return set()
    target = np.array([float(samples[k].labels.energy[0]) / samples[k].graph.n_atoms for k in rows])
    kept = np.ones(len(rows), dtype=bool)
    left = np.zeros(len(rows))
    for _ in range(5):  # the worst are left out of the fit that judges them
        per_atom = np.linalg.lstsq(shares[kept], target[kept], rcond=1e-10)[0]
        left = np.abs(target - shares @ per_atom)
        kept = left <= max(np.quantile(left, 0.9), 1e-9)
    usual = float(np.quantile(left, 0.9))
    # Energies of elements that few other frames have are not known from compositions.
    known = ((shares > 0) <= ((shares[kept] > 0).sum(0) >= MIN_FRAMES)).all(axis=1)
    return {rows[k] for k in np.flatnonzero(known & (left > max(APART * usual, OUTLYING)))}


def per_atom_evidence(samples: Sequence[Sample]) -> tuple[float, int]:
    """Nats by which energies per atom are likelier than totals, from how they go with composition and size."""
    rows = [s for s in samples if bool(s.labels.energy.isfinite().all())]
    sizes = np.array([sample.graph.n_atoms for sample in rows], dtype=np.float64)
    shares = _shares(rows)
    if len(np.unique(sizes)) < 2 or len(rows) < max(2 * MIN_FRAMES, 3 * shares.shape[1]):
        return 0.0, len(rows)
    energies = np.array([float(sample.labels.energy[0]) for sample in rows])
    total = _spread(shares, energies / sizes) + float(np.log(sizes).mean())
    each = _spread(shares, energies)
    if total > each > math.log(EVEN * float(np.median(np.abs(energies))) + 1e-300):
        return 0.0, len(rows)  # neither fits: energies of other frames
    return (total - each) * (len(rows) - shares.shape[1]), len(rows)


def _spread(shares: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Logarithm of the median misfit of the best composition model."""
    left = np.abs(target - shares @ np.linalg.lstsq(shares, target, rcond=1e-10)[0])
    return math.log(float(np.median(left)) + 1e-9 * float(np.abs(target).mean()) + 1e-300)


def _shares(samples: Sequence[Sample]) -> NDArray[np.float64]:
    """(S, Z) share of each element in each structure."""
    elements = sorted({int(z) for sample in samples for z in sample.graph.numbers.unique().tolist()})
    counts = np.array(
        [np.bincount(s.graph.numbers.numpy(), minlength=120)[elements] for s in samples], dtype=np.float64
    )
    return counts / counts.sum(axis=1, keepdims=True) if len(counts) else np.zeros((0, max(len(elements), 1)))


def rank_note(samples: Sequence[Sample]) -> list[str]:
    """Which reference energies the compositions leave open: a fact about the set, no fault in it."""
    labelled = [sample for sample in samples if bool(sample.labels.energy.isfinite().all())]
    if not labelled:
        return []
    shares = _shares(labelled)
    rank = int(np.linalg.matrix_rank(shares, tol=1e-9 * max(shares.shape)))
    if rank == shares.shape[1]:
        return []
    elements = sorted({int(z) for sample in labelled for z in sample.graph.numbers.unique().tolist()})
    return [
        f"the compositions determine only {rank} of {len(elements)} reference energies "
        f"({' '.join(chemical_symbols[z] for z in elements)}); isolated atoms, or references of your own, "
        "determine them"
    ]
