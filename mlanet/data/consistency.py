"""Do energies, forces and stresses belong together? Finite work between neighbouring frames says so, units and sign.

Between two frames A, B of the same atoms, on the straight path in fractional coordinates s and strain ε,

    E_B − E_A ≈ − Σ_i ½ (F_A cell_A + F_B cell_B)_i · (s_B − s_A)_i + ½ (V_A σ_A + V_B σ_B) : ε

which is exact for a harmonic crystal and good to third order for any other. A label in the wrong unit or with the
wrong sign changes one of the two terms by a known factor, and the factor that explains the energies best gives it away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlanet.data.samples import Sample
from mlanet.units import (
    BOHR_IN_ANGSTROM,
    EV_PER_CUBIC_ANGSTROM_IN_GPA,
    EV_PER_CUBIC_ANGSTROM_IN_KBAR,
    HARTREE_IN_EV,
    KCAL_PER_MOL_IN_EV,
)

MAX_DISPLACEMENT = 0.35
"""Å, root mean square; frames further apart say little about derivatives."""
MAX_STRAIN = 0.12
MIN_PAIRS = 6
MANY_PAIRS = 20
"""So many are needed to say that forces explain nothing at all."""
DECISIVE = 0.4
"""A factor is suspected when its squared misfit is below this fraction of that of the labels as they are."""
UNRELATED = 0.3
"""Correlation of work and energy below which they have nothing to do with each other."""
FAR_OFF = 8.0
"""Ratio of magnitudes beyond which it is a matter of units and not of anharmonicity."""
MAX_FRAMES = 100
"""Frames per composition that are searched for neighbours (time grows with the square)."""

_FORCE_FACTORS = {
    1.0: "",
    -1.0: "the forces have the opposite sign (they look like the gradient)",
    1 / HARTREE_IN_EV: "the energies seem to be in hartree",
    -1 / HARTREE_IN_EV: "the energies seem to be in hartree and the forces of opposite sign",
    HARTREE_IN_EV / BOHR_IN_ANGSTROM: "the forces seem to be in hartree/bohr",
    -HARTREE_IN_EV / BOHR_IN_ANGSTROM: "the forces seem to be in hartree/bohr, with the opposite sign",
    HARTREE_IN_EV: "the forces seem to be in hartree/Å",
    KCAL_PER_MOL_IN_EV: "the forces seem to be in kcal/mol/Å",
    1 / KCAL_PER_MOL_IN_EV: "the energies seem to be in kcal/mol",
}
_STRESS_FACTORS = {
    1.0: "",
    -1.0: "the stress has the opposite sign (tension must be positive)",
    1 / EV_PER_CUBIC_ANGSTROM_IN_GPA: "the stress seems to be in GPa",
    -1 / EV_PER_CUBIC_ANGSTROM_IN_GPA: "the stress seems to be in GPa with the opposite sign",
    1 / EV_PER_CUBIC_ANGSTROM_IN_KBAR: "the stress seems to be in kbar",
    -1 / EV_PER_CUBIC_ANGSTROM_IN_KBAR: "the stress seems to be in kbar with the opposite sign (as VASP prints it)",
}


class Work(NamedTuple):
    """Energy differences of pairs of neighbouring frames and what forces and stress say of them, eV."""

    energy: NDArray[np.float64]
    force: NDArray[np.float64]
    stress: NDArray[np.float64]
    """NaN where a pair has no stress labels."""
    strained: NDArray[np.bool_]
    """Whether the cell changes between the two."""


class _Frame(NamedTuple):
    """What of a sample the work needs, as arrays."""

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]


class Verdict(NamedTuple):
    """Suspicions in words, and how many pairs they rest on."""

    suspicions: list[str]
    pairs: int
    strained_pairs: int


def judge(samples: Sequence[Sample]) -> Verdict:
    """Unit and sign suspicions for forces, energies and stress of a set.

    Where cells repeat, the forces are judged alone; the stress then explains what they leave of the energies of
    strained pairs. Where every frame has its own cell, both factors are sought together.
    """
    work = finite_work(samples)
    rigid = ~work.strained
    usable = work.strained & np.isfinite(work.stress)
    n_rigid, n_strained = int(rigid.sum()), int(usable.sum())
    suspicions: list[str] = []
    if n_rigid >= MIN_PAIRS:
        a = _factor(work.energy[rigid], work.force[rigid], _FORCE_FACTORS)
        b = None
        if a is not None and n_strained >= MIN_PAIRS:
            left = work.energy[usable] - a * work.force[usable]
            b = _factor(left, work.stress[usable], _STRESS_FACTORS)
    elif n_strained >= MIN_PAIRS:
        a, b = _both_factors(work.energy[usable], work.force[usable], work.stress[usable])
    else:
        return Verdict([], n_rigid, n_strained)
    source = f"(from the energies of {n_rigid + n_strained} pairs of neighbouring frames)"
    if a is None:
        suspicions.append(
            "the forces do not explain the energies: shuffled, of another level of theory, or not their derivative "
            + source
        )
    elif n_strained >= MIN_PAIRS and b is None:
        suspicions.append(f"the stress does not explain the energies of strained frames {source}")
    for text in (_FORCE_FACTORS[a] if a else "", _STRESS_FACTORS[b] if b else ""):
        if text:
            suspicions.append(f"{text} {source}")
    return Verdict(suspicions, n_rigid, n_strained)


def _factor(energy: NDArray[np.float64], work: NDArray[np.float64], factors: dict[float, str]) -> float | None:
    """The factor of `factors` between work and energy: 1 unless clearly another; None where nothing fits.

    The sign comes from the correlation through the origin, the unit from the ratio of the magnitudes, which also
    far-apart (anharmonic) pairs give to within a factor of two or three.
    """
    weight = 1.0 / (np.abs(energy) + np.abs(energy).mean() + 1e-12)
    x, y = work * weight, energy * weight
    norm = float(np.sqrt((x**2).sum() * (y**2).sum()))
    if norm == 0:
        return 1.0
    correlation = float((x * y).sum()) / norm
    if abs(correlation) < UNRELATED:
        return None if len(energy) >= MANY_PAIRS else 1.0
    if abs(correlation) < 2.0 / np.sqrt(len(energy)):
        return 1.0
    ratio = float(np.sqrt((y**2).sum() / (x**2).sum()))
    signed = [factor for factor in factors if factor * correlation > 0]
    if 1 / FAR_OFF < ratio < FAR_OFF:
        return 1.0 if correlation > 0 else -1.0
    return min(signed, key=lambda factor: abs(np.log(abs(factor) / ratio)))


def _both_factors(
    energy: NDArray[np.float64], force: NDArray[np.float64], stress: NDArray[np.float64]
) -> tuple[float | None, float | None]:
    """The pair (a, b) in ΔE = a W_F + b W_σ that fits best, (1, 1) unless another is decisively better."""
    weight = 1.0 / (np.abs(energy) + np.abs(energy).mean() + 1e-12)

    def misfit(a: float, b: float) -> float:
        return float((((energy - a * force - b * stress) * weight) ** 2).sum())

    trials = [(a, b) for a in _FORCE_FACTORS for b in _STRESS_FACTORS]
    a, b = min(trials, key=lambda factors: misfit(*factors))
    best = misfit(a, b)
    if a != 1 and best > DECISIVE * min(misfit(0.0, b), misfit(1.0, b)):
        a = 1.0
    if b != 1 and best > DECISIVE * misfit(a, 1.0):
        b = 1.0
    if b == 1:  # a small stress term behind anharmonic forces still shows its sign by correlation
        b = _factor(energy - a * force, stress, _STRESS_FACTORS) or 1.0
    if len(energy) >= MANY_PAIRS and misfit(a, b) > (1 - UNRELATED**2) * misfit(0.0, 0.0):
        return None, None
    return a, b


def finite_work(samples: Sequence[Sample]) -> Work:
    """Trapezoid work of forces and of stress between neighbouring frames with the same atoms, cells and charge."""
    classes: dict[object, list[_Frame]] = defaultdict(list)
    for sample in samples:
        graph, labels = sample.graph, sample.labels
        complete = bool(labels.energy.isfinite().all()) and bool(labels.forces.isfinite().all())
        if not complete or graph.n_atoms < 2:
            continue
        key = (graph.numbers.numpy().tobytes(), tuple(graph.pbc[0].tolist()), float(graph.charge[0]))
        classes[key].append(
            _Frame(
                float(labels.energy[0]),
                labels.forces.numpy(),
                labels.stress[0].numpy(),
                graph.positions.numpy(),
                graph.cell[0].numpy(),
                graph.pbc[0].numpy(),
            )
        )
    rows = [row for frames in classes.values() for row in _class_work(frames)]
    columns = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return Work(columns[:, 0], columns[:, 1], columns[:, 2], columns[:, 3] > 0)


def _class_work(frames: list[_Frame]) -> list[tuple[float, float, float, bool]]:
    """(ΔE, work of forces, work of stress, strained) of neighbouring pairs of one composition."""
    rows = [_pair_work(frames[first], frames[second]) for first, second in _neighbouring(frames)]
    return [row for row in rows if row is not None]


def _neighbouring(frames: list[_Frame]) -> list[tuple[int, int]]:
    """Pairs worth comparing: consecutive frames, and for frames spread over the set the two nearest others."""
    step = max(1, len(frames) // MAX_FRAMES)
    chosen = list(range(0, len(frames), step))
    pairs = {(k, k + 1) for k in chosen if k + 1 < len(frames)}
    places = np.stack([_place(frames[k]) for k in chosen])
    cells = np.stack([frames[k].cell for k in chosen])
    wraps = frames[0].pbc & all(_full(frames[k]) for k in chosen)
    for row, k in enumerate(chosen):
        steps = places - places[row]
        if wraps.any():
            steps = (steps - np.where(wraps, np.round(steps - steps[:, :1]), 0.0)) @ frames[k].cell
        steps = steps - steps.mean(axis=1, keepdims=True)
        distance = np.sqrt((steps**2).sum(axis=2).mean(axis=1)) + 0.3 * np.abs(cells - cells[row]).max(axis=(1, 2))
        distance[row] = np.inf
        pairs |= {(min(k, chosen[m]), max(k, chosen[m])) for m in np.argsort(distance)[:2] if m != row}
    return sorted(pairs)


def _place(frame: _Frame) -> NDArray[np.float64]:
    """Fractional coordinates where there is a cell to a periodic structure, else Å."""
    if frame.pbc.any() and _full(frame):
        return np.asarray(np.linalg.solve(frame.cell.T, frame.positions.T).T, dtype=np.float64)
    return frame.positions


def _displacement(a: _Frame, b: _Frame) -> NDArray[np.float64]:
    """(N, 3) Å, from a to b at the cell of a, by nearest image, without the common translation."""
    if a.pbc.any() and _full(a) and _full(b):
        steps = _place(b) - _place(a)
        steps -= np.where(a.pbc, np.round(steps - steps[0]), 0.0)
        steps -= steps.mean(axis=0)
        return np.asarray(steps @ a.cell)
    moved = b.positions - a.positions
    return np.array(moved - moved.mean(axis=0), dtype=np.float64)


def _full(frame: _Frame) -> bool:
    """Whether all three cell vectors span a volume."""
    return bool(abs(np.linalg.det(frame.cell)) > 1e-6)


def _pair_work(a: _Frame, b: _Frame) -> tuple[float, float, float, bool] | None:
    """ΔE, works and whether strained, or None for frames too far apart."""
    if not a.pbc.any():
        b = _aligned(a, b)
    displacement = _displacement(a, b)
    if np.sqrt((displacement**2).sum(axis=1).mean()) > MAX_DISPLACEMENT:
        return None
    deformation: NDArray[np.float64] = np.eye(3)
    if a.pbc.any() and _full(a) and _full(b):
        deformation = np.asarray(np.linalg.solve(a.cell, b.cell), dtype=np.float64)
        if np.abs(deformation - np.eye(3)).max() > MAX_STRAIN:
            return None
    elif not np.allclose(a.cell, b.cell) and a.pbc.any():
        return None
    strain = 0.5 * (deformation + deformation.T) - np.eye(3)
    force = -0.5 * float((a.forces * displacement).sum() + (b.forces * (displacement @ deformation)).sum())
    virial = a.stress * abs(np.linalg.det(a.cell)) + b.stress * abs(np.linalg.det(b.cell))
    strained = bool(np.abs(strain).max() > 1e-6)
    return b.energy - a.energy, force, 0.5 * float((virial * strain).sum()), strained


def _aligned(a: _Frame, b: _Frame) -> _Frame:
    """A molecule turned onto another (Kabsch), its forces with it."""
    here, there = a.positions - a.positions.mean(axis=0), b.positions - b.positions.mean(axis=0)
    u, _, vt = np.linalg.svd(there.T @ here)
    turn = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    return b._replace(positions=there @ turn, forces=b.forces @ turn)
