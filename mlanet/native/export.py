"""A potential as a file for the native engine: weights as they are, constants of the weights folded in.

What every file holds; `mlanet` and `leignn` say what else their models have.
"""

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
from mlanet.files import write_result
from mlanet.graph import AtomicGraph
from mlanet.models import Model
from mlanet.models.leignn import LEIGNN
from mlanet.models.mlanet import MLANet
from mlanet.native import leignn, mlanet
from mlanet.native.file import pack
from mlanet.native.potential import of_statistics
from mlanet.nn.floor import SLACK, STIFFNESS, WIDTH, DistanceFloor
from mlanet.nn.repulsion import ScreenedRepulsion
from mlanet.potential import Potential
from mlanet.units import COULOMB_CONSTANT
from mlanet.version import __version__

Tensors = dict[str, Tensor]

KINDS: dict[type[Model], Any] = {MLANet: mlanet, LEIGNN: leignn}
"""Models that have a native form, and what the file holds of each."""


def obstacle(potential: Potential) -> str:
    """Why there is no native form of a potential, naming the setting; empty where there is one."""
    kind = KINDS.get(type(potential.model))
    if kind is None:
        known = " and ".join(one.__name__ for one in KINDS)
        return f"the native engine knows {known}; this is a model of type {type(potential.model).__name__}"
    for key, values in kind.SUPPORTED.items():
        if (value := getattr(potential.model.config, key)) not in values:
            there = " or ".join(_shown(choice) for choice in values)
            return f"the native engine knows {key}: {there}; this model has {key}: {_shown(value)}"
    if potential.dtype not in (torch.float32, torch.float64):
        return f"the native engine knows float32 and float64, this model is in {potential.dtype}".replace("torch.", "")
    reason: str = kind.obstacle(potential.model)
    return reason


def _shown(value: object) -> str:
    """As a configuration has it."""
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return {None: "none", False: "false", True: "true"}.get(value, str(value))  # type: ignore[call-overload,no-any-return]


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
    write_result(path, native_bytes(potential, digest), CheckpointError)


@usual_torch()
def native_bytes(potential: Potential, digest: str | None = None) -> bytes:
    """What `export_native` writes.

    Raises:
        ConfigError: a model that the engine does not know.
    """
    if against := obstacle(potential):
        raise ConfigError(against)
    kind, model = KINDS[type(potential.model)], potential.model
    tensors: Tensors = kind.tensors(model) | _readout(*_ends(model)) | _references(potential) | _wall(potential)
    told, beside = of_statistics(potential.statistics, potential.domain)
    header = _header(potential, digest or _digest(potential)) | told
    arrays = {name: np.asarray(tensor.detach().cpu()) for name, tensor in tensors.items()} | beside
    return pack(header, arrays, kind.file_version(model))


def _header(potential: Potential, digest: str) -> dict[str, Any]:
    model, statistics = potential.model, potential.statistics
    config = to_data(model.config)
    settings = config | {
        **KINDS[type(model)].settings(model, statistics),
        "wall": getattr(model, "repulsion", None) is not None,
        "floor": getattr(model, "floor", None) is not None,
    }
    return {
        "model": config["model"],
        "version": __version__,
        "digest": digest,
        "units": {"energy": "eV", "length": "Å"},
        "elements": [chemical_symbols[z] for z in statistics.species],
        "species": list(statistics.species),
        "cutoff": float(model.cutoff),
        "precision": str(potential.dtype).removeprefix("torch."),
        "settings": settings,
    }


def _digest(potential: Potential) -> str:
    """sha256 of configuration, statistics and weights."""
    text = json.dumps([to_data(potential.model.config), msgspec.to_builtins(potential.statistics)], sort_keys=True)
    sha = hashlib.sha256(text.encode())
    for name, tensor in sorted(potential.state_dict().items()):
        sha.update(name.encode() + np.asarray(tensor.detach().cpu()).tobytes())
    return sha.hexdigest()


def _ends(model: Model) -> tuple[nn.Linear, nn.Linear]:
    """Both layers of the read-out of each atom."""
    readout = KINDS[type(model)].readout(model)
    first, last = readout[0], readout[-1]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    return first, last


def _readout(first: nn.Linear, last: nn.Linear) -> Tensors:
    return {
        "readout.first.weight": first.weight,
        "readout.first.bias": first.bias,
        "readout.last.weight": last.weight,
        "readout.last.bias": last.bias,
    }


def _references(potential: Potential) -> Tensors:
    """References and scales, and what the network says of a lone atom of each element, float64.

    Features are those less a lone atom's wherever lone atoms ride along.
    """
    n = len(potential.species)
    exact = copied(potential).to(device="cpu", dtype=torch.float64).with_kernels("plain")
    seen: list[Tensor] = []
    _, last = _ends(exact.model)
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    with torch.no_grad():
        exact.model(_lone_atoms(potential.species, exact.cutoff))
        hook.remove()
        features = seen[0][:n]
        energies = last(features)[:, 0]
    free = getattr(potential.model.config, "isolated_atom", "free") == "free"
    return {
        "references": potential.references,
        "scale": potential.scale,
        "lone_energies": torch.zeros_like(energies) if free else energies,
        "lone_features": features if len(seen[0]) > n else torch.zeros_like(features),
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


def _wall(potential: Potential) -> Tensors:
    """Repulsion, and the floor of distances, float64."""
    repulsion, floor = (getattr(potential.model, name, None) for name in ("repulsion", "floor"))
    if not isinstance(repulsion, ScreenedRepulsion):
        return {}
    of_elements = repulsion.atoms[list(potential.species)]
    tensors = {
        "wall.closest": repulsion.reach,
        "wall.charge": of_elements[:, 0],
        "wall.decay": of_elements[:, 1],
        "wall.screening": repulsion.screening,
        "wall.coulomb": torch.tensor([COULOMB_CONSTANT], dtype=torch.float64),
    }
    if isinstance(floor, DistanceFloor):
        numbers = (float(floor.most), SLACK, WIDTH, STIFFNESS, NEAREST)
        tensors["wall.floor"] = torch.tensor(numbers, dtype=torch.float64)
    return tensors
