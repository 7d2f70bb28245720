"""The peers as potentials of ours, so that one loop trains and judges them like our own models.

    E = Σᵢ E₀[Zᵢ] + s E_peer,  F = s F_peer,  σ = s σ_peer

with references E₀ and scale s fitted to the training set as for our own models, and the mean number of neighbours
given to the package. Layers, derivatives and initial weights are the package's; pairs come from our data sets, so that
no time goes into a search for neighbours.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from environments import python
from peers import PEERS, SIZES, Pairs, Peer, Request
from torch import Tensor, nn

from mlanet.graph import AtomicGraph, Prediction
from mlanet.ops.segment import segment_sum
from mlanet.potential import has_stress
from mlanet.statistics import Statistics

ALIKE = 1e-6
"""Å; below it a lattice vector counts as none."""


@dataclass(frozen=True)
class PeerConfig:
    """Name in the table of peers, and the options that its builder gets."""

    name: str
    options: dict[str, Any]

    @property
    def cutoff(self) -> float:
        """Å."""
        return float(self.options.get("cutoff", SIZES["cutoff"]))

    @property
    def home(self) -> Path | None:
        """The interpreter of the peer's environment; None if this is it, or if there is none."""
        path = python(PEERS[self.name].environment)
        return path if path.exists() and path.parents[1].resolve() != Path(sys.prefix).resolve() else None


class TrainablePeer(nn.Module):
    """A peer with references and a scale: `AtomicGraph -> Prediction`, in training mode with history."""

    references: Tensor
    species_index: Tensor

    def __init__(self, peer: Peer, statistics: Statistics) -> None:
        super().__init__()
        self.module = peer.module
        self.peer = peer
        self.scale = statistics.scale[0]  # one for all elements
        index = torch.full((256,), -1, dtype=torch.int64)
        index[list(statistics.species)] = torch.arange(len(statistics.species))
        self.register_buffer("species_index", index, persistent=False)
        references = torch.tensor(statistics.references, dtype=torch.float64)
        self.register_buffer("references", references, persistent=False)

    @classmethod
    def build(cls, config: PeerConfig, statistics: Statistics) -> TrainablePeer:
        """An untrained one in float32; RuntimeError where its package is missing."""
        request = Request(statistics.species, statistics.mean_neighbors)
        try:
            return cls(PEERS[config.name].build(config.options, request), statistics)
        except ImportError as error:
            made_by = f"python benchmarks/environments.py {config.name}"
            raise RuntimeError(f"{config.name}: {error}; {made_by} makes a place for it") from error

    def forward(self, graph: AtomicGraph) -> Prediction:
        """Energy (S,) eV in float64, forces (N, 3) eV/Å, stress (S, 3, 3) eV/Å³, NaN where it has no meaning.

        A peer has no energies of single atoms here: those of the prediction are the references.
        """
        graph = graph.to(dtype=torch.float32)
        energy, forces, stress = self.peer.evaluate(self.peer.inputs(as_pairs(graph)), self.training)
        atomic = self.references[self.species_index[graph.numbers]]
        total = segment_sum(atomic, graph.structure, graph.n_structures) + self.scale * energy.double()
        known = has_stress(graph)[:, None, None]
        stress = torch.where(known, self.scale * stress, torch.full_like(stress, torch.nan))
        prediction = Prediction(total, self.scale * forces, stress, atomic)
        return prediction if self.training else prediction.detach()


def as_pairs(graph: AtomicGraph) -> Pairs:
    """A batch of ours as the peers' builders want it.

    Lattice vectors that are not there are unit vectors here, since packages divide by the volume: 0 / 0 would reach
    every weight through the derivatives, used or not.
    """
    atoms = graph.atoms_per_structure()
    absent = graph.cell.norm(dim=2) < ALIKE
    return Pairs(
        positions=graph.positions.to(graph.dtype),
        cell=(graph.cell + torch.diag_embed(absent.to(graph.cell.dtype))).to(graph.dtype),
        pbc=graph.pbc,
        numbers=graph.numbers,
        structure=graph.structure,
        atoms=atoms,
        first=torch.cat([atoms.new_zeros(1), atoms.cumsum(0)]),
        center=graph.center,
        neighbor=graph.neighbor,
        shift=graph.shift.to(graph.dtype),
    )
