"""SchNetPack's PaiNN as a `Model` of ours, so that one run trains and judges it like our own models.

The layers are the package's; references, derivatives, loss and batches are ours. What the package itself needs for
forces and stress is timed from `peers_without_e3nn.py`.

PaiNN: SchNetPack 2.1 (`pip install schnetpack`), MIT licence; its options are those of its documentation: 20 Gaussians,
cosine cutoff, no shared weights.
"""

from __future__ import annotations

import importlib.util

import msgspec
from peers_without_e3nn import schnetpack
from torch import nn

from mlanet.graph import AtomicGraph, ModelOutput


class PaiNNConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="model", tag="painn"
):
    """Sizes of SchNetPack's PaiNN."""

    channels: int = 64
    layers: int = 3
    cutoff: float = 5.0
    radial_functions: int = 20


class PaiNN(nn.Module):
    """SchNetPack's representation with its two-layer readout of the scalars."""

    conservative = True

    def __init__(self, config: PaiNNConfig) -> None:
        super().__init__()
        spk = schnetpack()
        self.config, self.cutoff = config, config.cutoff
        self.representation = spk.representation.PaiNN(
            n_atom_basis=config.channels,
            n_interactions=config.layers,
            radial_basis=spk.nn.GaussianRBF(config.radial_functions, config.cutoff),
            cutoff_fn=spk.nn.CosineCutoff(config.cutoff),
        )
        self.readout = spk.nn.build_mlp(n_in=config.channels, n_out=1, n_layers=2)

    def forward(self, graph: AtomicGraph) -> ModelOutput:
        """Site energies (N,), network units."""
        keys = schnetpack().properties
        inputs = {keys.Z: graph.numbers, keys.Rij: graph.edge_vectors(), keys.idx_i: graph.center}
        inputs[keys.idx_j] = graph.neighbor
        features = self.representation(inputs)["scalar_representation"]
        return ModelOutput(self.readout(features)[:, 0])


def available(name: str) -> bool:
    """Whether a peer can be used here."""
    return name != "painn" or importlib.util.find_spec("schnetpack") is not None
