"""A model's file for the compiled pair style."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ase.data import chemical_symbols

from mlanet.checkpoint import model_path, read_model_header
from mlanet.native.engine import only_kind
from mlanet.native.file import read_header
from mlanet.workflows.export import export


class Written(NamedTuple):
    """A file that was written, its kind (`only_kind`), and what to write behind `pair_coeff * *`."""

    path: Path
    name: str
    kind: str
    example: str


def write_model(model: str, folder: Path, dtype: str | None = None, tell: Callable[[str], None] = print) -> Written:
    """A model as `NAME.mlanet` in a folder, which is made if it is not there.

    Raises:
        CheckpointError, ConfigError, OutputError: as `export`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = model_path(model).stem
    path = folder / f"{name}.mlanet"
    precision = export(model, path, dtype, tell)["precision"]
    kind = only_kind(read_header(path.read_bytes()), str(precision))
    header = read_model_header(model_path(model))
    symbols = [chemical_symbols[z] for z in header.statistics.species]
    example = "Si O" if {"Si", "O"} <= set(symbols) else " ".join(symbols[:2])
    return Written(path, name, kind, example)
