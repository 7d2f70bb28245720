"""Elements that stand in each other's place, told by chemistry: how many bonds an atom has, and how short they are.

Only what chemistry forbids is held against a set: hydrogen or fluorine bonded to two nonmetals, oxygen to three, carbon
or nitrogen to five, and contacts far below the sum of covalent radii. Metals in each other's place look like an alloy;
there the forces tell, where most frames are right.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from numpy.typing import NDArray

from mlanet.data.pairwise import SMALL_FORCE, design_of, solved
from mlanet.data.samples import Sample

BOND, SHORT = 1.25, 0.7
"""Distances over the sum of covalent radii below which nonmetals are bonded, and below which nothing is."""
MOST_BONDS = {1: 1, 6: 4, 7: 4, 8: 2, 9: 1}
NONMETALS = (1, 6, 7, 8, 9, 15, 16, 17, 35, 53)
MANY, FEW = 0.12, 0.02
"""Impossible atoms per atom of the elements in question: so many before, and so few after the exchange."""
MAX_FRAMES = 60
CLEARLY = 0.5
"""Squared misfit of one assignment over that of the other from which a frame is settled."""
MIN_ATOMS = 10
MIN_SHARE = 0.1
"""Frames of a set that must profit from an exchange before it is named."""
MOST_SHARE = 0.25
"""Frames of a set that must be impossible where no exchange mends them: crystals under pressure may look so."""


def swapped_species(samples: Sequence[Sample]) -> str | None:
    """Two elements whose exchange makes structures possible that are not, in so many frames."""
    step = max(1, len(samples) // MAX_FRAMES)
    chosen = samples[::step]
    elements = sorted({int(z) for sample in chosen for z in sample.graph.numbers.unique().tolist()})
    if not set(elements) & set(NONMETALS) or len(elements) < 2:
        return None
    before = [_impossible(sample, sample.graph.numbers.numpy()) for sample in chosen]
    worst = sum(int(bad.sum()) for bad in before)
    if worst < MIN_ATOMS:
        return None
    scrambled = sum(bool(bad.mean() > MANY) for bad in before)
    best: tuple[int, int, int, int] | None = None
    for a, b in itertools.combinations(elements, 2):
        mended, atoms, frames = 0, 0, 0
        for sample, bad in zip(chosen, before, strict=True):
            numbers = sample.graph.numbers.numpy()
            pair = np.isin(numbers, (a, b))
            if not (numbers == a).any() or not (numbers == b).any() or bad[pair].sum() < max(1, MANY * pair.sum()):
                continue
            after = _impossible(sample, _exchanged(numbers, a, b))
            if after.sum() <= FEW * pair.sum():
                mended, atoms, frames = mended + int(bad.sum()), atoms + int(pair.sum()), frames + 1
        if frames and (best is None or mended > best[0]):
            best = (mended, frames, a, b)
    if best is not None and best[0] >= MIN_ATOMS and best[1] >= max(2, MIN_SHARE * len(chosen)):
        mended, frames, a, b = best
        return (
            f"the species {chemical_symbols[a]} and {chemical_symbols[b]} seem to be swapped in {frames} of "
            f"{len(chosen)} frames looked at: {mended} atoms have more bonds, or shorter ones, than chemistry allows, "
            "and none after the exchange"
        )
    if scrambled >= max(2, MOST_SHARE * len(chosen)) and worst >= MIN_ATOMS:
        return (
            f"the species do not fit the positions in {scrambled} of {len(chosen)} frames looked at: {worst} atoms "
            "have more bonds, or shorter ones, than chemistry allows: swapped species, or atoms in another order"
        )
    return None


def swapped_by_forces(samples: Sequence[Sample]) -> str | None:
    """Frames whose forces only make sense with two elements exchanged, by the best pair potential of all frames.

    The potential is learnt twice, the second time without the frames that the first one doubts. It cannot tell if most
    frames are wrong: a set that is wrong throughout is consistent with itself.
    """
    elements = sorted({int(z) for sample in samples for z in sample.graph.numbers.unique().tolist()})
    usable = [k for k, s in enumerate(samples) if s.graph.n_edges and bool(s.labels.forces.isfinite().all())]
    usable = [k for k in usable if float(samples[k].labels.forces.square().mean()) > SMALL_FORCE**2][:MAX_FRAMES]
    if not 2 <= len(elements) <= 3 or len(usable) < MIN_ATOMS:
        return None
    for a, b in itertools.combinations(elements, 2):
        mixed = [k for k in usable if {a, b} <= set(samples[k].graph.numbers.tolist())]
        if len(mixed) < MIN_ATOMS:
            continue
        designs = [design_of(samples[k], elements) for k in mixed]
        numbers = [samples[k].graph.numbers.numpy() for k in mixed]
        others = [design_of(samples[k], elements, _exchanged(n, a, b)) for k, n in zip(mixed, numbers, strict=True)]
        forces = [samples[k].labels.forces.numpy().ravel() for k in mixed]
        doubted = np.zeros(len(mixed), dtype=bool)
        for _ in range(3):
            kept = np.flatnonzero(~doubted)
            solution = solved(np.concatenate([designs[k] for k in kept]), np.concatenate([forces[k] for k in kept]))
            left = np.array([np.sum((f - d @ solution) ** 2) for f, d in zip(forces, designs, strict=True)])
            after = np.array([np.sum((f - d @ solution) ** 2) for f, d in zip(forces, others, strict=True)])
            doubted = after < CLEARLY * left
        settled = (left < CLEARLY * after).sum()
        if 2 <= doubted.sum() < 0.8 * settled:
            gain = float(np.median(left[doubted] / after[doubted]))
            return (
                f"the species {chemical_symbols[a]} and {chemical_symbols[b]} seem to be swapped in {doubted.sum()} of "
                f"{len(mixed)} frames, e.g. {samples[mixed[int(doubted.argmax())]].where}: exchanged, their forces fit "
                f"the best pair potential of the others {gain:.2g} times better"
            )
    return None


def _exchanged(numbers: NDArray[np.int64], a: int, b: int) -> NDArray[np.int64]:
    """Each a as b, each b as a."""
    swapped = numbers.copy()
    swapped[numbers == a], swapped[numbers == b] = b, a
    return swapped


def _impossible(sample: Sample, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N,) atoms with more bonds to nonmetals than they can have, or with a contact that no atoms have."""
    graph = sample.graph
    first, second = graph.center.numpy(), graph.neighbor.numpy()
    radii = covalent_radii[numbers]
    ratio = graph.edge_vectors().norm(dim=1).numpy() / (radii[first] + radii[second])
    bonded = (ratio < BOND) & np.isin(numbers[first], NONMETALS) & np.isin(numbers[second], NONMETALS)
    bonds = np.bincount(first[bonded], minlength=len(numbers))
    most = np.array([MOST_BONDS.get(int(z), 99) for z in numbers])
    short = np.bincount(first[ratio < SHORT], minlength=len(numbers)) > 0
    return np.asarray((bonds > most) | short)
