"""Model and training files: safetensors with a JSON header and a digest over every byte; nothing is ever unpickled.

A file is an ordinary safetensors file whose metadata has three entries: `mlanet` (what it is: a model, the state of a
training or of a simulation), `header` (JSON text) and `sha256` (of the whole file, with the 64 digits of the digest
itself read as zeros).
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from mlanet.ambient import usual_torch
from mlanet.config import parse, preset_names, suggestion, to_data
from mlanet.devices import DEVICES, device_called
from mlanet.domain import Domain, parted, tensors_of
from mlanet.errors import CheckpointError, ConfigError
from mlanet.files import write_whole
from mlanet.models import MOST_NUMBERS, ModelConfig, as_written
from mlanet.potential import Potential, unsound
from mlanet.statistics import Statistics

SCHEMA_VERSION = 1
"""Version of the header; files of a later one are refused."""

MODEL = "model"
STATE = "training state"
SIMULATION = "simulation state"

BESIDE_WEIGHTS = 2**22
"""Numbers that building a model may need beside its weights: tables of constants."""

_BLANK = b"0" * 64
_MARK = b'"sha256":"'
_LENGTH_BYTES = 8
_EXPECTED = {
    MODEL: "a model file of mlanet (.safetensors, as `mlanet train` writes it)",
    STATE: "a training state of mlanet (.safetensors, as `mlanet train` writes it to resume from)",
    SIMULATION: "a checkpoint of a simulation (.safetensors, as `mlanet md` writes it to resume from)",
}
_OTHER_KINDS = {
    b"PK\x03\x04": "it looks like a zip archive or a file of torch.save, which could run code and is never opened",
    b"\x80": "it looks like a pickle, which could run code and is never opened",
    b"\x1f\x8b": "it looks like a gzip file",
    b"\xfd7zXZ": "it looks like an xz file",
}


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


class _File(NamedTuple):
    """A file whose digest was found right."""

    data: bytes
    header: str
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
    _write(path, MODEL, json.dumps(msgspec.to_builtins(text)), potential.state_dict() | tensors_of(potential.domain))


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
    header = _model_header(file := _read(path, MODEL), path)
    weights, domain = parted(_tensors(file, path))
    if problem := unsound(weights):
        raise CheckpointError(f"{path}: {problem}; the model cannot be used")
    try:
        # What the header asks for is built only if the file holds as much: seven hundred bytes could ask for 80 GB.
        most = 2 * sum(one.numel() for one in weights.values()) + BESIDE_WEIGHTS
        potential = rebuilt(header.config, header.statistics, weights, most)
        potential.domain = Domain.of_tensors(domain, len(header.statistics.species))
    except (RuntimeError, ValueError, TypeError, LookupError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: weights and configuration do not belong together: {reason}") from None
    return moved(potential, dtype, device)


def read_model_header(path: str | os.PathLike[str]) -> ModelHeader:
    """Configuration, statistics and card of a model file, after checking its digest; builds nothing.

    Raises:
        CheckpointError: as `load_model`.
    """
    return _model_header(_read(path, MODEL), path)


def save_state(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, object], kind: str = STATE
) -> None:
    """Write the state of a training or simulation: tensors, and plain data of JSON types (tuples come back as lists).

    Args:
        path: replaced whole or not at all.
        tensors: of any type, on any device.
        header: the plain data.
        kind: STATE of a training, or SIMULATION.
    Raises:
        CheckpointError: the file cannot be written (no space, no permission); an older one there is intact.
        TypeError: a header that is not made of plain data.
    """
    text = json.dumps({"schema_version": SCHEMA_VERSION, "state": dict(header)})
    _write(path, kind, text, tensors)


@usual_torch()
def load_state(path: str | os.PathLike[str], kind: str = STATE) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (on the CPU, bit by bit as saved) and header of the state of a training or simulation.

    Raises:
        CheckpointError: no such file, damaged, of another kind, or of a later mlanet.
    """
    file = _read(path, kind)
    try:
        content = json.loads(file.header)
        schema, state = content["schema_version"], dict(content["state"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: its header is not that of {_EXPECTED[kind]}: {error!r}") from None
    _require_schema(schema, path)
    return _tensors(file, path), state


def packaged_models() -> list[str]:
    """Names of the models that ship with the package, for `mlanet.load` and `--model`."""
    return sorted(one.stem for one in _packaged_folder().glob("*.safetensors"))


def model_path(name_or_path: str | os.PathLike[str]) -> Path:
    """The file of a packaged model, or a path of one's own.

    Raises:
        CheckpointError: neither the name of a packaged model nor an existing file.
    """
    name = os.fspath(name_or_path)
    if name in packaged_models():
        return _packaged_folder() / f"{name}.safetensors"
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or (name in preset_names() and not path.is_file()):
        raise CheckpointError(
            f"{name} is a configuration, which has no trained weights; train it first (mlanet train, with "
            f"'model: {name}'), or take a packaged model: {', '.join(packaged_models()) or 'none'}"
        )
    if path.is_file():
        return path
    if path.suffix or os.sep in name:
        raise CheckpointError(f"{name}: {'is a folder' if path.is_dir() else 'no such file'}, expected a model file")
    known = ", ".join(packaged_models()) or "none"
    raise CheckpointError(
        f"no model '{name}'{suggestion(name, packaged_models())}; packaged models: {known}; or give a path"
    )


@usual_torch()
def copied(potential: Potential) -> Potential:
    """A copy with weights of its own, in evaluation mode, of the same type and on the same device.

    A known model is built anew, since `copy.deepcopy` of e3nn's generated code patches torch for all threads meanwhile
    (torch.fx traces it), and another thread's forward pass would fail. torch's random state is left alone. The copy
    computes with the same kernels.
    """
    if not isinstance(potential.model.config, ModelConfig):
        return copy.deepcopy(potential).eval()
    found = rebuilt(potential.model.config, potential.statistics, potential.state_dict())
    found.take(potential)
    return found.with_kernels(potential.model.kernels)


@usual_torch()
def rebuilt(
    config: ModelConfig, statistics: Statistics, weights: Mapping[str, Tensor], most: int = MOST_NUMBERS
) -> Potential:
    """A potential in evaluation mode with these weights (copied), of their type and on their device.

    Raises:
        RuntimeError: weights that do not belong to the configuration.
        ConfigError: a configuration with more than `most` weights.
    """
    first = next((one for one in weights.values() if one.is_floating_point()), torch.zeros(()))
    with torch.random.fork_rng(devices=[]):
        potential = Potential.build(config, statistics, most).to(device=first.device, dtype=first.dtype)
    potential.load_state_dict({name: one.detach().clone() for name, one in weights.items()}, assign=True)
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


def _packaged_folder() -> Path:
    return Path(__file__).resolve().parent / "pretrained"


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
    )


def _write(path: str | os.PathLike[str], kind: str, header: str, tensors: Mapping[str, Tensor]) -> None:
    """Serialise, sign, and replace the file in one step."""
    # Clones: tied or strided tensors are saved like any other, and nobody else can change them meanwhile.
    plain = {name: one.detach().to("cpu", copy=True).contiguous() for name, one in tensors.items()}
    metadata = {"mlanet": kind, "header": header, "sha256": _BLANK.decode()}
    blank = safetensors.torch.save(plain, metadata)
    place = _digits(blank)
    assert place is not None, "safetensors wrote no digest"
    signed = blank[:place] + hashlib.sha256(blank).hexdigest().encode() + blank[place + len(_BLANK) :]
    try:
        write_whole(path, signed)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"{path}: cannot be written: {reason}; what stood there before is intact") from error


def _read(path: str | os.PathLike[str], kind: str) -> _File:
    """The bytes of a file after every check that needs no interpretation of its content."""
    try:
        with open(path, "rb") as file:
            data = _whole(file.read(_LENGTH_BYTES), os.fstat(file.fileno()).st_size, path, kind) + file.read()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}; expected {_EXPECTED[kind]}") from None
    place = _digits(data)
    if place is None:
        raise CheckpointError(f"{path}: damaged, or a safetensors file of another program; expected {_EXPECTED[kind]}")
    digest = data[place : place + len(_BLANK)]
    sha = hashlib.sha256(data[:place])
    sha.update(_BLANK)
    sha.update(memoryview(data)[place + len(_BLANK) :])
    if sha.hexdigest().encode() != digest:
        raise CheckpointError(f"{path}: damaged: its content does not match its sha256; copy or download it again")
    try:
        metadata = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + _header_length(data)])["__metadata__"]
        found, header = metadata["mlanet"], metadata["header"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError(f"{path}: not a file of mlanet; expected {_EXPECTED[kind]}") from None
    if found != kind or not isinstance(header, str):
        named = _EXPECTED[found] if isinstance(found, str) and found in _EXPECTED else "something else"
        raise CheckpointError(f"{path}: is {named}; expected {_EXPECTED[kind]}")
    return _File(data, header, digest.decode())


def _whole(start: bytes, size: int, path: str | os.PathLike[str], kind: str) -> bytes:
    """The first bytes, if they can begin a safetensors file of this size; nothing more is read otherwise."""
    if size == 0:
        raise CheckpointError(f"{path}: is empty; expected {_EXPECTED[kind]}")
    for magic, explanation in _OTHER_KINDS.items():
        # Eight bytes are a length below 2⁵⁶ in every safetensors file that fits this machine.
        if start.startswith(magic) and (len(start) < _LENGTH_BYTES or _header_length(start) > size):
            raise CheckpointError(f"{path}: {explanation}; expected {_EXPECTED[kind]}")
    if len(start) < _LENGTH_BYTES or not 2 <= _header_length(start) <= size - _LENGTH_BYTES:
        raise CheckpointError(f"{path}: cut short, damaged, or no safetensors file; expected {_EXPECTED[kind]}")
    return start


def _header_length(data: bytes) -> int:
    """Bytes of JSON, as the file claims."""
    return int(struct.unpack("<Q", data[:_LENGTH_BYTES])[0])


def _digits(data: bytes) -> int | None:
    """Where the digest's digits begin; quotes inside header texts are escaped, so the mark stands once."""
    end = _LENGTH_BYTES + _header_length(data)
    mark = data.find(_MARK, _LENGTH_BYTES, end)
    place = mark + len(_MARK)
    return None if mark < 0 or place + len(_BLANK) > end else place


def _tensors(file: _File, path: str | os.PathLike[str]) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(file.data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a valid safetensors file: {error}") from None


def _model_header(file: _File, path: str | os.PathLike[str]) -> ModelHeader:
    """Typed header of a verified model file."""
    try:
        data = json.loads(file.header)
        _require_schema(data["schema_version"], path)
        text = msgspec.convert(data, _ModelText)
        numbers = {name: getattr(text.statistics, name) for name in text.statistics.__struct_fields__}
        config = parse(as_written(text.config), ModelConfig, "config")
        statistics = Statistics(**numbers)
        if statistics.problem:
            raise ValueError(statistics.problem)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise CheckpointError(f"{path}: its header is not that of {_EXPECTED[MODEL]}: {error}") from None
    return ModelHeader(config, statistics, text.card, text.version, text.schema_version, text.parameters, file.digest)


def _require_schema(version: object, path: str | os.PathLike[str]) -> None:
    if version != SCHEMA_VERSION:
        raise CheckpointError(
            f"{path}: written with header schema {version}, this mlanet reads {SCHEMA_VERSION}; install a newer mlanet"
        )
