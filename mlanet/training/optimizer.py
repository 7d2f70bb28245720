"""What makes a step of the weights from their gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor

from mlanet.potential import Potential
from mlanet.training.config import OptimizerConfig

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""a, b, c of X ← a X + (b XXᵀ + c (XXᵀ)²) X: singular values below 1 come near 1 in five rounds."""
ROUNDS = 5
MOMENTUM = 0.95
BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Of Adam, for what is no matrix."""
RMS = 0.2
"""Root mean square of a step of a matrix, in learning rates: that of AdamW, so that one rate serves both."""
SMALLEST = 8
"""Rows or columns below which a weight is no matrix that orthogonal steps are made for."""


def build_optimizer(config: OptimizerConfig, potential: Potential) -> torch.optim.Optimizer:
    """The optimiser of the weights that are trained."""
    named = [(name, weight) for name, weight in potential.named_parameters() if weight.requires_grad]
    if kind_for(config, potential) == "muon":
        return Muon(named, lr=config.lr, weight_decay=config.weight_decay)
    weights, decay = [weight for _, weight in named], config.weight_decay
    return torch.optim.AdamW(weights, lr=config.lr, weight_decay=decay, amsgrad=config.amsgrad, fused=True)


def kind_for(config: OptimizerConfig, potential: Potential) -> Literal["adamw", "muon"]:
    """What `auto` means for a model: what the model says."""
    return potential.model.config.optimizer if config.kind == "auto" else config.kind


def is_matrix(name: str, weight: Tensor) -> bool:
    """Whether Muon takes orthogonal steps of it: the matrices of layers, also several in one tensor (one per degree).

    Tables by element, radii, biases, norms and the weights of node products (one for each channel) are none.
    """
    return (
        ".layers." in f".{name}"
        and weight.ndim >= 2
        and min(weight.shape[-2:]) >= SMALLEST
        and not name.endswith("product.product.weight")
    )


def orthogonal(matrices: Tensor) -> Tensor:
    """The orthogonal matrices nearest to (n, A, B), roughly: singular values between 0.7 and 1.2."""
    a, b, c = NEWTON_SCHULZ
    x = matrices / (torch.linalg.matrix_norm(matrices)[..., None, None] + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(ROUNDS):
        square = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal, for the matrices of the layers; AdamW for all other weights.

    W ← (1 − ηλ) W − η 0.2 √max(A, B) O(g + μm), m ← μm + g, for W (A, B) or (L, A, B), O the nearest orthogonal
    matrix. A step moves every direction of the feature space alike, where Adam's is ruled by a few. Nesterov's form;
    the size is that of Adam's steps. Source: K. Jordan et al. (2024); arXiv 2502.16982.

    Args:
        named: weights with their names.
        lr: η.
        weight_decay: λ, decoupled.
    """

    def __init__(self, named: Iterable[tuple[str, Tensor]], lr: float, weight_decay: float = 0.0) -> None:
        named = list(named)
        super().__init__([weight for _, weight in named], {"lr": lr, "weight_decay": weight_decay})
        self._matrices = frozenset(id(weight) for name, weight in named if is_matrix(name, weight))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; matrices of one shape are taken together."""
        value = None if closure is None else closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            self._matrix_steps([weight for weight in weights if id(weight) in self._matrices], group["lr"])
            self._adam_steps([weight for weight in weights if id(weight) not in self._matrices], group["lr"])
        return value

    def _matrix_steps(self, weights: list[Tensor], lr: float) -> None:
        """Orthogonal steps."""
        if not weights:
            return
        gradients = [_gradient(weight) for weight in weights]
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        momenta = [self.state[weight]["momentum"] for weight in weights]
        torch._foreach_mul_(momenta, MOMENTUM)
        torch._foreach_add_(momenta, gradients)
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for weight, moved in zip(weights, torch._foreach_add(gradients, momenta, alpha=MOMENTUM), strict=True):
            by_shape.setdefault(weight.shape[-2:], []).append((weight, moved.reshape(-1, *weight.shape[-2:])))
        for shape, pairs in by_shape.items():
            alike, moved_alike = zip(*pairs, strict=True)
            steps = orthogonal(torch.cat(moved_alike)).split([len(matrices) for matrices in moved_alike])
            shaped = [step.reshape(weight.shape) for weight, step in zip(alike, steps, strict=True)]
            torch._foreach_add_(list(alike), shaped, alpha=-lr * RMS * max(shape) ** 0.5)

    def _adam_steps(self, weights: list[Tensor], lr: float) -> None:
        """Adam's."""
        if not weights:
            return
        gradients = [_gradient(weight) for weight in weights]
        for weight in weights:
            if not self.state[weight]:
                zeros = {"mean": torch.zeros_like(weight), "square": torch.zeros_like(weight)}
                self.state[weight] |= {"step": torch.zeros(()), **zeros}
        steps, means, squares = (
            [self.state[weight][name] for weight in weights] for name in ("step", "mean", "square")
        )
        torch._foreach_add_(steps, 1)
        torch._foreach_lerp_(means, gradients, 1 - BETAS[0])
        torch._foreach_lerp_(squares, torch._foreach_mul(gradients, gradients), 1 - BETAS[1])
        counts = [float(step) for step in steps]
        sizes = torch._foreach_div(squares, [1 - BETAS[1] ** count for count in counts])
        torch._foreach_sqrt_(sizes)
        torch._foreach_add_(sizes, EPSILON)
        unbiased = torch._foreach_div(means, [1 - BETAS[0] ** count for count in counts])
        torch._foreach_addcdiv_(weights, unbiased, sizes, value=-lr)


def _gradient(weight: Tensor) -> Tensor:
    """Of a weight that has one."""
    assert weight.grad is not None
    return weight.grad
