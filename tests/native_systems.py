"""Potentials with lively weights and statistics of everything, and how far two answers lie apart."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import torch
from ase import Atoms
from systems import SPECIES, SYSTEMS

from mlanet.config import preset_names
from mlanet.data.atoms import to_graph
from mlanet.graph import AtomicGraph, Prediction, batch_graphs
from mlanet.models import read_model_config
from mlanet.native.export import obstacle
from mlanet.potential import Potential
from mlanet.statistics import Statistics

CROWDED = Atoms("CHOCHOCH", np.random.default_rng(0).random((8, 3)) * 2.4, cell=2.4 * np.eye(3), pbc=True)
"""More crowded and nearer than any training set."""
NEAR = Atoms("HCO", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.86], [0.5, 0.8, 0.2]])
"""Atoms a little nearer than the closest distance of their elements, where the ramp begins."""
EVERY = {**SYSTEMS, "crowded": CROWDED, "near": NEAR}


def statistics(species: tuple[int, ...] = SPECIES) -> Statistics:
    """References, scales and walls that differ from element to element."""
    n = len(species)
    wall = tuple(tuple(0.9 + 0.05 * (i + j) for j in range(n)) for i in range(n))
    references, scale = tuple(-3.0 - k for k in range(n)), tuple(1.0 + 0.3 * k for k in range(n))
    return Statistics(species, references, scale, 14.3, wall=wall, closest=wall, crowding=(0.3,) * n)


def potential(
    preset: str, dtype: torch.dtype = torch.float64, of: Statistics | None = None, **changes: Any
) -> Potential:
    """Of random weights; a learned shift of bonded atoms is none of zeros."""
    torch.manual_seed(3)
    config = msgspec.structs.replace(read_model_config(preset), **changes)
    found = Potential.build(config, of or statistics()).to(dtype=dtype).eval()
    if getattr(found.model, "bonded", None) is not None:
        torch.nn.init.normal_(found.model.bonded.shift)
    return found


def batch(cutoff: float) -> AtomicGraph:
    """All systems in one."""
    return batch_graphs([to_graph(one, cutoff) for one in EVERY.values()])


def supported_presets() -> list[str]:
    """Those that the engine knows; how many layers they have says nothing about it."""
    return [name for name in preset_names() if not obstacle(potential(name, layers=1))]


def apart(found: Prediction, expected: Prediction) -> dict[str, float]:
    """Largest difference of every kind of number, relative to the largest one of its structure's kind."""
    differences = {}
    for name, one in expected.tensors().items():
        other, one = getattr(found, name).nan_to_num(), one.nan_to_num()
        assert torch.equal(getattr(found, name).isnan(), getattr(expected, name).isnan()), name
        differences[name] = float((one - other).abs().max()) / max(1.0, float(one.abs().max()))
    return differences
