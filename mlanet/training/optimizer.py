"""What makes a step of the weights from their gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

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


def build_optimizer(config: OptimizerConfig, potential: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of the weights that are trained."""
    named = [(name, weight) for name, weight in potential.named_parameters() if weight.requires_grad]
    if config.kind == "muon":
        return Muon(named, lr=config.lr, weight_decay=config.weight_decay)
    weights = [weight for _, weight in named]
    return torch.optim.AdamW(weights, lr=config.lr, weight_decay=config.weight_decay, amsgrad=config.amsgrad)


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
    """The orthogonal matrices nearest to (..., A, B), roughly: singular values between 0.7 and 1.2."""
    a, b, c = NEWTON_SCHULZ
    x = matrices / (torch.linalg.matrix_norm(matrices)[..., None, None] + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
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
            for weight in weights:
                weight.mul_(1 - group["lr"] * group["weight_decay"])
            self._matrix_steps([weight for weight in weights if id(weight) in self._matrices], group["lr"])
            self._adam_steps([weight for weight in weights if id(weight) not in self._matrices], group["lr"])
        return value

    def _matrix_steps(self, weights: list[Tensor], lr: float) -> None:
        """Orthogonal steps."""
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for weight in weights:
            by_shape.setdefault(weight.shape[-2:], []).append(weight)
        for shape, alike in by_shape.items():
            moved = []
            for weight in alike:
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].mul_(MOMENTUM).add_(weight.grad)
                moved.append((weight.grad + MOMENTUM * state["momentum"]).reshape(-1, *shape))
            steps = orthogonal(torch.cat(moved)).split([len(matrix) for matrix in moved])
            for weight, step in zip(alike, steps, strict=True):
                weight.add_(step.reshape(weight.shape), alpha=-lr * RMS * max(shape) ** 0.5)

    def _adam_steps(self, weights: list[Tensor], lr: float) -> None:
        """Adam's."""
        for weight in weights:
            state, gradient = self.state[weight], weight.grad
            assert gradient is not None
            if not state:
                state |= {"step": torch.zeros(()), "mean": torch.zeros_like(weight)}
                state["square"] = torch.zeros_like(weight)
            state["step"] += 1
            state["mean"].lerp_(gradient, 1 - BETAS[0])
            state["square"].lerp_(gradient.square(), 1 - BETAS[1])
            count = float(state["step"])
            size = (state["square"] / (1 - BETAS[1] ** count)).sqrt_().add_(EPSILON)
            weight.addcdiv_(state["mean"] / (1 - BETAS[0] ** count), size, value=-lr)
