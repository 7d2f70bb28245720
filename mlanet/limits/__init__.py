"""Where a model can be trusted: how far a structure is from the training set, and how large errors are likely to be."""

from mlanet.limits.assess import EDGE, INSIDE, OUTSIDE, UNKNOWN, Assessment, assess, of_batch, worse
from mlanet.limits.fit import fit_domain

__all__ = [
    "EDGE",
    "INSIDE",
    "OUTSIDE",
    "UNKNOWN",
    "Assessment",
    "assess",
    "fit_domain",
    "of_batch",
    "worse",
]
