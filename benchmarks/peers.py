"""Other packages' models behind our own interface, so that one run trains, judges and times them all alike.

A peer is a `Model` (graph -> site energies) around the package's own layers; references, derivatives, loss and batches
are ours. `speed.py` also times the package's own path to forces and stress.

PaiNN: SchNetPack 2.1 (`pip install schnetpack`), MIT licence; its options are those of its documentation: 20 Gaussians,
cosine cutoff, no shared weights.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

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


def painn_itself(config: PaiNNConfig, graph: AtomicGraph) -> tuple[nn.Module, Callable[[], tuple[Tensor, ...]]]:
    """The whole of SchNetPack's own model, and a call of it that gives E, F and σ of the graph's structures."""
    spk = schnetpack()
    keys = spk.properties
    model = spk.model.NeuralNetworkPotential(
        representation=PaiNN(config).representation,
        input_modules=[spk.atomistic.Strain(), spk.atomistic.PairwiseDistances()],
        output_modules=[
            spk.atomistic.Atomwise(n_in=config.channels, output_key="energy"),
            spk.atomistic.Forces(calc_forces=True, calc_stress=True, energy_key="energy", force_key="forces"),
        ],
    ).float()
    offsets = torch.einsum("ea,eab->eb", graph.shift.float(), graph.cell.float()[graph.structure[graph.center]])

    def call() -> tuple[Tensor, ...]:
        inputs = {keys.Z: graph.numbers, keys.R: graph.positions.float().clone(), keys.cell: graph.cell.float().clone()}
        inputs |= {keys.offsets: offsets.clone(), keys.idx_i: graph.center, keys.idx_j: graph.neighbor}
        inputs |= {
            keys.idx_m: graph.structure,
            keys.n_atoms: graph.atoms_per_structure(),
            keys.pbc: graph.pbc.flatten(),
        }
        found = model(inputs)
        return found["energy"], found["forces"], found["stress"]

    return model, call


def available(name: str) -> bool:
    """Whether a peer can be used here."""
    return name != "painn" or importlib.util.find_spec("schnetpack") is not None


def schnetpack() -> Any:
    """The package; 2.1.1 imports a name that torch 2.12 dropped, so it is put back first."""
    import torch.utils.data.dataloader as loader

    if not hasattr(loader, "T_co"):
        from typing import TypeVar

        loader.T_co = TypeVar("T_co", covariant=True)  # type: ignore[attr-defined]
    import schnetpack as spk
    import schnetpack.properties

    return spk
