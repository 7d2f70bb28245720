"""`Domain`: what a model file holds of where its model can be trusted. Fitted and read by `mlanet.limits`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

PREFIX = "limits."
"""Of the names of its tensors in a model file, where no weight has it."""


@dataclass(frozen=True)
class Domain:
    """The training set as the network sees it, and how large errors were on data held back; float64, on the CPU.

    Z species in the order of `Statistics.species`, C features of an atom (`Prediction.features`).

    - mean (Z, C) · whiten (Z or 1, C, C): y = (x − mean) whiten has unit covariance over the training atoms of a
      species (of all species where there are many, to keep the file small)
    - reach (Z,): |y| / √C of the farthest atom, a little widened · coordination (Z, 2): least and most
    - rigidity (C, C): inverse of the second moment of the structures' mean features, with a small ridge
    - energy (3,), forces (K,), stress (3,): coefficients of the logarithm of a standard error (`mlanet.limits.errors`);
      empty where no data were held back
    """

    mean: NDArray[np.float64]
    whiten: NDArray[np.float64]
    reach: NDArray[np.float64]
    coordination: NDArray[np.float64]
    rigidity: NDArray[np.float64]
    energy: NDArray[np.float64]
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]

    def problem(self, n_species: int) -> str:
        """Why this cannot belong to a model of so many species; empty if it can."""
        arrays = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if self.mean.ndim != 2 or len(self.mean) != n_species:
            return f"limits.mean has the shape {self.mean.shape}, expected {n_species} rows"
        width = self.mean.shape[1]
        expected: dict[str, list[tuple[int, ...]]] = {
            "reach": [(n_species,)],
            "coordination": [(n_species, 2)],
            "rigidity": [(width, width)],
            "whiten": [(n_species, width, width), (1, width, width)],
            "energy": [(0,), (3,)],
            "stress": [(0,), (3,)],
            "forces": [(0,), (n_species + 2 + width,)],
        }
        for name, shapes in expected.items():
            if arrays[name].shape not in shapes:
                return f"limits.{name} has the shape {arrays[name].shape}, expected {shapes[-1]}"
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                return f"limits.{name} holds NaN or infinity"
        return ""

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[np.float64]], n_species: int) -> Domain | None:
        """From the arrays of a model file; None where it has none, as in files from before.

        Raises:
            ValueError: some of them are missing, there are others, or they are not of a model of so many species.
        """
        ours = {name: array for name, array in arrays.items() if name.startswith(PREFIX)}
        measures = {name.removeprefix(PREFIX): np.array(array, dtype=np.float64) for name, array in ours.items()}
        if not measures:
            return None
        names = {field.name for field in dataclasses.fields(cls)}
        if set(measures) != names:
            raise ValueError(f"limits hold {sorted(measures)}, expected {sorted(names)}")
        domain = cls(**measures)
        if problem := domain.problem(n_species):
            raise ValueError(problem)
        return domain


def arrays_of(domain: Domain | None) -> dict[str, NDArray[Any]]:
    """As they stand in a model file, the large ones in float32; nothing where there is no domain."""
    if domain is None:
        return {}
    large = ("mean", "whiten")
    named = {field.name: getattr(domain, field.name) for field in dataclasses.fields(domain)}
    return {PREFIX + name: array.astype(np.float32) if name in large else array for name, array in named.items()}


def parted(named: Mapping[str, T]) -> tuple[dict[str, T], dict[str, T]]:
    """What stands in a model file as weights, and as parts of a domain."""
    weights = {name: array for name, array in named.items() if not name.startswith(PREFIX)}
    return weights, {name: array for name, array in named.items() if name.startswith(PREFIX)}
