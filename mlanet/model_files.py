"""Model and training files: safetensors with a JSON header and a digest over every byte; nothing is ever unpickled.

A file is an ordinary safetensors file whose metadata has three entries: `mlanet` (what it is: a model, the state of a
training or of a simulation), `header` (JSON text) and `sha256` (of the whole file, with the 64 digits of the digest
itself read as zeros). Nothing here needs torch; `mlanet.checkpoint` makes potentials of such files.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from mlanet.config import preset_names, suggestion
from mlanet.errors import CheckpointError
from mlanet.files import write_whole

SCHEMA_VERSION = 1
"""Version of the header; files of a later one are refused."""

MODEL = "model"
STATE = "training state"
SIMULATION = "simulation state"

NATIVE_MARK = b"mlanet\n\0"
"""First bytes of a file for the native engine (`mlanet.native.file`)."""

_BLANK = b"0" * 64
_MARK = b'"sha256":"'
_LENGTH_BYTES = 8
EXPECTED = {
    MODEL: "a model file of mlanet (.safetensors, as `mlanet train` writes it)",
    STATE: "a training state of mlanet (.safetensors, as `mlanet train` writes it to resume from)",
    SIMULATION: "a checkpoint of a simulation (.safetensors, as `mlanet md` writes it to resume from)",
}
_OTHER_KINDS = {
    b"PK\x03\x04": "it looks like a zip archive or a file of torch.save, which could run code and is never opened",
    b"\x80": "it looks like a pickle, which could run code and is never opened",
    b"\x1f\x8b": "it looks like a gzip file",
    b"\xfd7zXZ": "it looks like an xz file",
    NATIVE_MARK: "it is a native model, which the engine alone computes: on the CPU, with kernels auto or native",
}


class File(NamedTuple):
    """A file whose digest was found right."""

    data: bytes
    header: str
    digest: str


def packaged_models() -> list[str]:
    """Names of the models that ship with the package, for `mlanet.load` and `--model`."""
    return sorted(entry.stem for entry in _packaged_folder().glob("*.safetensors"))


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


def is_native(path: Path) -> bool:
    """Whether a file is one for the native engine, by its first bytes."""
    try:
        with open(path, "rb") as file:
            return file.read(len(NATIVE_MARK)) == NATIVE_MARK
    except OSError:
        return False


def digest_of(path: Path) -> str:
    """sha256 of a model file, 64 hexadecimal digits, of which not a bit has changed; of any bytes of a native one.

    Raises:
        CheckpointError: no such file, damaged, or of another kind.
    """
    return hashlib.sha256(path.read_bytes()).hexdigest() if is_native(path) else read(path, MODEL).digest


def save_arrays(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]], header: Mapping[str, object]) -> None:
    """Write the state of a simulation: arrays, and plain data of JSON types (tuples come back as lists).

    Args:
        path: replaced whole or not at all.
        arrays: of any type that safetensors knows.
        header: the plain data.
    Raises:
        CheckpointError: the file cannot be written (no space, no permission); an older one there is intact.
        TypeError: a header that is not made of plain data.
    """
    blank = safetensors.numpy.save(dict(arrays), blank_metadata(SIMULATION, state_header(header)))
    write_signed(path, blank)


def load_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays and plain data of the state of a simulation.

    Raises:
        CheckpointError: no such file, damaged, of another kind, or of a later mlanet.
    """
    file = read(path, SIMULATION)
    state = state_of(file, path, SIMULATION)
    try:
        return {name: np.array(array) for name, array in safetensors.numpy.load(file.data).items()}, state
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: not a valid safetensors file: {error}") from None


def state_header(header: Mapping[str, object]) -> str:
    """The header text of a state."""
    return json.dumps({"schema_version": SCHEMA_VERSION, "state": dict(header)})


def state_of(file: File, path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """The plain data of a state.

    Raises:
        CheckpointError: a header of another kind, or of a later mlanet.
    """
    try:
        content = json.loads(file.header)
        schema, state = content["schema_version"], dict(content["state"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: its header is not that of {EXPECTED[kind]}: {error!r}") from None
    require_schema(schema, path)
    return state


def blank_metadata(kind: str, header: str) -> dict[str, str]:
    """Of a file that is not signed yet."""
    return {"mlanet": kind, "header": header, "sha256": _BLANK.decode()}


def write_signed(path: str | os.PathLike[str], blank: bytes) -> None:
    """Sign a serialised file, and replace the one that is there in one step; raises as `save_arrays`."""
    place = _digits(blank)
    assert place is not None, "safetensors wrote no digest"
    signed = blank[:place] + hashlib.sha256(blank).hexdigest().encode() + blank[place + len(_BLANK) :]
    try:
        write_whole(path, signed)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"{path}: cannot be written: {reason}; what stood there before is intact") from error


def read(path: str | os.PathLike[str], kind: str) -> File:
    """The bytes of a file after every check that needs no interpretation of its content."""
    try:
        with open(path, "rb") as file:
            data = _whole(file.read(_LENGTH_BYTES), os.fstat(file.fileno()).st_size, path, kind) + file.read()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}; expected {EXPECTED[kind]}") from None
    place = _digits(data)
    if place is None:
        raise CheckpointError(f"{path}: damaged, or a safetensors file of another program; expected {EXPECTED[kind]}")
    digest = data[place : place + len(_BLANK)]
    sha = hashlib.sha256(data[:place])
    sha.update(_BLANK)
    sha.update(memoryview(data)[place + len(_BLANK) :])
    if sha.hexdigest().encode() != digest:
        raise CheckpointError(f"{path}: damaged: its content does not match its sha256; copy or download it again")
    try:
        metadata = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + _header_length(data)])["__metadata__"]
        version, header = metadata["mlanet"], metadata["header"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError(f"{path}: not a file of mlanet; expected {EXPECTED[kind]}") from None
    if version != kind or not isinstance(header, str):
        named = EXPECTED[version] if isinstance(version, str) and version in EXPECTED else "something else"
        raise CheckpointError(f"{path}: is {named}; expected {EXPECTED[kind]}")
    return File(data, header, digest.decode())


def _whole(start: bytes, size: int, path: str | os.PathLike[str], kind: str) -> bytes:
    """The first bytes, if they can begin a safetensors file of this size; nothing more is read otherwise."""
    if size == 0:
        raise CheckpointError(f"{path}: is empty; expected {EXPECTED[kind]}")
    for magic, explanation in _OTHER_KINDS.items():
        # Eight bytes are a length below 2⁵⁶ in every safetensors file that fits this machine.
        if start.startswith(magic) and (len(start) < _LENGTH_BYTES or _header_length(start) > size):
            raise CheckpointError(f"{path}: {explanation}; expected {EXPECTED[kind]}")
    if len(start) < _LENGTH_BYTES or not 2 <= _header_length(start) <= size - _LENGTH_BYTES:
        raise CheckpointError(f"{path}: cut short, damaged, or no safetensors file; expected {EXPECTED[kind]}")
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


def require_schema(version: object, path: str | os.PathLike[str]) -> None:
    """Raise `CheckpointError` for a header of a later version."""
    if version != SCHEMA_VERSION:
        raise CheckpointError(
            f"{path}: written with header schema {version}, this mlanet reads {SCHEMA_VERSION}; install a newer mlanet"
        )


def _packaged_folder() -> Path:
    return Path(__file__).resolve().parent / "pretrained"
