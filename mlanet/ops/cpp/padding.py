"""Channels, gates, keys and hidden widths filled up with zeros to whole vectors, and cut again: changes no number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from mlanet.ops.message.reference import N_INPUTS, MessageShape, MessageWeights


@dataclass(frozen=True)
class Widths:
    """Padded sizes: of vectors, channels C, gates C/G of a degree, keys H·K, hidden R, layers of the radial network."""

    lanes: int
    channels: int
    gates: int
    keys: int
    hidden: int
    mlp: tuple[int, ...]

    @classmethod
    def of(cls, tensors: Sequence[Tensor], shape: MessageShape, lanes: int) -> Widths:
        """For these inputs and weights."""
        sent, key, near = tensors[:3]
        mlp = MessageWeights.of(tensors[N_INPUTS:]).mlp
        channels = rounded_up(sent.shape[2], lanes)
        inner = [rounded_up(layer.shape[1], lanes) for layer in mlp[:-1]]
        widths = (len(mlp[0]), *inner, shape.radial_groups * channels)
        gates = rounded_up(sent.shape[2] // shape.gate_channels, lanes)
        return cls(lanes, channels, gates, rounded_up(key.shape[2], lanes), rounded_up(near.shape[1], lanes), widths)


def pad(tensors: Sequence[Tensor], widths: Widths, shape: MessageShape) -> list[Tensor]:
    """Of inputs, or of inputs and weights; contiguous."""
    c, k, r = widths.channels, widths.keys, widths.hidden
    sizes = [c, k, r, k, r]
    padded = [wider(one, size) for one, size in zip(tensors, sizes, strict=False)]
    padded += tensors[len(sizes) : N_INPUTS]
    if len(tensors) > N_INPUTS:
        padded += _weights(MessageWeights.of(tensors[N_INPUTS:]), widths, shape)
    return [tensor.contiguous() for tensor in padded]


def crop(tensors: Sequence[Tensor], like: Sequence[Tensor], shape: MessageShape) -> list[Tensor]:
    """The sizes of `like` again; groups of channels are cut group by group."""
    if all(tensor.shape == model.shape for tensor, model in zip(tensors, like, strict=False)):
        return list(tensors)
    cropped = [_cut(tensor, model) for tensor, model in zip(tensors, like[:N_INPUTS], strict=False)]
    if len(tensors) == N_INPUTS:
        return cropped
    given, model = MessageWeights.of(tensors[N_INPUTS:]), MessageWeights.of(like[N_INPUTS:])
    groups = shape.l_max + 1
    gates = _cut_groups(given.gates.T, model.gates.T, groups).T
    bias = _cut_groups(given.gates_bias[None], model.gates_bias[None], groups)[0]
    rest = [_cut(given.logits, model.logits), given.logits_bias, given.log_temperature]
    mlp = cropped_layers(given.mlp, model.mlp, shape.radial_groups)
    return [*cropped, _cut(given.chemical, model.chemical), gates, bias, *rest, *mlp]


def padded_layers(layers: Sequence[Tensor], groups: int, lanes: int) -> list[Tensor]:
    """Layers (in, out) of a radial network whose outputs are `groups` times the channels."""
    padded, rows = [], len(layers[0])
    for layer in layers[:-1]:
        size = rounded_up(layer.shape[1], lanes)
        padded.append(_taller(wider(layer, size), rows))
        rows = size
    channels = rounded_up(layers[-1].shape[1] // groups, lanes)
    padded.append(_taller(_grouped(layers[-1], groups, channels), rows))
    return [tensor.contiguous() for tensor in padded]


def cropped_layers(layers: Sequence[Tensor], like: Sequence[Tensor], groups: int) -> list[Tensor]:
    """Layers of the sizes of `like`; none if there are none."""
    if not layers:
        return []
    inner = [_cut(layer, model) for layer, model in zip(layers[:-1], like, strict=False)]
    return [*inner, _cut_groups(layers[-1], like[-1], groups)]


def wider(tensor: Tensor, size: int) -> Tensor:
    """The last axis filled up."""
    missing = size - tensor.shape[-1]
    return functional.pad(tensor, (0, missing)) if missing > 0 else tensor


def rounded_up(size: int, step: int) -> int:
    """To a multiple of `step`.

    >>> rounded_up(17, 16)
    32
    """
    return -(-size // step) * step


def _weights(weights: MessageWeights, widths: Widths, shape: MessageShape) -> list[Tensor]:
    degrees, r = shape.l_max + 1, widths.hidden
    gates = wider(_grouped(weights.gates.T, degrees, widths.gates).T, r)
    bias = _grouped(weights.gates_bias[None], degrees, widths.gates)[0]
    rest = [wider(weights.logits, r), weights.logits_bias, weights.log_temperature]
    mlp = padded_layers(weights.mlp, shape.radial_groups, widths.lanes)
    return [wider(weights.chemical, r), gates, bias, *rest, *mlp]


def _grouped(matrix: Tensor, groups: int, size: int) -> Tensor:
    """(n, groups · C) -> (n, groups · size)."""
    if matrix.shape[1] == groups * size:
        return matrix
    return wider(matrix.unflatten(1, (groups, -1)), size).flatten(1)


def _taller(tensor: Tensor, rows: int) -> Tensor:
    """The first of two axes filled up."""
    missing = rows - len(tensor)
    return functional.pad(tensor, (0, 0, 0, missing)) if missing > 0 else tensor


def _cut(tensor: Tensor, model: Tensor) -> Tensor:
    return tensor[tuple(slice(0, size) for size in model.shape)]


def _cut_groups(tensor: Tensor, model: Tensor, groups: int) -> Tensor:
    """(n, groups · size) -> (n, groups · C)."""
    wide = tensor.unflatten(1, (groups, -1))[:, :, : model.shape[1] // groups]
    return _cut(wide.flatten(1), model)
