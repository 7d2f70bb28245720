"""Several models asked alike: their mean is the answer, and how far they are apart is its standard error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlanet.errors import ConfigError
from mlanet.graph import Prediction
from mlanet.limits.assess import UNKNOWN, Assessment, worse
from mlanet.potential import Potential


def require_committee(members: Sequence[Potential], names: Sequence[str]) -> None:
    """Refuse what has no spread, or members that cannot be asked about the same structures.

    Raises:
        ConfigError: fewer than two members, the same weights twice, other elements, or direct forces beside gradients.
    """
    if len(members) < 2:
        raise ConfigError(f"a committee needs at least two models, got {len(members)}")
    first = members[0]
    for k, (member, name) in enumerate(zip(members, names, strict=True)):
        if member.species != first.species:
            raise ConfigError(f"{name} knows other elements than {names[0]}; a committee answers for the same ones")
        if member.conservative != first.conservative:
            raise ConfigError(f"of {names[0]} and {name}, only one has forces that are the gradient of its energy")
        same = next((j for j in range(k) if _same_weights(members[j], member)), None)
        if same is not None:
            raise ConfigError(f"{name} has the weights of {names[same]}; members differ by the seed they began from")


def mean(predictions: Sequence[Prediction]) -> Prediction:
    """The mean of several answers about the same batch, of every quantity that all of them give.

    The mean of conservative models is conservative: its forces are the gradient of the mean energy. `features` are the
    first one's, since each model has its own.
    """
    named = [prediction.tensors() for prediction in predictions]
    shared = set.intersection(*(set(prediction) for prediction in named)) - {"features"}
    averaged = {name: torch.stack([prediction[name] for prediction in named]).mean(0) for name in shared}
    return Prediction(**averaged, features=predictions[0].features)


def spread(predictions: Sequence[Prediction], assessments: Sequence[Assessment]) -> Assessment:
    """How far the members are apart on one structure, s² = Σ_k (x_k − x̄)²/(K − 1), and the gravest word of theirs.

    Standard errors of forces and stress are those of a component, the root mean square over them.
    """
    gravest = assessments[0]
    for assessment in assessments[1:]:
        gravest = assessment if worse(assessment.extrapolation, gravest.extrapolation) else gravest
    stress = _deviation([prediction.stress.double().reshape(1, -1) for prediction in predictions])
    return Assessment(
        gravest.extrapolation,
        gravest.reasons,
        gravest.atoms,
        energy_std=float(_deviation([prediction.energy[:, None] for prediction in predictions])[0]),
        energies_std=_deviation([prediction.atomic_energies[:, None] for prediction in predictions]),
        forces_std=_deviation([prediction.forces.double() for prediction in predictions]),
        stress_std=float(stress[0]) if np.isfinite(stress[0]) else None,
        distance=gravest.distance if gravest.extrapolation != UNKNOWN else None,
    )


def _deviation(values: Sequence[Tensor]) -> NDArray[np.float64]:
    """K tensors (n, components) -> (n,), the root of the mean variance of the components."""
    variance = torch.stack(list(values)).double().var(dim=0, correction=1)
    deviation: NDArray[np.float64] = variance.mean(dim=1).sqrt().cpu().numpy()
    return deviation


def _same_weights(potential: Potential, other: Potential) -> bool:
    first, second = potential.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name].cpu(), second[name].cpu()) for name in first)
