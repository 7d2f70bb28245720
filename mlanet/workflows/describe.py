"""What a model, a preset or an installation is, as plain data."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import torch
from ase.data import chemical_symbols

from mlanet.checkpoint import model_path, packaged_models, read_model_header
from mlanet.config import preset_names, to_data
from mlanet.errors import CheckpointError, KernelError
from mlanet.models import build_model, read_model_config
from mlanet.ops.cpp import library
from mlanet.statistics import Statistics
from mlanet.version import __version__

PACKAGES = ("torch", "e3nn", "numpy", "ase", "vesin", "pymatgen", "msgspec", "safetensors", "opt_einsum", "typer")


def describe(name: str) -> dict[str, Any]:
    """A preset (or a YAML of one's own) as configuration and size; a model file with all that its header says.

    Raises:
        CheckpointError: neither a packaged model, nor a preset, nor a readable model file.
    """
    if name not in packaged_models() and (name in preset_names() or name.endswith((".yaml", ".yml"))):
        return describe_preset(name)
    try:
        path = model_path(name)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; presets: {', '.join(preset_names())}") from None
    return describe_model(path)


def describe_preset(name: str) -> dict[str, Any]:
    """Configuration of a preset, built for one element to count its parameters."""
    config = read_model_config(name)
    model = build_model(config, Statistics.unit((6,)))
    return {
        "preset": name,
        "config": to_data(config),
        "cutoff_A": model.cutoff,
        "conservative": model.conservative,
        "parameters_for_one_element": sum(parameter.numel() for parameter in model.parameters()),
    }


def describe_model(path: Path) -> dict[str, Any]:
    """What the header of a model file says; the file is verified against its digest, nothing is run."""
    header = read_model_header(path)
    return {
        "file": str(path),
        "elements": [chemical_symbols[z] for z in header.statistics.species],
        "cutoff_A": header.config.cutoff,
        "conservative": header.config.conservative,
        "parameters": header.parameters,
        "references_eV": {chemical_symbols[z]: e for z, e in _by_species(header.statistics)},
        "references_from": header.statistics.references_from or "not recorded",
        "energies_from": header.statistics.energy_key or "energy",
        "lone_atoms": header.statistics.lone_atoms or "the references are energies of free atoms",
        "config": to_data(header.config),
        "card": msgspec.to_builtins(header.card),
        "written_by_mlanet": header.version,
        "schema_version": header.schema_version,
        "digest": header.digest,
    }


def installation() -> dict[str, Any]:
    """Versions, devices and threads, and whether the neighbour list and e3nn work here."""
    return {
        "mlanet": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: _version(name) for name in PACKAGES},
        "devices": ", ".join(["cpu", *map(torch.cuda.get_device_name, range(torch.cuda.device_count()))]),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "models": ", ".join(packaged_models()) or "none",
        "presets": ", ".join(preset_names()),
        "fused kernels": _fused_kernels(),
        "a small computation": _small_computation(),
    }


def _fused_kernels() -> str:
    """Whether the kernels in C++ can be made, and with what."""
    try:
        library.load(1, torch.float32)
        return f"work, made by {' '.join(library.compiler())}"
    except KernelError as error:
        return f"not here: {error}"


def _small_computation() -> str:
    """Energy and forces of two silicon atoms by the first preset, through every layer."""
    from ase.build import bulk

    from mlanet.data.atoms import to_graph
    from mlanet.potential import Potential

    config = read_model_config(preset_names()[0])
    graph = to_graph(bulk("Si", "diamond", a=5.43), config.cutoff)
    potential = Potential.build(config, Statistics.unit((14,), graph.n_edges / graph.n_atoms)).eval()
    prediction = potential(graph)
    net = float(prediction.forces.sum(dim=0).abs().max())
    return "works" if net < 1e-3 else f"net force {net} eV/Å: something is wrong with this installation"


def _by_species(statistics: Statistics) -> list[tuple[int, float]]:
    return list(zip(statistics.species, statistics.references, strict=True))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
