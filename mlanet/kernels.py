"""Choosing how a potential computes, and making sure that the fast way says what the plain one says."""

from __future__ import annotations

import torch
from torch import Tensor

from mlanet.errors import ConfigError
from mlanet.forecast import probe
from mlanet.potential import Potential

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}
"""Largest difference allowed, relative to the largest entry of the same tensor: some hundred roundings."""


def use_kernels(potential: Potential, kernels: str) -> Potential:
    """The potential with its kernels chosen; compiled ones are compared with the plain ones before they are used.

    Compared are energy, forces, stress, and the gradients of a loss on all three with respect to every weight, on
    one small batch. Compiling takes about a minute, once for each number of neighbours (in steps of eight).

    Raises:
        ConfigError: kernels that the model has not, that cannot be compiled here, or that give other numbers.
    """
    potential.with_kernels(kernels)
    if kernels != "compiled":
        return potential
    try:
        fast = _answers(potential)
    except Exception as error:  # whatever a compiler raises
        potential.with_kernels("plain")
        text = str(error).strip().splitlines()
        raise ConfigError(
            f"kernels: compiled cannot be made here ({type(error).__name__}: {text[0] if text else 'no message'}); "
            "a C++ compiler such as g++ is needed. `blocks` needs none and as little memory"
        ) from error
    plain = _answers(potential.with_kernels("plain"))
    tolerance = TOLERANCE[potential.dtype]
    for (name, one), (_, other) in zip(plain, fast, strict=True):
        scale = max(float(one.abs().max()), 1e-6)
        difference = float((one - other).abs().max()) / scale
        if not difference <= tolerance:
            raise ConfigError(
                f"kernels: compiled gives other numbers than plain: {name} differs by {difference:.1e} of its largest "
                f"entry (allowed: {tolerance:.0e}). Please report this, and use plain"
            )
    return potential.with_kernels("compiled")


def _answers(potential: Potential) -> list[tuple[str, Tensor]]:
    """Results and gradients of a training step on a small made-up batch; the weights stay as they are."""
    was_training = potential.training
    graph = probe(potential, 27, 12)
    potential.train()
    try:
        found = potential(graph)
        stress = found.stress.nan_to_num()
        loss = found.energy.square().mean() + found.forces.square().mean() + stress.square().mean()
        named = [(name, one) for name, one in potential.named_parameters() if one.requires_grad]
        weights = [one for _, one in named]
        slopes = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True) if weights else ()
    finally:
        potential.train(was_training)
    results = [("energy", found.energy), ("forces", found.forces), ("stress", stress)]
    gradients = [(f"the gradient of {name}", slope) for (name, _), slope in zip(named, slopes, strict=True)]
    return [(name, one.detach()) for name, one in [*results, *gradients]]
