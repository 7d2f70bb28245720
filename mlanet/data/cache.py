"""Graphs and labels of one file on disk: keyed by content, checked by a digest, written atomically, never pickled."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor

from mlanet.data.labels import LabelKeys, Source
from mlanet.data.samples import Sample
from mlanet.errors import OutputError
from mlanet.files import write_whole
from mlanet.graph import AtomicGraph, Labels, batch_graphs, batch_labels
from mlanet.quantities import NAMES, QUANTITIES

CACHE_VERSION = 3
"""Raised whenever the meaning of a cached file changes; older ones are then ignored."""

_INTEGERS = ("numbers", "center", "neighbor", "shift")


class CachedFile(NamedTuple):
    """What reading a file gave: its samples, and the names of everything that could be a label."""

    samples: list[Sample]
    names: set[str]


def file_key(path: Path, cutoff: float, keys: LabelKeys) -> str:
    """Digest of everything that a cached file depends on: bytes, suffixes, cutoff, keys, version of the cache."""
    digest = hashlib.sha256()
    settings = {
        "version": CACHE_VERSION,
        "suffixes": path.suffixes,
        "cutoff": float(cutoff).hex(),
        "keys": msgspec.to_builtins(keys),
    }
    digest.update(json.dumps(settings, sort_keys=True).encode())
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:40]


def write_cache(stored: Path, content: CachedFile, source: Path) -> None:
    """Write samples to `stored`, completely or not at all.

    Raises:
        OutputError: the folder cannot be written.
    """
    from safetensors.torch import save

    tensors, header = _packed(content, source)
    header["digest"] = _digest(tensors, header)
    data = save(tensors, metadata={"mlanet_cache": json.dumps(header)})
    try:
        write_whole(stored, data)
    except OSError as error:
        raise OutputError(f"{stored.parent}: the cache cannot be written: {error}") from None


def read_cache(stored: Path, source: Path) -> CachedFile | None:
    """The samples in `stored`, or None where there is none or it is damaged (then with a warning).

    Args:
        stored: the cached file.
        source: the data file it was made from, named in the samples' `where` and `group`.
    """
    from safetensors.torch import load

    try:
        data = stored.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        warnings.warn(f"{stored}: the cache cannot be read ({error}); reading the data again", stacklevel=2)
        return None
    try:
        header = _header(data)
        tensors = load(data)
        if header.pop("digest") != _digest(tensors, header):
            raise ValueError("checksum does not match")
        return _unpacked(tensors, header, source)
    except Exception as error:  # any damage has the same cure
        warnings.warn(f"{stored}: damaged cache ({error}); reading the data again", stacklevel=2)
        return None


def _header(data: bytes) -> dict[str, Any]:
    """Our JSON in the metadata of a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["mlanet_cache"])


def _digest(tensors: dict[str, Tensor], header: dict[str, Any]) -> str:
    """sha256 over names, types, shapes and bytes of the tensors and over the header."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _packed(content: CachedFile, source: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """One batch of all samples, integers as int32, and what tells them apart."""
    samples = content.samples
    graph = batch_graphs([sample.graph for sample in samples])
    labels = batch_labels([sample.labels for sample in samples])
    tensors = {name: getattr(graph, name).to(torch.int32) for name in _INTEGERS}
    tensors |= {name: getattr(graph, name) for name in ("positions", "cell", "pbc", "charge")}
    tensors |= {name: getattr(labels, name) for name in NAMES}
    tensors["atoms"] = torch.tensor([sample.graph.n_atoms for sample in samples])
    tensors["edges"] = torch.tensor([sample.graph.n_edges for sample in samples])
    given = [sample.graph.atomic_charges for sample in samples if sample.graph.atomic_charges is not None]
    tensors["atomic_charges"] = torch.cat(given) if given else torch.empty(0, dtype=torch.float64)
    tensors["has_atomic_charges"] = torch.tensor([sample.graph.atomic_charges is not None for sample in samples])
    header = {
        "cutoff": samples[0].graph.cutoff,
        "where": [sample.where.removeprefix(str(source)) for sample in samples],
        "group": [sample.group.removeprefix(str(source)) for sample in samples],
        "names": sorted(content.names),
        "sources": [msgspec.to_builtins(sample.sources) for sample in samples],
    }
    return {name: tensor.contiguous() for name, tensor in tensors.items()}, header


def _unpacked(tensors: dict[str, Tensor], header: dict[str, Any], source: Path) -> CachedFile:
    """The samples of `_packed`, exactly."""
    counts, edges = tensors["atoms"].tolist(), tensors["edges"].tolist()
    atoms_of = {name: tensors[name].split(counts) for name in ("numbers", "positions")}
    labels_of = {
        quantity.name: tensors[quantity.name].split(counts if quantity.per_atom else 1) for quantity in QUANTITIES
    }
    edges_of = {name: tensors[name].split(edges) for name in ("center", "neighbor", "shift")}
    starts = torch.tensor([0, *counts]).cumsum(0).tolist()
    has_charges = tensors["has_atomic_charges"].tolist()
    charged = iter(tensors["atomic_charges"].split([n for n, has in zip(counts, has_charges, strict=True) if has]))
    samples = []
    sources = [msgspec.convert(entry, tuple[Source, ...]) for entry in header["sources"]]
    for k, (where, group) in enumerate(zip(header["where"], header["group"], strict=True)):
        graph = AtomicGraph(
            positions=atoms_of["positions"][k].clone(),
            numbers=atoms_of["numbers"][k].long(),
            cell=tensors["cell"][k : k + 1].clone(),
            pbc=tensors["pbc"][k : k + 1].clone(),
            center=edges_of["center"][k].long() - starts[k],
            neighbor=edges_of["neighbor"][k].long() - starts[k],
            shift=edges_of["shift"][k].long(),
            structure=torch.zeros(counts[k], dtype=torch.int64),
            n_structures=1,
            cutoff=header["cutoff"],
            charge=tensors["charge"][k : k + 1].clone(),
            atomic_charges=next(charged).clone() if has_charges[k] else None,
        )
        labels = Labels(**{name: parts[k].clone() for name, parts in labels_of.items()})
        group = f"{source}{group}" if _prefixed(group) else group
        samples.append(Sample(graph, labels, f"{source}{where}", group, sources[k]))
    return CachedFile(samples, set(header["names"]))


def _prefixed(group: str) -> bool:
    """Whether the source's name was cut off a group: it is then empty or starts with a colon."""
    return not group or group.startswith(":")
