"""The checkpoint of a simulation: everything that decides the next step, in one signed file, written whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from ase import Atoms
from safetensors import SafetensorError, safe_open

from mlanet.config import to_data
from mlanet.dynamics.integrators import Arrays
from mlanet.dynamics.settings import DynamicsSettings
from mlanet.errors import CheckpointError, ConfigError
from mlanet.model_files import load_arrays, save_arrays

SCHEMA = 1
MAY_CHANGE = ("steps", "checkpoint_every")
"""Settings that a resumed run may change: how long, and how often it is saved; frames keep their grid."""


@dataclass(frozen=True)
class State:
    """Where a simulation stands.

    - arrays: positions (N, 3) Å, momenta (N, 3), cell (3, 3) Å, numbers (N,), and the integrator's memory
    - step · rng: state of the generator · sizes: bytes of trajectory and log up to the last frame on the grid
    """

    arrays: Arrays
    step: int
    rng: dict[str, Any]
    sizes: dict[str, int]

    def restore(self, atoms: Atoms) -> None:
        """Put the atoms where they were."""
        atoms.set_cell(self.arrays["cell"])
        atoms.positions = self.arrays["positions"]
        atoms.set_momenta(self.arrays["momenta"], apply_constraint=False)


def write(path: Path, state: State, settings: DynamicsSettings, potential: str) -> None:
    """Replace the checkpoint, or leave the old one.

    Raises:
        CheckpointError: it cannot be written.
    """
    document = {"schema": SCHEMA, "settings": to_data(settings), "potential": potential}
    document |= {"step": state.step, "rng": state.rng, "sizes": state.sizes}
    save_arrays(path, {name: np.array(array, order="C") for name, array in state.arrays.items()}, document)


def read(path: Path, settings: DynamicsSettings, potential: str, atoms: Atoms) -> State:
    """Read a checkpoint and make sure that it is one of this simulation.

    Raises:
        CheckpointError: no checkpoint, or a damaged one.
        ConfigError: one of other settings, another potential or other atoms.
    """
    arrays, document = _unsigned(path) or _signed(path)
    _require_same(document["settings"], to_data(settings), str(path))
    if document["potential"] != potential:
        raise ConfigError(f"{path}: was run with {document['potential']}, not {potential}; choose another folder")
    if not np.array_equal(arrays["numbers"], atoms.numbers):
        raise ConfigError(f"{path}: holds other atoms than the structure given")
    return State(arrays, int(document["step"]), document["rng"], dict(document["sizes"]))


def _signed(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Arrays and document, of which not a bit has changed since they were written."""
    if not path.exists():
        raise CheckpointError(f"{path}: no checkpoint to resume from")
    try:
        arrays, document = load_arrays(path)
    except CheckpointError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise CheckpointError(f"{path}: not a checkpoint of a simulation: {reason}") from None
    if document.get("schema") != SCHEMA:
        raise CheckpointError(f"{path}: written by a later mlanet (schema {document.get('schema')}); install it")
    return arrays, document


def _unsigned(path: Path) -> tuple[Arrays, dict[str, Any]] | None:
    """What earlier versions wrote, which has no digest; nothing where the file is not one of those."""
    try:
        with safe_open(path, framework="numpy") as file:
            document = json.loads(file.metadata()["mlanet_dynamics"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no iterator there
        return arrays, document
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def _require_same(old: dict[str, Any], new: dict[str, Any], source: str) -> None:
    """Only harmless settings may differ."""
    known = {
        field.name: field.default for field in msgspec.structs.fields(DynamicsSettings)
    } | old  # of earlier versions
    changed = [name for name in new if name not in MAY_CHANGE and new[name] != known[name]]
    if changed:
        named = ", ".join(f"{name} (was {old.get(name)}, now {new[name]})" for name in changed)
        raise ConfigError(f"{source}: was run with another {named}; resume with the same, or choose another folder")
