"""Where a model can be trusted: how far a structure is from the training set, and how large errors are likely to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlanet.lazily import lookup
from mlanet.limits.ase_results import Exporting, assessed_results, with_assessment
from mlanet.limits.assess import EDGE, INSIDE, OUTSIDE, UNKNOWN, Assessment, assess, of_batch, of_joined, worse
from mlanet.limits.watch import Watch

if TYPE_CHECKING:
    from mlanet.limits.fit import fit_domain
    from mlanet.limits.model_file import find_limits

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

_HOME = {"find_limits": "mlanet.limits.model_file", "fit_domain": "mlanet.limits.fit"}
"""What needs torch, looked up on first use."""

__getattr__ = lookup(__name__, _HOME)
