"""A potential as a file for the native engine: weights as they are, constants of the weights folded in."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import msgspec
import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from mlanet.ambient import usual_torch
from mlanet.checkpoint import copied
from mlanet.config import to_data
from mlanet.crowding import NEAREST
from mlanet.errors import CheckpointError, ConfigError
from mlanet.files import write_whole
from mlanet.graph import AtomicGraph
from mlanet.models.mlanet import MLANet, MLANetConfig
from mlanet.native.file import pack
from mlanet.native.potential import of_statistics
from mlanet.nn.dual_path import InteractionLayer
from mlanet.nn.floor import SLACK, STIFFNESS, WIDTH, DistanceFloor
from mlanet.nn.radial import RadialMLP
from mlanet.ops.cpp.calls import MAX_DEPTH
from mlanet.ops.node_product.reference import terms
from mlanet.ops.tensor_product import couplings
from mlanet.potential import Potential
from mlanet.units import COULOMB_CONSTANT
from mlanet.version import __version__

Tensors = dict[str, Tensor]

SUPPORTED = {
    "attention": ("tp_dot",),
    "pooling": ("local", "sum"),
    "forces": ("gradient",),
    "charge": ("none",),
    "long_range": ("none",),
    "outputs": ((),),
}
"""Settings of MLANet of which the engine knows some values only."""


def obstacle(potential: Potential) -> str:
    """Why there is no native form of a potential, naming the setting; empty where there is one."""
    config = potential.model.config
    if not isinstance(config, MLANetConfig):
        return f"the native engine knows MLANet; this is a model of type {type(potential.model).__name__}"
    for key, known in SUPPORTED.items():
        if (value := getattr(config, key)) not in known:
            there = " or ".join("none" if one == () else str(one) for one in known)
            shown = ", ".join(value) if isinstance(value, tuple) else value
            return f"the native engine knows {key}: {there}; this model has {key}: {shown}"
    if config.message == "full" and config.combine == "sum":
        return "the native engine knows message: full with combine: product only; this model has combine: sum"
    if len(config.radial_hidden) >= MAX_DEPTH:
        return f"the native engine knows radial_hidden of {MAX_DEPTH - 1} widths at most, this model has more"
    if potential.dtype not in (torch.float32, torch.float64):
        return f"the native engine knows float32 and float64, this model is in {potential.dtype}".replace("torch.", "")
    return ""


def export_native(potential: Potential, path: str | os.PathLike[str], digest: str | None = None) -> None:
    """Write a file for the native engine, whole or not at all.

    Args:
        potential: as it is to compute, in the precision of its weights.
        path: conventionally `NAME.mlanet`.
        digest: of the model file that it came from; None: one of its own configuration and weights.
    Raises:
        ConfigError: a model that the engine does not know; the message says which setting.
        CheckpointError: the file cannot be written.
    """
    data = native_bytes(potential, digest)
    try:
        write_whole(path, data)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}") from error


@usual_torch()
def native_bytes(potential: Potential, digest: str | None = None) -> bytes:
    """What `export_native` writes.

    Raises:
        ConfigError: a model that the engine does not know.
    """
    if found := obstacle(potential):
        raise ConfigError(found)
    model = potential.model
    assert isinstance(model, MLANet)
    tensors = {name: one.detach().cpu() for name, one in _tensors(model, potential).items()}
    header = _header(potential, model.config, digest or _digest(potential))
    told, beside = of_statistics(potential.statistics, potential.domain)
    return pack(header | told, {name: np.asarray(one) for name, one in tensors.items()} | beside)


def _header(potential: Potential, config: MLANetConfig, digest: str) -> dict[str, Any]:
    statistics = potential.statistics
    settings = to_data(config) | {
        "l_max": config.l_max,
        "channels": config.channels,
        "mean_neighbors": float(statistics.mean_neighbors),
        "wall": config.repulsion == "zbl",
        "floor": getattr(potential.model, "floor", None) is not None,
    }
    return {
        "model": "mlanet",
        "version": __version__,
        "digest": digest,
        "units": {"energy": "eV", "length": "Å"},
        "elements": [chemical_symbols[z] for z in statistics.species],
        "species": list(statistics.species),
        "cutoff": float(config.cutoff),
        "precision": str(potential.dtype).removeprefix("torch."),
        "settings": settings,
    }


def _digest(potential: Potential) -> str:
    """sha256 of configuration, statistics and weights."""
    text = json.dumps([to_data(potential.model.config), msgspec.to_builtins(potential.statistics)], sort_keys=True)
    sha = hashlib.sha256(text.encode())
    for name, one in sorted(potential.state_dict().items()):
        sha.update(name.encode() + np.asarray(one.detach().cpu()).tobytes())
    return sha.hexdigest()


def _tensors(model: MLANet, potential: Potential) -> Tensors:
    """Everything of the model, by the names that cpp/mlanet_model.hpp reads."""
    config, rows = model.config, torch.arange(model.n_species, device=potential.device)
    found: Tensors = {"embedding": model.embedding(rows), "sender": model.sender(rows)}
    found["radial.wave_numbers"] = model.radial.wave_numbers
    if (bonds := model.bonds) is not None:
        found |= {"bonds.centers": bonds.centers, "bonds.radius": bonds.log_radius.exp()}
        found["bonds.spread"] = torch.tensor([bonds.spread], dtype=torch.float64)
    found |= _radial("directions", model.directions.radial)
    for k, layer in enumerate(model.layers):
        assert isinstance(layer, InteractionLayer)
        found |= {f"layers.{k}.{name}": one for name, one in _layer(layer).items()}
    if config.message == "full":
        found |= {f"couplings.{name}": one for name, one in couplings(config.l_max, torch.float64)._asdict().items()}
    if config.node_product == "uuu":
        for name, l_out in (("terms", config.l_max), ("last_terms", 0)):
            table = terms(config.l_max, l_out, torch.float64)._asdict()
            found |= {f"{name}.{part}": one for part, one in table.items()}
    if model.bonded is not None:
        found["bonded"] = model.bonded.shift
    return found | _readout(model) | _references(model, potential) | _wall(model, potential)


def _radial(name: str, network: RadialMLP) -> Tensors:
    return {f"{name}.{k}": layer for k, layer in enumerate(network.weights)}


def _layer(layer: InteractionLayer) -> Tensors:
    attention = layer.attention
    weights, logits = attention.message_weights(), attention.logits
    assert logits is not None
    found = {
        "chemical": weights.chemical,
        "gates.weight": weights.gates,
        "gates.bias": weights.gates_bias,
        "logits.weight": weights.logits,
        "logits.bias": weights.logits_bias,
        "log_temperature": weights.log_temperature,
        **{f"radial.{k}": one for k, one in enumerate(weights.mlp)},
        "value": attention.value.weight,
        "query": logits.query.weight,
        "key": logits.key.weight,
        "near.weight": attention.chemical.neighbor.weight,
        "here.weight": attention.chemical.center.weight,
        "here.bias": attention.chemical.center.bias,
        "mix": layer.mix.weight,
        "update_in": layer.update.linear_in.weight,
        "update_out": layer.update.linear_out.weight,
    }
    if layer.update.gates is not None:
        found |= {"update_gates.weight": layer.update.gates.weight, "update_gates.bias": layer.update.gates.bias}
    if layer.attention_norm is not None:
        found["attention_norm"] = layer.attention_norm.gain
    if layer.product is not None:
        found |= {"product": layer.product.path_weights, "product_linear": layer.product.linear.weight}
    if layer.product_norm is not None:
        found["product_norm"] = layer.product_norm.gain
    return found


def _readout(model: MLANet) -> Tensors:
    first, last = _ends(model)
    return {
        "readout.first.weight": first.weight,
        "readout.first.bias": first.bias,
        "readout.last.weight": last.weight,
        "readout.last.bias": last.bias,
    }


def _ends(model: MLANet) -> tuple[nn.Linear, nn.Linear]:
    """Both layers of the read-out of each atom."""
    readout = getattr(model.pooling, "readout", None)
    assert isinstance(readout, nn.Sequential)
    first, last = readout[0], readout[-1]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    return first, last


def _references(model: MLANet, potential: Potential) -> Tensors:
    """References and scales, and what the network says of a lone atom of each element, float64."""
    exact = copied(potential).to(device="cpu", dtype=torch.float64).with_kernels("plain")
    assert isinstance(exact.model, MLANet)
    seen: list[Tensor] = []
    _, last = _ends(exact.model)
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    with torch.no_grad():
        exact.model(_lone_atoms(potential.species, model.cutoff))
        hook.remove()
        features = seen[0][: len(potential.species)]
        energies = last(features)[:, 0]
    free = model.config.isolated_atom == "free"
    return {
        "references": potential.references,
        "scale": potential.scale,
        "lone_energies": torch.zeros_like(energies) if free else energies,
        "lone_features": features,
    }


def _lone_atoms(species: tuple[int, ...], cutoff: float) -> AtomicGraph:
    """One structure of one atom for each element."""
    n = len(species)
    none = torch.zeros(0, dtype=torch.int64)
    return AtomicGraph(
        positions=torch.zeros(n, 3, dtype=torch.float64),
        numbers=torch.tensor(species),
        cell=torch.zeros(n, 3, 3, dtype=torch.float64),
        pbc=torch.zeros(n, 3, dtype=torch.bool),
        center=none,
        neighbor=none,
        shift=torch.zeros(0, 3, dtype=torch.int64),
        structure=torch.arange(n),
        n_structures=n,
        cutoff=cutoff,
        charge=torch.zeros(n, dtype=torch.float64),
    )


def _wall(model: MLANet, potential: Potential) -> Tensors:
    """Repulsion, and the floor of distances, float64."""
    if (repulsion := model.repulsion) is None:
        return {}
    of_elements = repulsion.atoms[list(potential.species)]
    found = {
        "wall.closest": repulsion.reach,
        "wall.charge": of_elements[:, 0],
        "wall.decay": of_elements[:, 1],
        "wall.screening": repulsion.screening,
        "wall.coulomb": torch.tensor([COULOMB_CONSTANT], dtype=torch.float64),
    }
    if isinstance(model.floor, DistanceFloor):
        numbers = (float(model.floor.most), SLACK, WIDTH, STIFFNESS, NEAREST)
        found["wall.floor"] = torch.tensor(numbers, dtype=torch.float64)
    return found
