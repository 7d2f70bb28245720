"""Finite work between neighbouring frames: what forces and stress say of the difference of two energies.

Between two frames A, B of the same atoms, on the straight path in fractional coordinates s and strain ε,

    E_B − E_A ≈ − Σ_i ½ (F_A cell_A + F_B cell_B)_i · (s_B − s_A)_i + ½ (V_A σ_A + V_B σ_B) : ε

which is exact for a harmonic crystal and good to third order for any other. The difference of the two ends,
½ (F_A − F_B) · Δ, is the work of the curvature; what the trapezoid misses is a fraction of that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlanet.data.samples import Sample
from mlanet.data.stiffness import Bonds, bonds_of

Array = NDArray[np.float64]

MAX_DISPLACEMENT = 0.35
"""Å, root mean square; frames further apart say little about derivatives."""
MAX_STRAIN = 0.12
MAX_FRAMES = 100
"""Frames per composition that are searched for neighbours (time grows with the square)."""


class Pairs(NamedTuple):
    """Pairs of neighbouring frames (P of them) and the works between them, in the units of the labels."""

    first: NDArray[np.int64]
    """Index of the frame A among the samples."""
    second: NDArray[np.int64]
    n_atoms: NDArray[np.int64]
    energy: Array
    """E_B − E_A."""
    force: Array
    """Trapezoid work of the forces."""
    bend: Array
    """½ (F_A − F_B) · Δ: the work of the curvature, positive near a minimum."""
    spring: Array
    """½ Σ k (Δ_ij · r̂_ij)² over bonds, eV: what `mlanet.data.stiffness` expects of it."""
    strain: Array
    """(P, 3, 3)."""
    virial: Array
    """(P, 3, 3) ½ (V_A σ_A + V_B σ_B); NaN where a frame has no stress."""
    change: Array
    """(P, 3, 3) ½ (V_A σ_A − V_B σ_B)."""
    volume: Array
    """Å³, mean of the two; NaN without a cell."""

    @property
    def strained(self) -> NDArray[np.bool_]:
        """Whether the cell changes between the two."""
        return np.asarray(np.abs(self.strain).reshape(len(self.energy), 9).max(axis=1, initial=0.0) > 1e-6)

    @property
    def frames(self) -> int:
        """How many frames take part."""
        return len(np.union1d(self.first, self.second))

    def chosen(self, which: NDArray[np.bool_]) -> Pairs:
        """Some of the pairs."""
        return Pairs._make(values[which] for values in self)

    def stress_work(self, virial: Array) -> Array:
        """Work of a (P, 3, 3) virial over the strain of each pair."""
        return np.einsum("pab,pab->p", virial, self.strain)


class _Frame(NamedTuple):
    """What of a sample the work needs, as arrays."""

    place: int
    energy: float
    forces: Array
    stress: Array
    positions: Array
    cell: Array
    pbc: NDArray[np.bool_]
    bonds: Bonds


def neighbouring_pairs(samples: Sequence[Sample]) -> Pairs:
    """Pairs of frames with the same atoms, periodicity and charge that lie close enough for the trapezoid."""
    classes: dict[object, list[_Frame]] = defaultdict(list)
    for index, sample in enumerate(samples):
        graph, labels = sample.graph, sample.labels
        complete = bool(labels.energy.isfinite().all()) and bool(labels.forces.isfinite().all())
        if not complete or graph.n_atoms < 2:
            continue
        key = (graph.numbers.numpy().tobytes(), tuple(graph.pbc[0].tolist()), float(graph.charge[0]))
        classes[key].append(
            _Frame(
                index,
                float(labels.energy[0]),
                labels.forces.numpy(),
                labels.stress[0].numpy(),
                graph.positions.numpy(),
                graph.cell[0].numpy(),
                graph.pbc[0].numpy(),
                bonds_of(sample),
            )
        )
    rows = [row for frames in classes.values() for row in _class_pairs(frames)]
    if not rows:
        empty, square = np.zeros(0), np.zeros((0, 3, 3))
        none = np.zeros(0, dtype=np.int64)
        return Pairs(none, none, none, empty, empty, empty, empty, square, square, square, empty)
    return Pairs._make(np.array(column) for column in zip(*rows, strict=True))


def _class_pairs(frames: list[_Frame]) -> list[tuple[object, ...]]:
    """The rows of neighbouring pairs of one composition."""
    rows = [_pair(frames[first], frames[second]) for first, second in _neighbouring(frames)]
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


def _place(frame: _Frame) -> Array:
    """Fractional coordinates where there is a cell to a periodic structure, else Å."""
    if frame.pbc.any() and _full(frame):
        return np.asarray(np.linalg.solve(frame.cell.T, frame.positions.T).T, dtype=np.float64)
    return frame.positions


def _displacement(a: _Frame, b: _Frame) -> Array:
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


def _pair(a: _Frame, b: _Frame) -> tuple[object, ...] | None:
    """One row of `Pairs`, or None for frames too far apart, or the same."""
    if not a.pbc.any():
        b = _aligned(a, b)
    displacement = _displacement(a, b)
    if np.sqrt((displacement**2).sum(axis=1).mean()) > MAX_DISPLACEMENT:
        return None
    deformation: Array = np.eye(3)
    if a.pbc.any() and _full(a) and _full(b):
        deformation = np.asarray(np.linalg.solve(a.cell, b.cell), dtype=np.float64)
        if np.abs(deformation - np.eye(3)).max() > MAX_STRAIN:
            return None
    elif not np.allclose(a.cell, b.cell) and a.pbc.any():
        return None
    strain = 0.5 * (deformation + deformation.T) - np.eye(3)
    if np.abs(displacement).max() < 1e-6 and np.abs(strain).max() < 1e-7:
        return None
    here, there = -float((a.forces * displacement).sum()), -float((b.forces * (displacement @ deformation)).sum())
    volumes = abs(np.linalg.det(a.cell)), abs(np.linalg.det(b.cell))
    return (
        a.place,
        b.place,
        len(a.forces),
        b.energy - a.energy,
        0.5 * (here + there),
        0.5 * (there - here),
        a.bonds.energy(displacement),
        strain,
        0.5 * (a.stress * volumes[0] + b.stress * volumes[1]),
        0.5 * (a.stress * volumes[0] - b.stress * volumes[1]),
        0.5 * sum(volumes) if a.pbc.any() else np.nan,
    )


def _aligned(a: _Frame, b: _Frame) -> _Frame:
    """A molecule turned onto another (Kabsch), its forces with it."""
    here, there = a.positions - a.positions.mean(axis=0), b.positions - b.positions.mean(axis=0)
    u, _, vt = np.linalg.svd(there.T @ here)
    turn = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    return b._replace(positions=there @ turn, forces=b.forces @ turn)
