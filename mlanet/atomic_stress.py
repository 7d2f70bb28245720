"""Stress of single atoms: the share of each atom in the virial of its structure, over the volume of the whole cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlanet.arrays import AnswerArrays, Floats
from mlanet.errors import ConfigError, GeometryError
from mlanet.native import NativePotential

if TYPE_CHECKING:
    from mlanet.execution import Answering


def atomic_stresses(answering: Answering, graph: Any, said: AnswerArrays | None = None) -> Floats:
    """σ_i = (1/V) · sym(Σ_j r_ij ⊗ ∂E/∂r_ij) over the pairs that send to atom i, so that Σ_i σ_i = σ.

    V is the volume of the whole cell, as in ASE's own calculators. With V_i the share of an atom in the volume, by
    whatever construction, its local stress is σ_i V / V_i. As with site energies, the division among atoms is one of
    many; a strain ε_i of the pairs of atom i alone defines this one, σ_i = (1/V) ∂E/∂ε_i. It costs one more
    step where virials of atoms do not come with the forces, as they do from the native engine.

    Args:
        answering: what computes, with torch or without.
        graph: as that takes it, of a batch too.
        said: of this graph already, if anything; its virials are taken where it has them.
    Returns:
        (N, 3, 3) eV/Å³, symmetric, tension positive, in the order of the atoms.
    Raises:
        ConfigError: direct forces, or a long-range term, which is no sum over neighbours.
        GeometryError: without a periodic direction or a volume.
    """
    if obstacle := stresses_obstacle(answering):
        raise ConfigError(obstacle)
    given = graph.arrays()
    if not given.has_stress().all():
        raise GeometryError("stress needs a periodic direction and a cell with a volume")
    if said is not None and said.atomic_virials is not None:
        return shares(said.atomic_virials, given.volumes[given.structure])
    answering.require_supported(graph)
    if isinstance(answering, NativePotential):
        virials = answering.atomic_virials(given)
    else:
        from mlanet.atomic_virials import atomic_virials

        virials = atomic_virials(answering, graph)
    return shares(virials, given.volumes[given.structure])


def shares(virials: Floats, volumes: Floats) -> Floats:
    """Of virials (N, 3, 3) eV and the volumes (N,) Å³ of the cells that the atoms are in: stresses (N, 3, 3) eV/Å³."""
    symmetric: Floats = 0.5 * (virials + virials.transpose(0, 2, 1))
    return symmetric / volumes[:, None, None]


def stresses_obstacle(answering: Answering) -> str:
    """Why a model has no stress of single atoms, or nothing."""
    if not answering.conservative:
        return "direct forces are the gradient of no energy, so that atoms have no share in a virial"
    if answering.beyond_cutoff:
        return "the long-range term of this model is no sum over neighbours, so that atoms have no share in its virial"
    return ""
