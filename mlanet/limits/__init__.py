"""Where a model can be trusted: how far a structure is from the training set, and how large errors are likely to be."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from mlanet.limits.assess import EDGE, INSIDE, OUTSIDE, UNKNOWN, Assessment, assess, of_batch, of_joined, worse
from mlanet.limits.told import Exporting, assessed_results, with_assessment
from mlanet.limits.watch import Watch

if TYPE_CHECKING:
    from mlanet.limits.fit import fit_domain
    from mlanet.limits.of_file import find_limits

__all__ = [
    "EDGE",
    "INSIDE",
    "OUTSIDE",
    "UNKNOWN",
    "Assessment",
    "Exporting",
    "Watch",
    "assess",
    "assessed_results",
    "find_limits",
    "fit_domain",
    "of_batch",
    "of_joined",
    "with_assessment",
    "worse",
]

_HOME = {"find_limits": "mlanet.limits.of_file", "fit_domain": "mlanet.limits.fit"}
"""What needs torch, looked up on first use."""


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'mlanet.limits' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)
