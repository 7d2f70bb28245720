"""Forces and stress against the best pair potential: a check that needs no two frames alike.

A pair potential φ with φ'(d) = Σ_k c_k g_k(d) has forces and stress that are linear in c,

    F_i = Σ_j φ'(d_ij) r̂_ij,      σ = (1 / 2V) Σ_ij φ'(d_ij) d_ij r̂_ij ⊗ r̂_ij,

so c follows from the forces by least squares, and the stress it implies can be compared with the labels. No material
is held together by pairs alone, but in every one the fit explains a good part of the forces and of the shear stress;
shuffled forces are explained by nothing, and a stress of opposite sign is anticorrelated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from mlanet.data.samples import Sample

N_BASIS = 8
"""Gaussians in the distance over the sum of covalent radii."""
MAX_PAIR_TYPES = 6
"""With more pairs of elements than this, one potential in reduced distances serves for all."""
MAX_EDGES = 400_000
"""Enough of them; the first frames are taken."""
SMALL_FORCE = 0.01
"""eV/Å; frames with smaller forces are at rest by symmetry and say nothing."""
EXPLAINED = 0.1
"""Correlation with the fit below which forces are not forces: 0.18 to 0.99 in some thirty real sets, 0.01 to 0.08 after
shuffling (more in very small sets, for which the number of parameters is allowed for)."""
TRUSTED = 0.4
"""Correlation of the forces from which on the fit may judge the stress."""


class PairFit(NamedTuple):
    """How well the best pair potential explains a set."""

    force_correlation: float
    n_force: int
    """Force components."""
    n_parameters: int
    expected: NDArray[np.float64]
    """(S, 3, 3) stress by the pair potential, of the frames that have one."""
    stress: NDArray[np.float64]
    """(S, 3, 3) stress by the labels, of the same frames."""

    @property
    def unexplained(self) -> bool:
        """Whether the forces have nothing to do with the structures."""
        noise = 3 * self.n_parameters / max(self.n_force, 1)
        return self.n_force >= 20 * self.n_parameters and self.force_correlation < (EXPLAINED**2 + noise) ** 0.5

    @property
    def n_shear(self) -> int:
        """How many frames speak of the stress, if the fit may be asked at all."""
        return len(self.stress) if self.force_correlation > TRUSTED else 0

    def support(self, tensors: NDArray[np.float64], sign: int = 1) -> float:
        """Log-likelihood of a stress, read in some order and sign, given that of the fit; pressure is left out.

        −n/2 · log(1 − r²) for the three shears and for the two differences of the diagonal, each with its own scale,
        where r > 0; n is half the number of components, since frames are seldom independent. Frames of large stress
        are weighted down, so that no single one decides.
        """
        total = 0.0
        size = np.linalg.norm(_shear(tensors), axis=1)
        weight = (1 / (size + np.median(size) + 1e-300))[:, None, None]
        mine, theirs = self.expected * weight, tensors * weight
        for expected, fitted in ((_off(mine), _off(theirs)), (_uniaxial(mine), _uniaxial(theirs))):
            r = sign * _correlation(expected.ravel(), fitted.ravel())
            if np.isfinite(r) and r > 0:
                total -= 0.25 * expected.size * np.log(max(1 - r**2, 1e-3))
        return float(total)


def pair_fit(samples: Sequence[Sample]) -> PairFit:
    """Fit the best pair potential to the forces of a set, and compare forces and shear stress with it.

    Only the shear stress is compared, because what pairs miss (a metal's embedding energy) acts mostly on pressure.
    """
    elements = sorted({int(z) for sample in samples for z in sample.graph.numbers.unique().tolist()})
    kinds = _pair_kinds(elements)
    design, forces, virials, stresses = [], [], [], []
    edges = 0
    for sample in samples:
        force = sample.labels.forces.numpy()
        size = float(np.sqrt(np.mean(force**2)))
        if sample.graph.n_edges == 0 or not np.isfinite(size) or size < SMALL_FORCE:
            continue
        if edges > MAX_EDGES:
            break
        edges += sample.graph.n_edges
        columns, virial = _columns(sample, kinds)
        design.append(columns)
        forces.append(force.ravel())
        stress = sample.labels.stress[0].numpy()
        if np.isfinite(stress).all():
            virials.append(virial)
            stresses.append(stress)
    none = np.zeros((0, 3, 3))
    if not design:
        return PairFit(np.nan, 0, 1, none, none)
    matrix, target = np.concatenate(design), np.concatenate(forces)
    solution = solved(matrix, target)
    expected = np.stack(virials) @ solution if virials else none
    labels = np.stack(stresses) if stresses else none
    return PairFit(_correlation(matrix @ solution, target), len(target), len(solution), expected, labels)


def solved(matrix: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares with a ridge far below what the data determine."""
    normal = matrix.T @ matrix
    ridge = 1e-6 * np.trace(normal) / len(normal) + 1e-300
    return np.asarray(np.linalg.solve(normal + ridge * np.eye(len(normal)), matrix.T @ target))


def design_of(sample: Sample, elements: list[int], numbers: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """(3 N, K) forces that each function of the basis gives, for the atoms as they are or taken for others."""
    return _columns(sample, _pair_kinds(elements), numbers)[0]


def forces_allowed(sample: Sample) -> NDArray[np.bool_]:
    """(N,) whether the environment of an atom leaves it free to have a force: pair forces need not cancel."""
    if not sample.graph.n_edges:
        return np.zeros(sample.graph.n_atoms, dtype=bool)
    forces, _ = _columns(sample, _pair_kinds([]))
    size = np.abs(forces).reshape(sample.graph.n_atoms, -1).max(axis=1, initial=0.0)
    return np.asarray(size > 1e-2)


def _pair_kinds(elements: list[int]) -> NDArray[np.int64]:
    """(120, 120) which potential serves for a pair of atomic numbers."""
    kinds = np.zeros((120, 120), dtype=np.int64)
    if len(elements) * (len(elements) + 1) // 2 <= MAX_PAIR_TYPES:
        pairs = [(a, b) for k, a in enumerate(elements) for b in elements[k:]]
        for kind, (a, b) in enumerate(pairs):
            kinds[a, b] = kinds[b, a] = kind
    return kinds


def _columns(
    sample: Sample, kinds: NDArray[np.int64], taken_for: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(3 N, K) forces and (3, 3, K) stress that each function of the basis gives for c_k = 1."""
    graph = sample.graph
    center, neighbor = graph.center.numpy(), graph.neighbor.numpy()
    numbers = graph.numbers.numpy() if taken_for is None else taken_for
    vectors = graph.edge_vectors().numpy()
    distance = np.linalg.norm(vectors, axis=1)
    unit = vectors / distance[:, None]
    reduced = distance / (covalent_radii[numbers[center]] + covalent_radii[numbers[neighbor]])
    centers = np.linspace(0.7, 2.2, N_BASIS)
    basis = np.exp(-0.5 * ((reduced[:, None] - centers) / (centers[1] - centers[0])) ** 2)
    basis *= 0.5 * (1 + np.cos(np.pi * np.minimum(distance / graph.cutoff, 1.0)))[:, None]
    by_kind = np.zeros((len(distance), int(kinds.max()) + 1, N_BASIS))
    by_kind[np.arange(len(distance)), kinds[numbers[center], numbers[neighbor]]] = basis
    wide = by_kind.reshape(len(distance), -1)
    force = np.zeros((graph.n_atoms, 3, wide.shape[1]))
    np.add.at(force, center, unit[:, :, None] * wide[:, None, :])
    volume = float(graph.volume()[0]) or 1.0
    virial = np.einsum("ea,eb,ek->abk", vectors, unit, wide, optimize=True) / (2 * volume)
    return force.reshape(-1, wide.shape[1]), virial


def _shear(stress: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S, 3, 3) -> (S, 5): what is left of a stress without its pressure."""
    return np.concatenate([_off(stress), _uniaxial(stress)], axis=1)


def _off(stress: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S, 3, 3) -> (S, 3): yz, xz, xy."""
    return np.stack([stress[:, 1, 2], stress[:, 0, 2], stress[:, 0, 1]], axis=1)


def _uniaxial(stress: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S, 3, 3) -> (S, 2): xx − zz, yy − zz."""
    return np.stack([stress[:, 0, 0] - stress[:, 2, 2], stress[:, 1, 1] - stress[:, 2, 2]], axis=1)


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Correlation through the origin, NaN where one of the two vanishes."""
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 0 else np.nan
