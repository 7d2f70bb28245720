"""The computations that are timed, the same for every model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from mlanet.profiling.subject import CompilesGradient, Subject, loss

MODES = ("infer", "train")
"""infer: energy, forces and stress. train: the same, a loss on all three, its gradient, and a step of AdamW."""


class Steps:
    """The calls of one subject on one batch."""

    def __init__(self, subject: Subject, inputs: Any) -> None:
        self.subject, self.inputs = subject, inputs
        parameters = [parameter for parameter in subject.module.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(parameters, lr=1e-9, amsgrad=True)
        self.parameters = parameters

    def call(self, mode: str) -> Callable[[], object]:
        """What a mode stands for."""
        return {"infer": self.infer, "train": self.train, "gradient": self.gradient, "update": self.update}[mode]

    def infer(self) -> object:
        """Energy, forces and stress, no history kept."""
        return self.subject.evaluate(self.inputs, False)

    def gradient(self) -> object:
        """Energy, forces, stress with their history, the mean square of each as a loss, and its gradient."""
        if isinstance(self.subject, CompilesGradient):
            self.subject.gradient(self.inputs)
            return None
        loss(*self.subject.evaluate(self.inputs, True)).backward()
        return None

    def update(self) -> object:
        """The optimiser's step alone, with the gradients there are."""
        self.optimiser.step()
        return None

    def train(self) -> object:
        """A whole training step; the gradients are let go at its end."""
        self.gradient()
        self.update()
        self.optimiser.zero_grad(set_to_none=True)
        return None


def slope_error(subject: Subject, structures: list[Any]) -> float:
    """|F + ΔE/Δx| of one coordinate over the largest force: whether what is timed is the gradient of the energy.

    Structures of the same size are moved by ±0.01 Å; float32 and the anharmonicity leave some 1e-2.
    """
    step, energies = 0.01, []
    for shift in (step, -step):
        moved = [atoms.copy() for atoms in structures]
        moved[0].positions[0, 0] += shift
        energies.append(float(subject.evaluate(subject.prepare(moved), False)[0].double().sum()))
    forces = subject.evaluate(subject.prepare(structures), False)[1].double()
    slope = (energies[0] - energies[1]) / (2 * step)
    return abs(float(forces[0, 0]) + slope) / max(float(forces.abs().max()), 1e-12)
