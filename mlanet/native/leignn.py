"""What a native file holds of LEIGNN, by the names that cpp/leignn_model.hpp reads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mlanet.models.leignn import LEIGNN, ScalarVectorLayer
from mlanet.native.file import OLDEST
from mlanet.nn.radial import GaussianBasis
from mlanet.statistics import Statistics

Tensors = dict[str, Tensor]

SUPPORTED: dict[str, tuple[Any, ...]] = {
    "forces": ("gradient",),
    "global_node": (False,),
    "neighbor_cap": (None,),
    "charge": ("none",),
    "long_range": ("none",),
    "outputs": ((),),
}
"""Settings of LEIGNN of which the engine knows some values only: it computes the conservative, local form."""


def obstacle(model: LEIGNN) -> str:
    """What beyond `SUPPORTED` stands against a native form; empty where nothing does."""
    return "the native engine computes radial filters, and those of this model are tabulated" if model.intervals else ""


def file_version(model: LEIGNN) -> int:
    """Which engines can read it: all."""
    return OLDEST


def settings(model: LEIGNN, statistics: Statistics) -> dict[str, Any]:
    """What shapes the network, beside its configuration."""
    return {}


def readout(model: LEIGNN) -> nn.Sequential:
    """The read-out of each atom."""
    return model.readout


def tensors(model: LEIGNN) -> Tensors:
    """Everything of the model but its read-out, references and wall."""
    named: Tensors = {"embedding": model.embedding.weight}
    if isinstance(model.radial, GaussianBasis):
        named["radial.centers"] = model.radial.centers
        named["radial.spread"] = torch.tensor([model.radial.spread], dtype=torch.float64)
    else:
        named["radial.wave_numbers"] = model.radial.wave_numbers
    for k, layer in enumerate(model.layers):
        assert isinstance(layer, ScalarVectorLayer)
        named |= {f"layers.{k}.{name}": tensor for name, tensor in _layer(layer).items()}
    return named


def _layer(layer: ScalarVectorLayer) -> Tensors:
    networks = _two("message", layer.message.network) | _two("update", layer.update.network)
    return networks | {"filter.0": layer.message.filter.T, "mix.weight": layer.update.mix.weight}


def _two(name: str, network: nn.Sequential) -> Tensors:
    return {
        f"{name}.{place}.{part}": getattr(network[k], part)
        for place, k in (("first", 0), ("second", -1))
        for part in ("weight", "bias")
    }
