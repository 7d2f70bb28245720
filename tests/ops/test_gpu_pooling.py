"""The GPU kernels of first directions and pooling are plain torch through second derivatives, and fit the GPUs that
they are made for; a model by all GPU kernels computes the same. Without a GPU, as in `test_gpu_kernels`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pytest
import torch
from problems import SMALL, draw

from mlanet.ops import dispatch
from mlanet.ops.edge_degree.gpu import GpuDirections
from mlanet.ops.edge_degree.gpu import obstacle as directions_obstacle
from mlanet.ops.edge_degree.reference import DirectionInputs, directions
from mlanet.ops.neighbor_pooling.gpu import obstacle as pooling_obstacle
from mlanet.ops.rows import Rows

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton")

FEW = ["float64,0,one_edge", "float64,0,no_edges", "float64,5,no_edges", "float64,0,no_atoms"]

LINEAR = [f"float64,0,{name}" for name in ("own_l3", "some_alone", "one_atom_own_images", "tiles", "wide")]

HIDDEN_LAYER = ["float64,5,some_alone", "float64,5,one_atom_own_images", "float64,20,tiles"]
"""Of less and of more units than are taken at a time."""

SINGLE = ["float32,0,one_atom_own_images", "float32,5,some_alone"]


@needs_triton
def test_sums_are_plain_torch(interpreted: Callable[..., None]) -> None:
    """The smallest problems, linear filters, every derivative."""
    interpreted("interpreted_pooling.py", *FEW)


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("cases", [LINEAR, HIDDEN_LAYER + SINGLE], ids=["linear", "hidden layer and float32"])
def test_sums_are_plain_torch_everywhere(interpreted: Callable[..., None], cases: list[str]) -> None:
    """Uneven neighbourhoods, own images, several tiles, all degrees, both precisions to what they can hold."""
    interpreted("interpreted_pooling.py", *cases)


@needs_triton
@pytest.mark.slow
def test_a_model_by_gpu_kernels(interpreted: Callable[..., None]) -> None:
    """Energy, forces, stress and every gradient of a loss on them, all operations by Triton."""
    small = "irreps=4x0e+4x1o,layers=1,heads=2,key_dim=2,hidden=4,radial_functions=3,cutoff=3.2,gate_channels=2"
    interpreted("interpreted_model.py", f"mlanet_l1:{small}")


SPILLED_AT_MOST = 1024
"""Bytes of stack of a thread: they live in the first-level cache."""

SHARED_AT_MOST = 99 * 1024
"""Bytes of a program: what the smallest of these GPUs (8.6, 8.9) has."""


HARDEST = [(80, 3, 0, True), (90, 2, 0, False), (90, 2, 64, True)]
"""Capability, l_max, hidden width, with slopes: what needs most registers, and the default."""


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize(("capability", "l_max", "hidden", "dual"), HARDEST)
def test_sums_compile_and_fit(capability: int, l_max: int, hidden: int, dual: bool) -> None:
    """At the sizes people train with, in float32: machine code, shared memory that is there, few spilled registers."""
    from footprints import footprints, usual

    found = [one for sizes in usual(l_max, hidden, torch.float32) for one in footprints(sizes, dual, capability)]
    assert all(one.registers > 0 for one in found)
    assert not [one for one in found if one.shared > SHARED_AT_MOST or one.spilled > SPILLED_AT_MOST]


def test_sizes_without_a_kernel_are_told() -> None:
    """Depth, degree, widths and channels are named; usual sizes have no obstacle."""
    usual = (torch.zeros(8, 64 * 2),)
    assert directions_obstacle(2, 64, usual) == "" and pooling_obstacle(64) == ""
    assert directions_obstacle(2, 64, (torch.zeros(8, 64), torch.zeros(64, 64 * 2))) == ""
    assert "2 hidden layers" in directions_obstacle(2, 64, (*usual, *usual, *usual))
    assert "l_max is 4" in directions_obstacle(4, 64, usual)
    assert "radial functions: 33" in directions_obstacle(2, 64, (torch.zeros(33, 64 * 2),))
    assert "hidden width: 129" in directions_obstacle(2, 64, (torch.zeros(8, 129), torch.zeros(129, 64 * 2)))
    assert "channels: 129, at most 128" in directions_obstacle(2, 129, (torch.zeros(8, 4), torch.zeros(4, 129 * 2)))
    assert "channels: 257" in directions_obstacle(1, 257, (torch.zeros(8, 257),))
    assert "channels: 257" in pooling_obstacle(257)


def test_sizes_without_a_kernel_are_computed_by_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Triton would serve, a radial network of two hidden layers never reaches it."""
    monkeypatch.setattr(dispatch, "by_triton", lambda sample: True)
    monkeypatch.setattr(GpuDirections, "value", None)
    problem = draw(SMALL[0])
    n, channels = problem.around.n_centers, 4
    radial = problem.logits
    inputs = DirectionInputs(problem.value[:n, 0], problem.envelope, radial, problem.harmonics)
    layers = (torch.ones(2, 3).double(), torch.ones(3, 5).double(), torch.ones(5, channels).double())
    rows = Rows.of(problem.around, problem.neighbor)
    found = dispatch.edge_degree(0.3, problem.around, problem.neighbor, rows, inputs, layers)
    assert torch.equal(found, directions(0.3, problem.around, problem.neighbor, inputs, layers))
