"""A model as a file for the native engine, which is held against the model first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlanet.checkpoint import load_model, model_path, read_model_header
from mlanet.errors import KernelError
from mlanet.execution import Execution
from mlanet.kernels import NATIVE, native_differences, use_kernels
from mlanet.native.export import export_native
from mlanet.workflows.output import refuse_overwriting


def export(model: str, output: Path, dtype: str | None = None, tell: Callable[[str], None] = print) -> dict[str, Any]:
    """Write `output`, and say what is in it.

    Args:
        model: name of a packaged model, or a path.
        output: replaced whole or not at all.
        dtype: "float32" or "float64"; None keeps the model's.
        tell: is told if the engine could not be compared with the model here.
    Returns:
        Facts of the file, and where the engine was compared by how much it differed from the model.
    Raises:
        CheckpointError, ConfigError: as `load_model` and `export_native`; an engine that gives other numbers.
        OutputError: an output that is the model itself.
    """
    path = model_path(model)
    refuse_overwriting([output], [path])
    header = read_model_header(path)
    potential = Execution(dtype=dtype, kernels="plain").placed(load_model(path).requires_grad_(False))
    differences: dict[str, float] = {}
    try:
        differences = native_differences(potential)
        use_kernels(potential, NATIVE, inference=True)
    except KernelError as error:
        tell(f"the engine was not compared with the model: {error}")
    export_native(potential, output, header.digest)
    return {
        "output": str(output),
        "bytes": output.stat().st_size,
        "elements": len(header.statistics.species),
        "cutoff": header.config.cutoff,
        "precision": str(potential.dtype).removeprefix("torch."),
        "digest": header.digest,
        "compared": bool(differences),
        **differences,
    }
