"""Models with weights that no generator of random numbers can change, and the numbers that their equations gave once.

`python tests/golden.py` writes `tests/golden/numbers.json` anew: energies, forces and stress of the plain kernels in
float64, for every value of every switch of both models. Do that when equations change on purpose, and say so.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from mlanet.config import parse
from mlanet.data.atoms import to_graph
from mlanet.graph import AtomicGraph, batch_graphs
from mlanet.models import ModelConfig
from mlanet.potential import Potential
from mlanet.statistics import Statistics

NUMBERS = Path(__file__).parent / "golden" / "numbers.json"

STATISTICS = Statistics((1, 6, 8), (-1.5, -7.25, -11.0), (1.0, 0.8, 1.3), 12.0)

CLOSEST = ((1.2, 1.3, 1.25), (1.3, 1.5, 1.4), (1.25, 1.4, 1.3))
DENSE = dataclasses.replace(STATISTICS, closest=CLOSEST, wall=CLOSEST, crowding=(0.5, 0.6, 0.7))
"""Of a training set whose atoms were less crowded than some of `structures`."""

MLANET = {"model": "mlanet", "irreps": "4x0e+4x1o+4x2e", "layers": 2, "heads": 2, "key_dim": 2, "hidden": 8}
MLANET |= {"radial_functions": 4, "cutoff": 3.5, "repulsion": "none"}
LEIGNN = {"model": "leignn", "channels": 8, "layers": 2, "radial_functions": 4, "cutoff": 3.5, "repulsion": "none"}

SWITCHES: dict[str, dict[str, Any]] = {
    "mlanet": MLANET,
    "mlanet l1": MLANET | {"irreps": "4x0e+4x1o"},
    "mlanet l3": MLANET | {"irreps": "4x0e+4x1o+4x2e+4x3o", "layers": 1, "forces": "direct"},
    "mlanet fctp": MLANET | {"attention": "fctp"},
    "mlanet gatv2": MLANET | {"attention": "gatv2"},
    "mlanet no attention": MLANET | {"attention": "none"},
    "mlanet envelope once": MLANET | {"attention_envelope": "once"},
    "mlanet output gate": MLANET | {"output_gate": "head"},
    "mlanet full": MLANET | {"message": "full"},
    "mlanet sum": MLANET | {"combine": "sum", "gate_channels": 2},
    "mlanet full sum": MLANET | {"combine": "sum", "message": "full"},
    "mlanet radial network, no product": MLANET | {"radial_hidden": [4], "node_product": "none"},
    "mlanet no norm": MLANET | {"norm": "none"},
    "mlanet sum pooling": MLANET | {"pooling": "sum"},
    "mlanet extensive pooling": MLANET | {"pooling": "extensive"},
    "mlanet paper pooling": MLANET | {"pooling": "paper"},
    "mlanet pooling without bound": MLANET | {"pooling_bound": None},
    "mlanet free atom, repulsion": MLANET | {"isolated_atom": "free", "repulsion": "zbl"},
    "mlanet direct": MLANET | {"forces": "direct"},
    "mlanet total charge": MLANET | {"charge": "total"},
    "mlanet whole charge": MLANET | {"charge": "total", "total_charge": "whole"},
    "mlanet bonded": MLANET | {"bonded": "learned"},
    "mlanet atomic charges": MLANET | {"charge": "atomic"},
    "mlanet dispersion": MLANET | {"long_range": "dispersion", "smearing": 0.8},
    "mlanet coulomb": MLANET | {"long_range": "coulomb", "charge_sum": "total", "smearing": 0.8},
    "mlanet periodic elements, bonds": MLANET | {"elements": "periodic", "bond_functions": 3},
    "mlanet crowded": MLANET | {"repulsion": "zbl"},
    "mlanet dipole and polarizability": MLANET | {"outputs": ["dipole", "polarizability"]},
    "mlanet dipole of charges": MLANET | {"outputs": ["dipole"], "long_range": "coulomb", "smearing": 0.8},
    "leignn": LEIGNN,
    "leignn raw bias, repulsion": LEIGNN | {"filter_bias": "raw", "repulsion": "zbl"},
    "leignn no bias, gaussian": LEIGNN | {"filter_bias": "none", "radial_basis": "gaussian"},
    "leignn published": LEIGNN | {"scaling": "published", "invariant": "norm", "isolated_atom": "free"},
    "leignn painn": LEIGNN | {"update": "painn", "invariant": "squared"},
    "leignn global node": LEIGNN | {"global_node": True, "layers": 3},
    "leignn capped": LEIGNN | {"neighbor_cap": 4},
    "leignn direct": LEIGNN | {"forces": "direct"},
    "leignn raw direct": LEIGNN | {"forces": "direct", "remove_net_force": False, "direct_stress": "none"},
    "leignn atomic charges": LEIGNN | {"charge": "atomic"},
    "leignn whole charge": LEIGNN | {"charge": "total", "total_charge": "whole"},
    "leignn total charge": LEIGNN | {"charge": "total"},
    "leignn crowded": LEIGNN | {"repulsion": "zbl"},
    "leignn dipole": LEIGNN | {"outputs": ["dipole"]},
    "leignn both": LEIGNN | {"long_range": "both", "c6": "learned", "smearing": 0.8},
}
"""What every value of every switch is in, each in as few models as can be."""


def model(name: str) -> Potential:
    """One of `SWITCHES`, with weights of numpy's legacy generator, whose numbers never change."""
    config = parse(SWITCHES[name], ModelConfig, name)
    statistics = DENSE if name.endswith("crowded") else STATISTICS
    potential, other = (Potential.build(config, statistics).double().eval() for _ in range(2))
    stream = np.random.RandomState(7)
    with torch.no_grad():
        for one, again in zip(potential.parameters(), other.parameters(), strict=True):
            drawn = torch.from_numpy(stream.standard_normal(tuple(one.shape)))
            # What starts from fixed numbers, such as wave numbers and gains, stays near them.
            start = one if torch.equal(one, again) else torch.zeros_like(one)
            one.copy_(start + drawn * (0.1 if one.dim() < 2 or start is one else 1 / math.sqrt(one.shape[-1])))
    return potential


def structures(potential: Potential) -> AtomicGraph:
    """A skewed crystal, smaller than the cutoff, a charged molecule with short bonds, and an atom alone."""
    cell = [[3.6, 0.0, 0.0], [0.9, 3.4, 0.0], [-0.6, 0.5, 3.8]]
    fractional = [[0.02, 0.05, 0.0], [0.5, 0.45, 0.08], [0.48, 0.1, 0.55], [0.1, 0.55, 0.5]]
    crystal = Atoms("COHC", scaled_positions=fractional, cell=cell, pbc=True)
    molecule = Atoms("OHCH", [[0.1, 0.0, 0.2], [0.7, 0.5, -0.1], [-0.9, 0.6, 0.5], [-1.1, 1.5, 1.1]])
    graph = batch_graphs(
        [to_graph(one, potential.cutoff) for one in (crystal, molecule, Atoms("O", [[1.0, 2.0, 3.0]]))]
    )
    charges = torch.tensor([0.3, -0.2, 0.1, -0.4, 0.5, 0.2, -0.1, 0.3, 0.0], dtype=torch.float64)
    return dataclasses.replace(graph, charge=torch.tensor([1.0, -1.0, 0.0]).to(graph.charge), atomic_charges=charges)


def numbers(potential: Potential) -> dict[str, list[float]]:
    """Energies eV, forces eV/Å, the crystal's stress eV/Å³, dipoles e Å, polarizabilities Å³, flat; NaN as 0."""
    answer = potential(structures(potential))
    found = {"energy": answer.energy, "forces": answer.forces, "stress": answer.stress[0].nan_to_num()}
    more = {"dipole": answer.dipole, "polarizability": answer.polarizability}
    found |= {key: value.nan_to_num() for key, value in more.items() if value is not None}
    return {key: value.flatten().tolist() for key, value in found.items()}


def write() -> None:
    """All of them."""
    NUMBERS.parent.mkdir(exist_ok=True)
    made = {name: numbers(model(name)) for name in SWITCHES}
    NUMBERS.write_text(json.dumps(made, indent=0) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    write()
