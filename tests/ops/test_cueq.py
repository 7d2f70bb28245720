"""Tensor products by cuEquivariance are ours: the operation, its derivatives, and whole models."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from operations import assert_same, derivatives, draw
from systems import SPECIES, triclinic
from torch import Tensor

from mlanet.data.atoms import to_graph
from mlanet.errors import ConfigError, KernelError
from mlanet.kernels import use_kernels
from mlanet.ops.cueq import full_product
from mlanet.ops.paths import full_values, paths
from mlanet.ops.reference import split_degrees
from mlanet.potential import Potential
from mlanet.profiling.subject import configuration
from mlanet.statistics import Statistics

there = importlib.util.find_spec("cuequivariance_torch") is not None


def potential(more: str) -> Potential:
    torch.manual_seed(0)
    config = configuration(f"mlanet_l2:irreps=8x0e+8x1o+8x2e,layers=2,heads=2,{more}")
    return Potential.build(config, Statistics.unit(SPECIES, 40.0)).double()


@pytest.mark.skipif(not there, reason="needs cuequivariance-torch")
@pytest.mark.parametrize("l_max", [1, 2, 3])
def test_the_product_is_ours(l_max: int) -> None:
    """Through second derivatives."""
    generator = torch.Generator().manual_seed(l_max)
    edges, rows, channels = 5, (l_max + 1) ** 2, 3
    sizes = [(edges, rows, channels), (edges, len(paths(l_max)), channels), (edges, rows)]
    inputs = [draw(size, generator, torch.float64) for size in sizes]

    def plain() -> Tensor:
        sent, weights, harmonics = inputs
        return torch.cat(full_values(split_degrees(sent, l_max), weights, split_degrees(harmonics, l_max)), dim=1)

    assert_same(derivatives(lambda: full_product(*inputs), inputs, [], 0), derivatives(plain, inputs, [], 0), 1e-12)


@pytest.mark.skipif(not there, reason="needs cuequivariance-torch")
@pytest.mark.parametrize("more", ["message=full", "message=full,combine=sum", "attention=fctp"])
def test_models_give_the_same(more: str) -> None:
    """Chosen only after a comparison that goes through training; energies agree."""
    one = potential(more)
    graph = to_graph(triclinic(), one.cutoff)
    wanted = one(graph).energy
    assert use_kernels(one, "cueq").model.kernels == "cueq"
    torch.testing.assert_close(one(graph).energy, wanted, rtol=0, atol=1e-9)


@pytest.mark.skipif(there, reason="cuequivariance-torch is there")
def test_without_it_the_error_says_what_to_install() -> None:
    with pytest.raises(KernelError, match=r"pip install \"mlanet\[cueq\]\""):
        use_kernels(potential("message=full"), "cueq")


def test_light_messages_have_no_tensor_product() -> None:
    with pytest.raises(ConfigError, match="cueq is for tensor products on edges"):
        use_kernels(potential("message=light"), "cueq")
