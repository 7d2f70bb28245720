"""Where a model can be trusted: how far a structure is from the training set, and how large errors are likely to be."""

from mlanet.limits.assess import EDGE, INSIDE, OUTSIDE, UNKNOWN, Assessment, assess, of_batch, of_joined, worse
from mlanet.limits.fit import fit_domain
from mlanet.limits.of_file import find_limits
from mlanet.limits.told import assessed_results, with_assessment
from mlanet.limits.watch import Watch

__all__ = [
    "EDGE",
    "INSIDE",
    "OUTSIDE",
    "UNKNOWN",
    "Assessment",
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
