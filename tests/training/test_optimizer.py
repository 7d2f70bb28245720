"""Muon: which weights it takes orthogonal steps of, how large they are, and that it goes on where it stopped."""

from __future__ import annotations

import torch
from torch import nn

from mlanet.models import LEIGNNConfig, MLANetConfig
from mlanet.potential import Potential
from mlanet.statistics import Statistics
from mlanet.training.config import OptimizerConfig
from mlanet.training.optimizer import Muon, build_optimizer, is_matrix, orthogonal

SMALL = MLANetConfig(irreps="16x0e+16x1o", layers=1, heads=2, key_dim=4, hidden=16, elements="periodic")


def test_orthogonal_matrices_have_singular_values_near_one() -> None:
    """Of any shape and size, one or many."""
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 16, 16), (1, 8, 40), (2, 40, 8)):
        matrices = 1e-3 * torch.randn(shape, generator=generator)
        values = torch.linalg.svdvals(orthogonal(matrices))
        assert values.min() > 0.3 and values.max() < 1.3
        left, _, right = torch.linalg.svd(matrices, full_matrices=False)
        assert torch.nn.functional.cosine_similarity(orthogonal(matrices).flatten(), (left @ right).flatten(), 0) > 0.95


def test_it_takes_the_matrices_of_layers_only() -> None:
    """No tables by element, no radii, no norms, no products by channel; and some of every model."""
    statistics = Statistics.unit((1, 6, 8), 12.0)
    for config in (SMALL, LEIGNNConfig(channels=16)):
        named = dict(Potential.build(config, statistics).named_parameters())
        taken = {name for name, weight in named.items() if is_matrix(name, weight)}
        assert taken and len(taken) < len(named)
        assert all("layers" in name for name in taken)
        assert not any("embedding" in name or "gain" in name or "product.product" in name for name in taken)


def test_each_model_says_what_trains_it() -> None:
    """`auto`, which is the default; and a word that is given is obeyed."""
    statistics = Statistics.unit((1, 6, 8), 12.0)
    for config, kind in ((SMALL, Muon), (LEIGNNConfig(channels=16), torch.optim.AdamW)):
        potential = Potential.build(config, statistics)
        assert type(build_optimizer(OptimizerConfig(), potential)) is kind
        assert type(build_optimizer(OptimizerConfig(kind="muon"), potential)) is Muon
        assert type(build_optimizer(OptimizerConfig(kind="adamw"), potential)) is torch.optim.AdamW


def test_steps_have_the_size_of_the_learning_rate() -> None:
    """0.2 η for a matrix, η for the rest, in the first step."""
    weight, bias = nn.Parameter(torch.randn(24, 16)), nn.Parameter(torch.randn(16))
    optimizer = Muon([("model.layers.0.a", weight), ("model.layers.0.b", bias)], lr=0.01)
    before = weight.detach().clone(), bias.detach().clone()
    (weight.square().sum() + bias.square().sum()).backward()
    optimizer.step()
    assert torch.allclose((bias - before[1]).abs(), torch.full((16,), 0.01), rtol=1e-3)
    size = (weight - before[0]).square().mean().sqrt()
    assert 0.5 < size / (0.2 * 0.01) < 1.5


def test_steps_are_those_of_the_equations() -> None:
    """Momentum, Newton-Schulz and Nesterov written out for one matrix, Adam's as torch has it; with decay."""
    torch.manual_seed(0)
    lr, decay = 0.02, 0.1
    weight, bias = nn.Parameter(torch.randn(2, 12, 20).double()), nn.Parameter(torch.randn(16).double())
    expected, other = weight.detach().clone(), nn.Parameter(bias.detach().clone())
    optimizer = Muon([("layers.a", weight), ("layers.b", bias)], lr, decay)
    adam = torch.optim.AdamW([other], lr, weight_decay=decay)
    momentum = torch.zeros_like(expected)
    for _ in range(4):
        gradients = torch.randn_like(weight), torch.randn_like(bias)
        weight.grad, bias.grad, other.grad = gradients[0], gradients[1], gradients[1].clone()
        optimizer.step()
        adam.step()
        momentum = 0.95 * momentum + gradients[0]
        expected = expected * (1 - lr * decay)
        for k, moved in enumerate(gradients[0] + 0.95 * momentum):
            x = moved / (moved.norm() + 1e-7)
            for _ in range(5):
                square = x @ x.T
                x = 3.4445 * x - 4.7750 * square @ x + 2.0315 * square @ square @ x
            expected[k] -= lr * 0.2 * 20**0.5 * x
        assert torch.allclose(weight, expected, rtol=1e-10, atol=1e-12)
        assert torch.allclose(bias, other, rtol=1e-10, atol=1e-12)


def test_a_resumed_optimizer_makes_the_same_step() -> None:
    """Its state as the trainer saves it: tensors by place and key."""
    torch.manual_seed(0)
    statistics = Statistics.unit((1, 6, 8), 12.0)
    runs = []
    for stop in (None, 3):
        torch.manual_seed(1)
        potential = Potential.build(SMALL, statistics)
        optimizer = build_optimizer(OptimizerConfig(kind="muon", lr=1e-2), potential)
        for step in range(6):
            if step == stop:
                state = optimizer.state_dict()["state"]
                optimizer = build_optimizer(OptimizerConfig(kind="muon", lr=1e-2), potential)
                optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
            optimizer.zero_grad()
            sum((weight.sin() * (k + 1)).sum() for k, weight in enumerate(potential.parameters())).backward()
            optimizer.step()
        runs.append(torch.cat([weight.detach().flatten() for weight in potential.parameters()]))
    assert torch.equal(*runs)


def test_it_fits_what_it_is_given() -> None:
    """A linear map, from badly scaled inputs."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"layers": nn.Linear(16, 16, bias=False)})
    inputs = torch.randn(256, 16) * torch.logspace(-0.5, 0.5, 16)
    targets = inputs @ torch.randn(16, 16)
    optimizer = Muon(list(model.named_parameters(prefix="model")), lr=0.1)
    losses = []
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 300)
        optimizer.zero_grad()
        losses.append((model["layers"](inputs) - targets).abs().mean())
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.02 * losses[0]
