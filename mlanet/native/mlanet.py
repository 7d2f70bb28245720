"""What a native file holds of MLANet, by the names that cpp/mlanet_model.hpp reads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mlanet.models.mlanet import MLANet
from mlanet.native.file import NEWEST, OLDEST
from mlanet.nn.dual_path import InteractionLayer
from mlanet.nn.radial import RadialMLP
from mlanet.ops.cpp.calls import MAX_DEPTH
from mlanet.ops.node_product.reference import terms
from mlanet.ops.tensor_product import couplings
from mlanet.statistics import Statistics

Tensors = dict[str, Tensor]

SUPPORTED: dict[str, tuple[Any, ...]] = {
    "attention": ("tp_dot", "none"),
    "pooling": ("local", "sum"),
    "forces": ("gradient",),
    "charge": ("none",),
    "long_range": ("none",),
    "outputs": ((),),
}
"""Settings of MLANet of which the engine knows some values only."""


def obstacle(model: MLANet) -> str:
    """What beyond `SUPPORTED` stands against a native form; empty where nothing does."""
    config = model.config
    if config.message == "full" and config.combine == "sum":
        return "the native engine knows message: full with combine: product only; this model has combine: sum"
    if len(config.radial_hidden) >= MAX_DEPTH:
        return f"the native engine knows radial_hidden of {MAX_DEPTH - 1} widths at most, this model has more"
    return ""


def file_version(model: MLANet) -> int:
    """The newest where older engines would pass over a setting that they do not know, and answer something else."""
    config = model.config
    return OLDEST if config.attention_envelope == "twice" and config.output_gate == "none" else NEWEST


def settings(model: MLANet, statistics: Statistics) -> dict[str, Any]:
    """What shapes the network, beside its configuration."""
    config = model.config
    return {"l_max": config.l_max, "channels": config.channels, "mean_neighbors": float(statistics.mean_neighbors)}


def readout(model: MLANet) -> nn.Sequential:
    """The read-out of each atom."""
    network = getattr(model.pooling, "readout", None)
    assert isinstance(network, nn.Sequential)
    return network


def tensors(model: MLANet) -> Tensors:
    """Everything of the model but its read-out, references and wall."""
    config, rows = model.config, torch.arange(model.n_species, device=next(model.parameters()).device)
    named: Tensors = {"embedding": model.embedding(rows), "sender": model.sender(rows)}
    named["radial.wave_numbers"] = model.radial.wave_numbers
    if (bonds := model.bonds) is not None:
        named |= {"bonds.centers": bonds.centers, "bonds.radius": bonds.log_radius.exp()}
        named["bonds.spread"] = torch.tensor([bonds.spread], dtype=torch.float64)
    named |= _radial("directions", model.directions.radial)
    for k, layer in enumerate(model.layers):
        assert isinstance(layer, InteractionLayer)
        named |= {f"layers.{k}.{name}": tensor for name, tensor in _layer(layer).items()}
    if config.message == "full":
        named |= {
            f"couplings.{name}": tensor for name, tensor in couplings(config.l_max, torch.float64)._asdict().items()
        }
    if config.node_product == "uuu":
        for name, l_out in (("terms", config.l_max), ("last_terms", 0)):
            table = terms(config.l_max, l_out, torch.float64)._asdict()
            named |= {f"{name}.{part}": tensor for part, tensor in table.items()}
    if model.bonded is not None:
        named["bonded"] = model.bonded.shift
    return named


def _radial(name: str, network: RadialMLP) -> Tensors:
    return {f"{name}.{k}": layer for k, layer in enumerate(network.weights)}


def _layer(layer: InteractionLayer) -> Tensors:
    attention = layer.attention
    weights, logits = attention.message_weights(), attention.logits
    named = {
        "chemical": weights.chemical,
        "gates.weight": weights.gates,
        "gates.bias": weights.gates_bias,
        **{f"radial.{k}": parameter for k, parameter in enumerate(weights.mlp)},
        "value": attention.value.weight,
        "near.weight": attention.chemical.neighbor.weight,
        "here.weight": attention.chemical.center.weight,
        "here.bias": attention.chemical.center.bias,
        "mix": layer.mix.weight,
        "update_in": layer.update.linear_in.weight,
        "update_out": layer.update.linear_out.weight,
    }
    if logits is not None:
        named |= {"logits.weight": weights.logits, "logits.bias": weights.logits_bias}
        named |= {"log_temperature": weights.log_temperature, "query": logits.query.weight, "key": logits.key.weight}
    if (gate := attention.output_gate) is not None:
        # A row for each channel: that of its head.
        per_head = gate.in_features // gate.out_features
        named |= {
            f"output_gate.{name}": parameter.repeat_interleave(per_head, 0)
            for name, parameter in gate.named_parameters()
        }
    if layer.update.gates is not None:
        named |= {"update_gates.weight": layer.update.gates.weight, "update_gates.bias": layer.update.gates.bias}
    if layer.attention_norm is not None:
        named["attention_norm"] = layer.attention_norm.gain
    if layer.product is not None:
        named |= {"product": layer.product.path_weights, "product_linear": layer.product.linear.weight}
    if layer.product_norm is not None:
        named["product_norm"] = layer.product_norm.gain
    return named
