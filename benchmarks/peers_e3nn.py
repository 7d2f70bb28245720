"""Builders of the peers that are made of e3nn's irreps and tensor products: MACE, NequIP, Allegro, SevenNet."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from peers import SIZES, Pairs, Peer, Request, default_dtype, mode, need, options, results

if TYPE_CHECKING:
    from ase import Atoms
    from peers import Results
    from torch import Tensor

CUEQ = "pip install cuequivariance-torch cuequivariance-ops-torch-cu12 (or -cu13)"
OEQ = "pip install openequivariance"


def mace(given: dict[str, Any], request: Request) -> Peer:
    """MACE (Batatia et al., NeurIPS 2022): mace-torch 0.3.16 on e3nn 0.4.4, MIT licence.

    Options beside the sizes: harmonics=0, their highest degree where it is not l_max (MACE-MP: 3); correlation=3,
    factors in the products of an atom's features; cueq, kernels of cuEquivariance (NVIDIA's own, not free software);
    compile, the package's `mace.tools.compile.prepare` and torch.compile, forces and stress inside the graph; of its
    own accord the package uses this in its calculator only. Compiled anew for a second size, then for all sizes.
    Unlike ours: symmetric products of all messages on an atom, no attention; the last layer keeps scalars only.
    """
    chosen = options(given, **SIZES, harmonics=0, correlation=3, cueq=False, compile=False)
    if chosen.cueq:
        need(request, "mace:cueq", "cuequivariance_ops_torch", CUEQ)
    import numpy as np
    import torch

    torch.serialization.add_safe_globals([slice])  # in the constants of e3nn 0.4.4
    from e3nn import o3
    from mace import modules
    from mace.modules.wrapper_ops import CuEquivarianceConfig
    from mace.tools.compile import prepare

    interaction = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    hidden = o3.Irreps([(chosen.channels, (degree, (-1) ** degree)) for degree in range(chosen.l_max + 1)])
    cueq = {"layout": "ir_mul", "group": "O3_e3nn", "optimize_all": True, "conv_fusion": True}

    def build() -> Any:
        return modules.ScaleShiftMACE(
            r_max=chosen.cutoff,
            num_bessel=8,
            num_polynomial_cutoff=5,
            max_ell=chosen.harmonics or chosen.l_max,
            interaction_cls=interaction,
            interaction_cls_first=interaction,
            num_interactions=chosen.layers,
            num_elements=len(request.species),
            hidden_irreps=hidden,
            MLP_irreps=o3.Irreps("16x0e"),
            atomic_energies=np.zeros((1, len(request.species))),
            avg_num_neighbors=request.neighbours,
            atomic_numbers=list(request.species),
            correlation=chosen.correlation,
            gate=torch.nn.functional.silu,
            radial_MLP=[64, 64, 64],
            atomic_inter_scale=[1.0],
            atomic_inter_shift=[0.0],
            cueq_config=CuEquivarianceConfig(enabled=True, **cueq) if chosen.cueq else None,
        )

    with default_dtype(request.dtype):
        module = (prepare(build) if chosen.compile else build)().to(request.device)
    call = torch.compile(module) if chosen.compile else module  # with frozen weights its forces come out as zeros

    def inputs(graph: Pairs) -> dict[str, Tensor]:
        kinds = torch.nn.functional.one_hot(graph.species(request.species), len(request.species))
        return {
            "positions": graph.positions,
            "cell": graph.cell.reshape(-1, 3),
            "node_attrs": kinds.to(graph.positions.dtype),
            "edge_index": torch.stack([graph.center, graph.neighbor]),
            "unit_shifts": graph.shift,
            "shifts": graph.offsets(),
            "batch": graph.structure,
            "ptr": graph.first,
            "head": torch.zeros_like(graph.atoms),
        }

    def evaluate(inputs: dict[str, Tensor], training: bool) -> Results:
        positions = inputs["positions"].clone().requires_grad_()
        history = training or chosen.compile  # a compiled model can only be run with it
        answer = call(inputs | {"positions": positions}, training=history, compute_force=True, compute_stress=True)
        return results(answer["energy"], answer["forces"], answer["stress"], training)

    return Peer(module, chosen.cutoff, request, inputs, lambda inputs: inputs["edge_index"].shape[1], evaluate)


def nequip(given: dict[str, Any], request: Request) -> Peer:
    """NequIP (Batzner et al., Nat. Commun. 2022): nequip 0.19.1, MIT licence.

    Options beside the sizes: parity, features of both parities for each degree; oeq, kernels of OpenEquivariance (BSD);
    compile, the package's `compile_mode: compile`, a trace of energy and derivatives for all sizes given to
    torch.compile, for inference and training; aoti, what `nequip-compile --mode aotinductor` makes, for inference only.
    The package's compile leaves a batch of one structure uncompiled, so two atoms in a cell of their own ride along
    with it here; their energy, forces and stress are cut off before the loss.
    Unlike ours: messages are summed without attention, and a gate follows each convolution; the package's presets have
    fewer channels for higher degrees.
    """
    chosen = options(given, **SIZES, parity=False, oeq=False, compile=False, aoti=False)
    if chosen.oeq:
        need(request, "nequip:oeq", "openequivariance", OEQ)
    from nequip.utils.global_state import set_global_state

    set_global_state()
    from nequip.model import NequIPGNNModel, modify

    sizes = {"num_layers": chosen.layers, "l_max": chosen.l_max, "num_features": chosen.channels}
    sizes |= {"parity": chosen.parity, "radial_mlp_depth": 2, "radial_mlp_width": 64}
    arguments = sizes | _nequip_arguments(chosen, request)
    if chosen.oeq:
        target = {"_target_": "nequip.model.NequIPGNNModel"}
        module = modify(modifiers=[{"modifier": "enable_OpenEquivariance"}], model=target | arguments)
    else:
        module = NequIPGNNModel(**arguments)
    return _nequip_peer(module, chosen, request, ahead=chosen.aoti)


def allegro(given: dict[str, Any], request: Request) -> Peer:
    """Allegro (Musaelian et al., Nat. Commun. 2023): nequip-allegro 0.8.3 on nequip 0.19.1, MIT licence.

    Options beside the sizes: tensor_channels=0, of the tensors of a pair, where they are not half the channels (which
    are those of its scalars); parity; cueq, contractions by cuEquivariance (see mace); compile (see nequip; not tried).
    Unlike ours: features live on pairs of atoms and nothing is passed on, so that layers do not widen the reach.
    """
    chosen = options(given, **SIZES, tensor_channels=0, parity=False, cueq=False, compile=False)
    if chosen.cueq:
        need(request, "allegro:cueq", "cuequivariance_ops_torch", CUEQ)
    from nequip.utils.global_state import set_global_state

    set_global_state()
    from allegro.model import AllegroModel
    from nequip.model import modify

    embedding = {"_target_": "allegro.nn.TwoBodyBesselScalarEmbed", "num_bessels": 8}
    arguments = _nequip_arguments(chosen, request) | {
        "l_max": chosen.l_max,
        "parity": chosen.parity,
        "radial_chemical_embed": embedding,
        "num_layers": chosen.layers,
        "num_scalar_features": chosen.channels,
        "num_tensor_features": chosen.tensor_channels or max(chosen.channels // 2, 1),
    }
    if chosen.cueq:
        target = {"_target_": "allegro.model.AllegroModel"}
        module = modify(modifiers=[{"modifier": "enable_CuEquivarianceContracter"}], model=target | arguments)
    else:
        module = AllegroModel(**arguments)
    return _nequip_peer(module, chosen, request)


def _nequip_arguments(chosen: SimpleNamespace, request: Request) -> dict[str, Any]:
    from ase.data import chemical_symbols

    return {
        "seed": 1,
        "model_dtype": request.dtype,
        "r_max": chosen.cutoff,
        "type_names": [chemical_symbols[number] for number in request.species],
        "avg_num_neighbors": request.neighbours,
        "per_type_energy_scales": 1.0,
        "per_type_energy_shifts": 0.0,
        "compile_mode": "compile" if chosen.compile else "eager",
    }


def _nequip_peer(module: Any, chosen: SimpleNamespace, request: Request, ahead: bool = False) -> Peer:
    import torch
    from nequip.data import AtomicDataDict as Keys

    module = module.to(request.device)
    call = _NequipAhead(module) if ahead else functools.partial(_nequip_call, module)

    def inputs(graph: Pairs) -> tuple[dict[str, Tensor], int]:
        data = {
            Keys.POSITIONS_KEY: graph.positions,
            Keys.CELL_KEY: graph.cell,
            Keys.EDGE_INDEX_KEY: torch.stack([graph.center, graph.neighbor]),
            Keys.EDGE_CELL_SHIFT_KEY: graph.shift,
            Keys.ATOM_TYPE_KEY: graph.species(request.species),
            Keys.BATCH_KEY: graph.structure,
            Keys.NUM_NODES_KEY: graph.atoms,
        }
        return data, 0

    def evaluate(inputs: tuple[dict[str, Tensor], int], training: bool) -> Results:
        data, extra = inputs
        mode(module, training or chosen.compile)  # one trace serves both: that of training keeps its history
        data = data | {key: data[key].clone() for key in (Keys.POSITIONS_KEY, Keys.CELL_KEY)}
        answer = call(data, training)
        values = [answer[key] for key in (Keys.TOTAL_ENERGY_KEY, Keys.FORCE_KEY, Keys.STRESS_KEY)]
        if extra:
            values = [values[0][:-1], values[1][:-extra], values[2][:-1]]
        return results(*values, training)

    def edges(inputs: tuple[dict[str, Tensor], int]) -> int:
        return int(inputs[0][Keys.EDGE_INDEX_KEY].shape[1]) - inputs[1]

    kind = _Accompanied if chosen.compile else Peer
    return kind(module, chosen.cutoff, request, inputs, edges, evaluate)


class _Accompanied(Peer):
    """A compiled model, which wants at least two structures."""

    def prepare(self, structures: Sequence[Atoms]) -> tuple[dict[str, Tensor], int]:
        """Inputs, and how many atoms in them are not of the structures."""
        if len(structures) > 1:
            return super().prepare(structures)  # type: ignore[no-any-return]
        data, _ = super().prepare([*structures, _companion(structures[0])])
        return data, COMPANIONS


COMPANIONS = 2
"""Atoms, and pairs, of the structure that rides along where a compiled model wants a batch of two."""


def _companion(structure: Atoms) -> Atoms:
    """Two atoms 1.5 Å apart in empty space, of the first element at hand."""
    from ase import Atoms

    return Atoms(structure.numbers[[0, 0]], [[0.0, 0.0, 0.0], [1.5, 0.0, 0.0]], cell=[9.0, 9.0, 9.0])


def _nequip_call(module: Any, data: dict[str, Tensor], training: bool) -> dict[str, Tensor]:
    """The module; once it is compiled, inference keeps no history (the trace has its derivatives inside)."""
    import torch

    compiled = getattr(module, "_compiled_cache", ({},))[0]
    with torch.set_grad_enabled(training or not compiled):
        return module(data)  # type: ignore[no-any-return]


class _NequipAhead:
    """What `nequip-compile --mode aotinductor` does to a model, with its targets `ase` (one structure) and `batch`.

    Compiled at the first call with the weights of that moment, for all numbers of atoms and pairs.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.ready: dict[str, Any] = {}

    def __call__(self, data: dict[str, Tensor], training: bool) -> dict[str, Tensor]:
        from nequip.data import AtomicDataDict as Keys

        if training:
            raise RuntimeError("aoti: nequip-compile is for inference; compile is the package's way in training")
        target = "ase" if len(data[Keys.NUM_NODES_KEY]) == 1 else "batch"
        if target not in self.ready:
            self.ready[target] = self._compile(target, dict(data))
        return self.ready[target](data)  # type: ignore[no-any-return]

    def _compile(self, target: str, data: dict[str, Tensor]) -> Any:
        import tempfile

        import torch
        from nequip.nn.compile import DictInputOutputWrapper
        from nequip.scripts._compile_utils import COMPILE_TARGET_DICT
        from nequip.utils.aot import aot_export_model

        rules = COMPILE_TARGET_DICT[target]
        sizes = {name: torch.export.Dim(f"num_{name}s", min=2) for name in ("graph", "node", "edge")}
        fields = rules["input"], rules["output"]
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/model.nequip.pt2"
            aot_export_model(
                model=copy.deepcopy(self.module),
                device=data[fields[0][0]].device,
                input_fields=fields[0],
                output_fields=fields[1],
                data=rules["data_settings"](data),
                batch_map=rules["batch_map_settings"](sizes),
                output_path=path,
            )
            return DictInputOutputWrapper(torch._inductor.aoti_load_package(path), *fields)


def sevennet(given: dict[str, Any], request: Request) -> Peer:
    """SevenNet (Park et al., J. Chem. Theory Comput. 2024): sevenn 0.13.0, MIT licence.

    Options beside the sizes: parity, features of both parities for each degree; flash, kernels of FlashTP (MIT, from
    its repository); oeq, kernels of OpenEquivariance (BSD); cueq, of cuEquivariance below 0.10 (see mace). Bessel
    functions, XPLOR cutoff and linear self-connection as in SevenNet-0 (which has five layers).
    Unlike ours: NequIP's convolution, without attention; the package differentiates with respect to the pair vectors,
    from which it sums forces and stress.
    """
    chosen = options(given, **SIZES, parity=False, flash=False, oeq=False, cueq=False)
    if chosen.flash:
        need(request, "sevennet:flash", "flashTP_e3nn", "pip install git+https://github.com/SNU-ARC/flashTP")
    if chosen.oeq:
        need(request, "sevennet:oeq", "openequivariance", OEQ)
    if chosen.cueq:
        need(request, "sevennet:cueq", "cuequivariance_ops_torch", CUEQ)
    import sevenn._keys as keys
    import torch
    from sevenn.model_build import build_E3_equivariant_model

    with default_dtype(request.dtype):
        module = build_E3_equivariant_model(_sevennet_configuration(chosen, request))
    module = module.to(request.device, getattr(torch, request.dtype))  # its radial functions are in single precision
    module.set_is_batch_data(True)
    if request.dtype == "float64":
        _in_double(module)
    voigt = torch.tensor([[0, 3, 5], [3, 1, 4], [5, 4, 2]], device=request.device)  # xx yy zz xy yz zx

    def inputs(graph: Pairs) -> dict[str, Tensor]:
        graph.species(request.species)  # refuses what the model does not know
        return {
            keys.NODE_FEATURE: graph.numbers,
            keys.ATOMIC_NUMBERS: graph.numbers,
            keys.POS: graph.positions,
            keys.EDGE_IDX: torch.stack([graph.center, graph.neighbor]),
            keys.EDGE_VEC: graph.positions[graph.neighbor] - graph.positions[graph.center] + graph.offsets(),
            keys.CELL_VOLUME: graph.volumes(),
            keys.NUM_ATOMS: graph.atoms,
            keys.BATCH: graph.structure,
        }

    def evaluate(inputs: dict[str, Tensor], training: bool) -> Results:
        mode(module, training)
        answer = module(inputs | {key: inputs[key].clone() for key in (keys.EDGE_VEC, keys.CELL_VOLUME)})
        stress = -answer[keys.PRED_STRESS][:, voigt]  # the package counts compression as positive
        return results(answer[keys.PRED_TOTAL_ENERGY], answer[keys.PRED_FORCE], stress, training)

    return Peer(module, chosen.cutoff, request, inputs, lambda inputs: inputs[keys.EDGE_IDX].shape[1], evaluate)


def _in_double(module: Any) -> None:
    """Cast the one-hot elements, which the package makes in single precision whatever its layers are in."""
    import torch
    from sevenn.nn.node_embedding import OnehotEmbedding

    def cast(layer: Any, given: Any, data: dict[str, Tensor]) -> None:
        for key in (layer.key_output, layer.key_additional_output):
            if key is not None:
                data[key] = data[key].to(torch.float64)

    for layer in module.modules():
        if isinstance(layer, OnehotEmbedding):
            layer.register_forward_hook(cast)


def _sevennet_configuration(chosen: SimpleNamespace, request: Request) -> dict[str, Any]:
    import sevenn._keys as keys
    from sevenn._const import DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG

    return copy.deepcopy(DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG) | {
        keys.CUTOFF: chosen.cutoff,
        keys.NODE_FEATURE_MULTIPLICITY: chosen.channels,
        keys.LMAX: chosen.l_max,
        keys.IS_PARITY: chosen.parity,
        keys.NUM_CONVOLUTION: chosen.layers,
        keys.NUM_SPECIES: len(request.species),
        keys.TYPE_MAP: {number: place for place, number in enumerate(request.species)},
        keys.CONV_DENOMINATOR: float(request.neighbours),
        keys.SHIFT: 0.0,
        keys.SCALE: 1.0,
        keys.SELF_CONNECTION_TYPE: "linear",
        keys.RADIAL_BASIS: {keys.RADIAL_BASIS_NAME: "bessel", "bessel_basis_num": 8},
        keys.CUTOFF_FUNCTION: {keys.CUTOFF_FUNCTION_NAME: "XPLOR", "cutoff_on": chosen.cutoff - 0.5},
        keys.USE_FLASH_TP: chosen.flash,
        keys.USE_OEQ: chosen.oeq,
        keys.CUEQUIVARIANCE_CONFIG: {"use": True} if chosen.cueq else {},
    }
