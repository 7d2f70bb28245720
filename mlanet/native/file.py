"""A native model file: a mark, a checksum, a header in JSON, tensors; `cpp/file.hpp` reads it and says how it lies."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlanet.errors import CheckpointError
from mlanet.model_files import NATIVE_MARK as MARK

OLDEST, NEWEST = 1, 2
"""Versions; a file has the oldest one whose readers answer it rightly."""
ALIGNMENT = 64
TYPES = ("float32", "float64", "int32")
_FIXED = struct.Struct("<8sIIQ")


def pack(header: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], version: int = OLDEST) -> bytes:
    """The bytes of a file.

    Args:
        header: plain data of JSON types; a table of the tensors is added.
        tensors: of types in `TYPES`.
        version: of the file.
    """
    table, blocks, place = [], [], 0
    for name, array in tensors.items():
        assert array.dtype.name in TYPES, f"{name} is of type {array.dtype}"
        table.append({"name": name, "type": array.dtype.name, "shape": list(array.shape), "offset": place})
        block = _filled(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes())
        blocks.append(block)
        place += len(block)
    text = json.dumps({**header, "tensors": table}, allow_nan=False).encode()
    missing = -(_FIXED.size + len(text)) % ALIGNMENT
    return sealed(_FIXED.pack(MARK, version, 0, len(text)) + text + bytes(missing) + b"".join(blocks))


def sealed(data: bytes) -> bytes:
    """The same with the checksum of its content in place."""
    return data[:12] + struct.pack("<I", zlib.crc32(memoryview(data)[16:])) + data[16:]


def read_header(data: bytes) -> dict[str, Any]:
    """What the file says of itself; everything else is checked by the engine.

    Raises:
        CheckpointError: no such file.
    """
    if len(data) < _FIXED.size or not data.startswith(MARK):
        raise CheckpointError("no native model of mlanet; `mlanet export native` writes them")
    length = _FIXED.unpack_from(data)[3]
    try:
        header = json.loads(data[_FIXED.size : _FIXED.size + length])
        if not isinstance(header, dict):
            raise ValueError("the header is no table")
        return header
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"the header of the native model is damaged: {error}") from None


def read_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """The tensors of a file that the engine has checked, by name; they look at the bytes and cannot be written to."""
    header, length = read_header(data), _FIXED.unpack_from(data)[3]
    first = -(-(_FIXED.size + length) // ALIGNMENT) * ALIGNMENT
    arrays = {}
    for tensor in header["tensors"]:
        kind, shape = np.dtype(tensor["type"]).newbyteorder("<"), tuple(tensor["shape"])
        values = np.frombuffer(data, kind, math.prod(shape), first + tensor["offset"])
        arrays[tensor["name"]] = values.reshape(shape)
    return arrays


def _filled(block: bytes) -> bytes:
    return block + bytes(-len(block) % ALIGNMENT)
