"""mlanet: equivariant machine-learning interatomic potentials for molecules and crystals.

    >>> import mlanet
    >>> mlanet.AtomicGraph.__name__
    'AtomicGraph'

The public names are looked up on first use, so that `mlanet --help` need not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlanet.lazily import lookup
from mlanet.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from mlanet.calculator import MLANetCalculator
    from mlanet.committee import CommitteeCalculator
    from mlanet.graph import AtomicGraph, Labels, Prediction
    from mlanet.potential import Potential

__all__ = [
    "DEFAULT_MODEL",
    "AtomicGraph",
    "CommitteeCalculator",
    "Labels",
    "MLANetCalculator",
    "Potential",
    "Prediction",
    "__version__",
    "load",
]

_HOME = {
    "AtomicGraph": "mlanet.graph",
    "CommitteeCalculator": "mlanet.committee",
    "Labels": "mlanet.graph",
    "MLANetCalculator": "mlanet.calculator",
    "Potential": "mlanet.potential",
    "Prediction": "mlanet.graph",
}


DEFAULT_MODEL = "universal"
"""The packaged model that answers where none is named."""


def load(model: str | Path = DEFAULT_MODEL, dtype: torch.dtype | None = None, device: str = "cpu") -> Potential:
    """A trained potential, from the name of a packaged model or a path to a model file, ready for use.

    Raises:
        CheckpointError: no such model, or a file that is corrupted or of another kind.
    """
    from mlanet.checkpoint import load_model, model_path

    return load_model(model_path(model), dtype=dtype, device=device)


__getattr__ = lookup(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted(__all__)
