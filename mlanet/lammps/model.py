"""A model's file for the compiled pair style."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from ase.data import chemical_symbols

from mlanet.checkpoint import model_path
from mlanet.execution import Execution
from mlanet.native.export import export_native


class Written(NamedTuple):
    """A file that was written, and what to write behind `pair_coeff * *`."""

    path: Path
    name: str
    precision: str
    l_max: int
    example: str


def write_model(model: str | os.PathLike[str], folder: Path, dtype: str | None = None) -> Written:
    """A model as `NAME.mlanet` in a folder, which is made if it is not there.

    Raises:
        CheckpointError: no such model, or a file that cannot be written; ConfigError: one without a native form.
    """
    potential = Execution(dtype).resolve(model, trained=False)
    folder.mkdir(parents=True, exist_ok=True)
    name = model_path(model).stem
    path = folder / f"{name}.mlanet"
    export_native(potential, path)
    symbols = [chemical_symbols[one] for one in potential.species]
    example = "Si O" if {"Si", "O"} <= set(symbols) else " ".join(symbols[:2])
    precision = str(potential.dtype).removeprefix("torch.")
    return Written(path, name, precision, potential.model.config.l_max, example)
