"""Molecular dynamics that can be interrupted, and the analysis of trajectories (arXiv 2210.07237's definitions)."""

from mlanet.dynamics.diffusion import Diffusion, diffusion
from mlanet.dynamics.distributions import Distribution, distance_distribution, integral_error, rdf
from mlanet.dynamics.run import Moment, simulate
from mlanet.dynamics.settings import DynamicsSettings
from mlanet.dynamics.stability import stable_time

__all__ = [
    "Diffusion",
    "Distribution",
    "DynamicsSettings",
    "Moment",
    "diffusion",
    "distance_distribution",
    "integral_error",
    "rdf",
    "simulate",
    "stable_time",
]
