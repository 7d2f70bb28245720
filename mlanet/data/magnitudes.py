"""Suspicions from single frames: sizes that only a wrong unit explains, and forces that break a conservation law."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import covalent_radii

from mlanet.data.pairwise import forces_allowed
from mlanet.data.samples import Sample
from mlanet.data.stiffness import NOBLE
from mlanet.graph import AtomicGraph
from mlanet.units import BOHR_IN_ANGSTROM

STRESS_RATIO = 5.0
"""Median of shear stress × V / (√N · force · 2.5 Å): 0.08 to 0.8 in every set tried (metals, ionic, covalent,
molecular, hot and cold); 160 times that in GPa, 1602 times in kbar."""
WORK_PER_ATOM = 40.0
"""eV; median |σ| V / N beyond this is not eV/Å³ (at most 3 in the sets tried)."""
UNBALANCED = 0.5
"""Net force or torque of a frame relative to that of independent random forces."""
FAR_APART = 1.4
"""Median over frames of the shortest distance over the sum of covalent radii; 0.6 to 1.2 in ångström."""
HUGE_FORCE = 200.0
"""eV/Å."""
CLOSE = 0.5
"""Å; shorter than any bond (H–H is 0.74)."""


def suspicious_stress(samples: Sequence[Sample]) -> list[str]:
    """Stress in GPa or kbar, told by its size beside the forces, or beside the energy that an atom can hold."""
    ratios, works = [], []
    for sample in samples:
        stress = sample.labels.stress[0].numpy()
        if not np.isfinite(stress).all():
            continue
        n, volume = sample.graph.n_atoms, float(sample.graph.volume()[0])
        works.append(volume * np.abs(stress).max() / n)
        forces = sample.labels.forces.numpy()
        size = float(np.sqrt(np.mean(forces**2)))
        if np.isfinite(size) and size > 0.1 and n > 1:
            shear = stress - np.trace(stress) / 3 * np.eye(3)
            ratios.append(volume * float(np.sqrt(np.mean(shear**2))) / (np.sqrt(n) * size * 2.5))
    ratio = float(np.median(ratios)) if len(ratios) >= 5 else 0.0
    work = float(np.median(works)) if works else 0.0
    if ratio < STRESS_RATIO and work < WORK_PER_ATOM:
        return []
    unit = "kbar" if ratio > 20 * STRESS_RATIO or work > 10 * WORK_PER_ATOM else "GPa"
    return [
        f"the stress seems to be in {unit}: it is far too large for eV/Å³ beside the forces and volumes "
        "(a virial in eV taken for a stress would look the same)"
    ]


def suspicious_forces(samples: Sequence[Sample]) -> list[str]:
    """Forces that do not sum to zero, or turn a free molecule: shuffled, or columns of something else."""
    net = [value for sample in samples if (value := _net_force(sample)) is not None]
    suspicions = []
    if net and float(np.median(net)) > UNBALANCED:
        suspicions.append(
            f"the forces do not sum to zero in {int(np.sum(np.array(net) > UNBALANCED))} of {len(net)} frames: "
            "shuffled, incomplete, or not forces"
        )
    turning = [value for sample in samples if (value := _net_torque(sample)) is not None]
    if turning and float(np.median(turning)) > UNBALANCED:
        suspicions.append(
            f"the forces exert a torque on the free molecule in {int(np.sum(np.array(turning) > UNBALANCED))} of "
            f"{len(turning)} frames: shuffled, of another frame or orientation, or not forces"
        )
    largest = max((float(s.labels.forces.nan_to_num(0).norm(dim=1).max()) for s in samples), default=0.0)
    if largest > HUGE_FORCE:
        suspicions.append(f"the largest force is {largest:.3g} eV/Å")
    return suspicions


def suspicious_zeros(samples: Sequence[Sample]) -> list[str]:
    """Forces of exactly zero where no symmetry makes them so: not computed, or taken away by a constraint."""
    whole, single, first = [], 0, ""
    for sample in samples:
        forces = sample.labels.forces.numpy()
        zero = (forces == 0).all(axis=1)
        if len(forces) < 2 or not zero.any():
            continue
        allowed = zero & forces_allowed(sample)
        if zero.all() and allowed.any():
            whole.append(sample)
        elif allowed.any():
            single += int(allowed.sum())
            first = first or f"atom {int(allowed.argmax())} in {sample.where}"
    suspicions = []
    if whole:
        suspicions.append(
            f"the forces are all exactly zero in {len(whole)} of {len(samples)} frames, where no symmetry makes them "
            f"so (e.g. {whole[0].where}): not computed"
        )
    if single:
        suspicions.append(
            f"the forces of {single} atom(s) are exactly zero where no symmetry makes them so (e.g. {first}): taken "
            "away by a constraint, or not computed"
        )
    return suspicions


def looks_like_bohr(samples: Sequence[Sample]) -> str | None:
    """Positions (and cells) in bohr: nowhere are two atoms as near as a bond.

    Frames of one or two atoms and noble gases say nothing.
    """
    nearest = []
    for sample in samples:
        graph = sample.graph
        numbers = graph.numbers.numpy()
        if graph.n_atoms < 3 or np.isin(numbers, NOBLE).any():
            continue
        radii = covalent_radii[numbers]
        if graph.n_edges:
            sums = radii[graph.center.numpy()] + radii[graph.neighbor.numpy()]
            nearest.append(float((graph.edge_vectors().norm(dim=1).numpy() / sums).min()))
        else:
            nearest.append(graph.cutoff / (2 * float(radii.max())))
    if len(nearest) < 5 or np.median(nearest) < FAR_APART or np.quantile(nearest, 0.1) < 0.93 * FAR_APART:
        return None
    middle = float(np.median(nearest))
    return (
        f"the positions seem to be in bohr: the nearest atoms are {middle:.2f} times the sum of their covalent radii "
        f"apart (median of {len(nearest)} frames; 0.6 to 1.2 in ångström, {middle * BOHR_IN_ANGSTROM:.2f} if in bohr)"
    )


def suspicious_distances(samples: Sequence[Sample]) -> list[str]:
    """Atoms closer than any bond."""
    close = [(distance, sample.where) for sample in samples if (distance := shortest(sample.graph)) < CLOSE]
    if not close:
        return []
    distance, where = min(close)
    return [f"{len(close)} frame(s) have atoms closer than {CLOSE} Å; the closest, {distance:.3f} Å, in {where}"]


def shortest(graph: AtomicGraph) -> float:
    """The shortest distance of a graph, Å; infinity without edges."""
    return float(graph.edge_vectors().norm(dim=1).min()) if graph.n_edges else float("inf")


def _net_force(sample: Sample) -> float | None:
    """|Σ F| over that of random forces of the same size; None where forces are absent or vanish."""
    forces = sample.labels.forces.numpy()
    size = float(np.sqrt((forces**2).sum()))
    if not np.isfinite(size) or size < 1e-3 or len(forces) < 2:
        return None
    return float(np.linalg.norm(forces.sum(axis=0))) / size


def _net_torque(sample: Sample) -> float | None:
    """|Σ r × F| over that of random forces; None for periodic structures and dimers."""
    forces, graph = sample.labels.forces.numpy(), sample.graph
    if bool(graph.pbc.any()) or graph.n_atoms < 3:
        return None
    arms = graph.positions.numpy() - graph.positions.numpy().mean(axis=0)
    torques = np.cross(arms, forces)
    size = float(np.sqrt((torques**2).sum()))
    if not np.isfinite(size) or size < 1e-3:
        return None
    return float(np.linalg.norm(torques.sum(axis=0))) / size
