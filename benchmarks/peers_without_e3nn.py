"""Builders of the peers with Cartesian features, PaiNN and TensorNet, and with rotations into a pair's frame, eSEN."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from peers import SIZES, Pairs, Peer, Request, frozen, mode, options, results

if TYPE_CHECKING:
    from peers import Results
    from torch import Tensor

CARTESIAN = {name: size for name, size in SIZES.items() if name != "l_max"}


def schnetpack() -> Any:
    """The package; 2.1.1 imports a name that torch 2.12 dropped, so it is put back first."""
    import torch.utils.data.dataloader as loader

    if not hasattr(loader, "T_co"):
        from typing import TypeVar

        loader.T_co = TypeVar("T_co", covariant=True)  # type: ignore[attr-defined]
    import schnetpack as spk
    import schnetpack.properties

    return spk


def painn(given: dict[str, Any], request: Request) -> Peer:
    """PaiNN (Schütt et al., ICML 2021): SchNetPack 2.1.1, MIT licence.

    Options: the sizes without l_max (the published model has three layers), and radial_functions=20 Gaussians.
    Unlike ours: scalars and vectors only, l = 1; after each sum of messages the vectors of an atom are multiplied with
    each other, no attention. The package's stress supposes a right-handed cell.
    """
    chosen = options(given, **CARTESIAN, radial_functions=20)
    import torch

    spk = schnetpack()
    keys = spk.properties
    module = spk.model.NeuralNetworkPotential(
        representation=spk.representation.PaiNN(
            n_atom_basis=chosen.channels,
            n_interactions=chosen.layers,
            radial_basis=spk.nn.GaussianRBF(chosen.radial_functions, chosen.cutoff),
            cutoff_fn=spk.nn.CosineCutoff(chosen.cutoff),
        ),
        input_modules=[spk.atomistic.Strain(), spk.atomistic.PairwiseDistances()],
        output_modules=[
            spk.atomistic.Atomwise(n_in=chosen.channels, output_key="energy"),
            spk.atomistic.Forces(calc_forces=True, calc_stress=True, energy_key="energy", force_key="forces"),
        ],
    ).to(request.device, getattr(torch, request.dtype))

    def inputs(graph: Pairs) -> dict[str, Tensor]:
        return {
            keys.Z: graph.numbers,
            keys.R: graph.positions,
            keys.cell: graph.cell,
            keys.pbc: graph.pbc.flatten(),
            keys.offsets: graph.offsets(),
            keys.idx_i: graph.center,
            keys.idx_j: graph.neighbor,
            keys.idx_m: graph.structure,
            keys.n_atoms: graph.atoms,
        }

    def evaluate(inputs: dict[str, Tensor], training: bool) -> Results:
        mode(module, training)
        answer = module(inputs | {key: inputs[key].clone() for key in (keys.R, keys.cell, keys.offsets)})
        return results(answer["energy"], answer["forces"], answer["stress"], training)

    return Peer(module, chosen.cutoff, request, inputs, lambda inputs: len(inputs[keys.idx_i]), evaluate)


def tensornet(given: dict[str, Any], request: Request) -> Peer:
    """TensorNet (Simeon and De Fabritiis, NeurIPS 2023): TorchMD-Net 3.1.0, MIT licence.

    Options: the sizes without l_max, radial_functions=32, and warp, the package's kernels in NVIDIA Warp
    (Apache licence; on CPUs too), which it takes by itself wherever warp-lang is installed.
    Unlike ours: 3 × 3 matrices, that is degrees 0, 1 and 2 at once, multiplied with each other; a pair of each atom
    with itself besides the pairs counted here. The package differentiates with respect to positions only, so the
    strain enters the pair vectors here, and forces and stress come from one call of autograd.
    """
    chosen = options(given, **CARTESIAN, radial_functions=32, warp=False)
    import torch

    _warp_kernels(chosen.warp)
    from torchmdnet.models.model import create_model

    module = create_model(
        {
            "model": "tensornet",
            "embedding_dimension": chosen.channels,
            "num_layers": chosen.layers,
            "num_rbf": chosen.radial_functions,
            "rbf_type": "expnorm",
            "trainable_rbf": False,
            "activation": "silu",
            "cutoff_lower": 0.0,
            "cutoff_upper": chosen.cutoff,
            "max_z": 100,
            "max_num_neighbors": 128,  # of the package's own search, which is not used
            "equivariance_invariance_group": "O(3)",
            "static_shapes": False,
            "precision": 32 if request.dtype == "float32" else 64,
            "derivative": False,
            "atom_filter": -1,
            "prior_model": None,
            "output_model": "Scalar",
            "reduce_op": "sum",
        }
    ).to(request.device)
    module.representation_model.distance = given_pairs = _given_pairs()

    def evaluate(graph: Pairs, training: bool) -> Results:
        mode(module, training)
        positions = graph.positions.clone().requires_grad_()
        strain = torch.zeros_like(graph.cell, requires_grad=True)
        symmetric = (strain + strain.transpose(1, 2)) / 2
        vectors = positions[graph.neighbor] - positions[graph.center] + graph.offsets()
        given_pairs.hold(graph, vectors + torch.einsum("ea,eab->eb", vectors, symmetric[graph.structure[graph.center]]))
        energy = module(graph.numbers, positions, graph.structure)[0]
        forces, virial = torch.autograd.grad(energy.sum(), [positions, strain], create_graph=training)
        return results(energy, -forces, virial / graph.volumes()[:, None, None], training)

    def inputs(graph: Pairs) -> Pairs:
        return graph

    return Peer(module, chosen.cutoff, request, inputs, lambda graph: len(graph.center), evaluate)


def _warp_kernels(wanted: bool) -> None:
    """The package's own kernels, or the torch functions that it falls back to where Warp cannot be imported."""
    from torchmdnet.models import tensornet as layers

    if wanted and not layers.OPT:
        raise RuntimeError("tensornet:warp: TorchMD-Net cannot import its kernels; pip install warp-lang")
    if not wanted:
        layers.OPT = False
        for name in ("compose_tensor", "decompose_tensor", "tensor_matmul_o3", "tensor_matmul_so3"):
            setattr(layers, name, getattr(layers, f"_{name}"))


def _given_pairs() -> Any:
    """In the place of TorchMD-Net's neighbour search: the pairs at hand, and every atom with itself at distance 0."""
    import torch

    class GivenPairs(torch.nn.Module):
        def hold(self, graph: Pairs, vectors: Tensor) -> None:
            atoms = torch.arange(len(graph.numbers), device=vectors.device)
            self.index = torch.stack([torch.cat([graph.center, atoms]), torch.cat([graph.neighbor, atoms])])
            zeros = vectors.new_zeros(len(atoms), 3)
            self.vectors = torch.cat([vectors, zeros])
            self.lengths = torch.cat([vectors.norm(dim=1), zeros[:, 0]])

        def forward(self, *ignored: Any) -> tuple[Tensor, Tensor, Tensor]:
            return self.index, self.lengths, self.vectors

    return GivenPairs()


def esen(given: dict[str, Any], request: Request) -> Peer:
    """eSEN (Fu et al., ICML 2025), as the eSCN-MD backbone with an energy head: fairchem-core 2.24.0, MIT licence.

    Options beside the sizes: m_max=2, the highest order kept in a pair's frame (never above l_max); compile,
    torch.compile with dynamic shapes as in the package's `InferenceSettings(compile=True)`, which is for inference
    only. The package's Triton kernels, for inference of merged l_max=2 models only, are left out.
    Unlike ours: features are rotated into the frame of each pair, where the convolution is one over SO(2), and are
    normalised in each layer; total charge and spin enter as embeddings (zero here).
    """
    chosen = options(given, **SIZES, m_max=2, compile=False)
    import torch
    from fairchem.core.datasets.atomic_data import AtomicData
    from fairchem.core.models.uma.escn_md import MLP_EFS_Head, eSCNMDBackbone

    backbone = eSCNMDBackbone(
        max_num_elements=100,
        sphere_channels=chosen.channels,
        lmax=chosen.l_max,
        mmax=min(chosen.l_max, chosen.m_max),
        otf_graph=False,
        cutoff=chosen.cutoff,
        edge_channels=chosen.channels,
        num_distance_basis=64,
        num_layers=chosen.layers,
        hidden_channels=chosen.channels,
        norm_type="rms_norm_sh",
        act_type="gate",
        ff_type="spectral",
        direct_forces=False,
        regress_forces=True,
        regress_stress=True,
        use_dataset_embedding=False,
        always_use_pbc=False,
    )
    module = torch.nn.ModuleDict({"backbone": backbone, "head": MLP_EFS_Head(backbone, wrap_property=False)})
    module = module.to(request.device, getattr(torch, request.dtype))
    call = _esen_compiled(module) if chosen.compile else functools.partial(_esen_call, module)

    def inputs(graph: Pairs) -> Any:
        nothing, neutral = torch.zeros_like(graph.numbers), torch.zeros_like(graph.atoms)
        return AtomicData(
            pos=graph.positions,
            atomic_numbers=graph.numbers,
            cell=graph.cell,
            pbc=graph.pbc,
            natoms=graph.atoms,
            edge_index=torch.stack([graph.neighbor, graph.center]),
            cell_offsets=graph.shift,
            nedges=torch.bincount(graph.structure[graph.center], minlength=len(graph.atoms)),
            charge=neutral,
            spin=neutral,
            fixed=nothing,
            tags=nothing,
            batch=graph.structure,
            sid=[""] * len(graph.atoms),
        )

    def evaluate(inputs: Any, training: bool) -> Results:
        if chosen.compile and training:
            raise RuntimeError("esen:compile is for inference: fairchem compiles no training step")
        mode(module, training)
        data = copy.copy(inputs)  # the model writes into what it is given
        data.__keys__ = set(inputs.__keys__)
        data.pos, data.cell = inputs.pos.clone(), inputs.cell.clone()
        answer = call(data)
        return results(answer["energy"], answer["forces"], answer["stress"], training)

    return Peer(module, chosen.cutoff, request, inputs, lambda inputs: inputs.edge_index.shape[1], evaluate)


def _esen_call(module: Any, data: Any) -> Any:
    return module["head"](data, module["backbone"](data))


def _esen_compiled(module: Any) -> Callable[[Any], Any]:
    """As in `MLIPPredictUnit`: frozen weights, no symbolic numbers but sizes."""
    import torch

    torch._dynamo.config.recompile_limit = 32
    torch._dynamo.config.specialize_float = True
    fixed = frozen(module).eval()
    return torch.compile(lambda data: _esen_call(fixed, data), dynamic=True)
