"""Potentials from model files and back, and states of trainings; the files are those of `mlanet.model_files`."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from mlanet.ambient import usual_torch
from mlanet.config import parse, to_data
from mlanet.devices import DEVICES, device_called
from mlanet.domain import Domain, arrays_of, parted
from mlanet.errors import CheckpointError, ConfigError
from mlanet.model_files import (
    EXPECTED,
    MODEL,
    SCHEMA_VERSION,
    SIMULATION,
    STATE,
    File,
    blank_metadata,
    model_path,
    packaged_models,
    read,
    require_schema,
    state_header,
    state_of,
    write_signed,
)
from mlanet.models import MOST_NUMBERS, ModelConfig, as_written
from mlanet.potential import Potential, unsound
from mlanet.statistics import Statistics

__all__ = [
    "MODEL",
    "SCHEMA_VERSION",
    "SIMULATION",
    "STATE",
    "ModelHeader",
    "copied",
    "load_model",
    "load_state",
    "model_path",
    "moved",
    "packaged_models",
    "read_model_header",
    "rebuilt",
    "save_model",
    "save_state",
]

BESIDE_WEIGHTS = 2**22
"""Numbers that building a model may need beside its weights: tables of constants."""


class _Numbers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`Statistics` as JSON; floats keep all their digits."""

    species: tuple[int, ...]
    references: tuple[float, ...]
    scale: tuple[float, ...]
    mean_neighbors: float
    stress_scale: float
    closest: tuple[tuple[float, ...], ...] = ()
    references_from: str = ""
    wall: tuple[tuple[float, ...], ...] = ()
    crowding: tuple[float, ...] = ()
    energy_key: str = ""


class _ModelText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The header of a model file."""

    schema_version: int
    version: str
    config: dict[str, Any]
    statistics: _Numbers
    card: dict[str, Any]
    parameters: int


@dataclass(frozen=True)
class ModelHeader:
    """What a model file says of itself.

    - config, statistics: what the potential is built from · card: data, licence, errors; free keys
    - version: of the mlanet that wrote it · schema_version: of the header · parameters: trainable numbers
    - digest: sha256 of the file, 64 hexadecimal digits
    """

    config: ModelConfig
    statistics: Statistics
    card: dict[str, Any]
    version: str
    schema_version: int
    parameters: int
    digest: str


def save_model(potential: Potential, path: str | os.PathLike[str], card: Mapping[str, object] | None = None) -> None:
    """Write all that inference needs: configuration, statistics, weights bit by bit, and a card.

    Args:
        potential: of a known `ModelConfig`, on any device.
        path: replaced whole or not at all.
        card: facts for people, of plain JSON types: data set, licence, errors on a held-out split.
    Raises:
        CheckpointError: weights or statistics that are not finite, or the file cannot be written (no space, no
            permission); an older one there is intact.
    """
    from mlanet.version import __version__

    if problem := potential.statistics.problem or unsound(potential.state_dict()):
        raise CheckpointError(f"{path}: not written: {problem}")
    text = _ModelText(
        schema_version=SCHEMA_VERSION,
        version=__version__,
        config=to_data(potential.model.config),
        statistics=_numbers(potential.statistics),
        card=dict(card or {}),
        parameters=sum(parameter.numel() for parameter in potential.parameters()),
    )
    limits = {name: torch.from_numpy(array) for name, array in arrays_of(potential.domain).items()}
    _write(path, MODEL, json.dumps(msgspec.to_builtins(text)), potential.state_dict() | limits)


@usual_torch()
def load_model(
    path: str | os.PathLike[str], dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> Potential:
    """A potential from a model file, in evaluation mode; torch's random state is left alone.

    Args:
        path: a file of `save_model`.
        dtype: of the weights; None keeps that of the file. References and scales are float64 always.
        device: where to put it.
    Raises:
        CheckpointError: no such file, damaged, of another kind, of a later mlanet, or with weights that are not finite.
        ConfigError: a device that this machine does not have.
    """
    header = _model_header(file := read(path, MODEL), path)
    weights, domain = parted(_tensors(file, path))
    if problem := unsound(weights):
        raise CheckpointError(f"{path}: {problem}; the model cannot be used")
    try:
        # What the header asks for is built only if the file holds as much: seven hundred bytes could ask for 80 GB.
        most = 2 * sum(weight.numel() for weight in weights.values()) + BESIDE_WEIGHTS
        potential = rebuilt(header.config, header.statistics, weights, most)
        arrays = {name: array.double().numpy() for name, array in domain.items()}
        potential.domain = Domain.of_arrays(arrays, len(header.statistics.species))
    except (RuntimeError, ValueError, TypeError, LookupError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: weights and configuration do not belong together: {reason}") from None
    return moved(potential, dtype, device)


def read_model_header(path: str | os.PathLike[str]) -> ModelHeader:
    """Configuration, statistics and card of a model file, after checking its digest; builds nothing.

    Raises:
        CheckpointError: as `load_model`.
    """
    return _model_header(read(path, MODEL), path)


def save_state(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, object]) -> None:
    """Write the state of a training: tensors, and plain data of JSON types (tuples come back as lists).

    Args:
        path: replaced whole or not at all.
        tensors: of any type, on any device.
        header: the plain data.
    Raises:
        CheckpointError: the file cannot be written (no space, no permission); an older one there is intact.
        TypeError: a header that is not made of plain data.
    """
    _write(path, STATE, state_header(header), tensors)


@usual_torch()
def load_state(path: str | os.PathLike[str], kind: str = STATE) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (on the CPU, bit by bit as saved) and header of the state of a training or simulation.

    Raises:
        CheckpointError: no such file, damaged, of another kind, or of a later mlanet.
    """
    file = read(path, kind)
    return _tensors(file, path), state_of(file, path, kind)


@usual_torch()
def copied(potential: Potential) -> Potential:
    """A copy with weights of its own, in evaluation mode, of the same type and on the same device.

    A known model is built anew, since `copy.deepcopy` of e3nn's generated code patches torch for all threads meanwhile
    (torch.fx traces it), and another thread's forward pass would fail. torch's random state is left alone. The copy
    computes with the same kernels.
    """
    if not isinstance(potential.model.config, ModelConfig):
        return copy.deepcopy(potential).eval()
    twin = rebuilt(potential.model.config, potential.statistics, potential.state_dict())
    twin.domain = potential.domain
    return twin.with_kernels(potential.model.kernels)


@usual_torch()
def rebuilt(
    config: ModelConfig, statistics: Statistics, weights: Mapping[str, Tensor], most: int = MOST_NUMBERS
) -> Potential:
    """A potential in evaluation mode with these weights (copied), of their type and on their device.

    Raises:
        RuntimeError: weights that do not belong to the configuration.
        ConfigError: a configuration with more than `most` weights.
    """
    first = next((weight for weight in weights.values() if weight.is_floating_point()), torch.zeros(()))
    with torch.random.fork_rng(devices=[]):
        potential = Potential.build(config, statistics, most).to(device=first.device, dtype=first.dtype)
    potential.load_state_dict({name: tensor.detach().clone() for name, tensor in weights.items()}, assign=True)
    return potential.eval()


@usual_torch()
def moved(potential: Potential, dtype: torch.dtype | None, device: torch.device | str) -> Potential:
    """The potential itself, moved in place; `ConfigError` for a device that this machine does not have."""
    place = device_called(str(device))
    try:
        return potential.to(device=place, dtype=dtype)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device '{device}' cannot be used: {reason}; there are {DEVICES}") from None


def _numbers(statistics: Statistics) -> _Numbers:
    """Plain Python numbers, whatever the statistics were made from."""
    return _Numbers(
        species=tuple(map(int, statistics.species)),
        references=tuple(map(float, statistics.references)),
        scale=tuple(map(float, statistics.scale)),
        mean_neighbors=float(statistics.mean_neighbors),
        stress_scale=float(statistics.stress_scale),
        closest=tuple(tuple(map(float, row)) for row in statistics.closest),
        references_from=statistics.references_from,
        wall=tuple(tuple(map(float, row)) for row in statistics.wall),
        crowding=tuple(map(float, statistics.crowding)),
        energy_key=statistics.energy_key,
    )


def _write(path: str | os.PathLike[str], kind: str, header: str, tensors: Mapping[str, Tensor]) -> None:
    """Serialise, sign, and replace the file in one step."""
    # Clones: tied or strided tensors are saved like any other, and nobody else can change them meanwhile.
    plain = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    write_signed(path, safetensors.torch.save(plain, blank_metadata(kind, header)))


def _tensors(file: File, path: str | os.PathLike[str]) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(file.data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a valid safetensors file: {error}") from None


def _model_header(file: File, path: str | os.PathLike[str]) -> ModelHeader:
    """Typed header of a verified model file."""
    try:
        data = json.loads(file.header)
        require_schema(data["schema_version"], path)
        text = msgspec.convert(data, _ModelText)
        numbers = {name: getattr(text.statistics, name) for name in text.statistics.__struct_fields__}
        config = parse(as_written(text.config), ModelConfig, "config")
        statistics = Statistics(**numbers)
        if statistics.problem:
            raise ValueError(statistics.problem)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise CheckpointError(f"{path}: its header is not that of {EXPECTED[MODEL]}: {error}") from None
    return ModelHeader(config, statistics, text.card, text.version, text.schema_version, text.parameters, file.digest)
