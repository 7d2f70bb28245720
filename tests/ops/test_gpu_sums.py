"""The GPU kernels of filtered sums and products give the numbers of plain torch through second derivatives, in whole
models too, and fit the GPUs they are made for; without a GPU, as `test_gpu_kernels`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pytest
import torch
from systems import SPECIES

from mlanet.errors import KernelError
from mlanet.kernels import use_kernels
from mlanet.ops import dispatch
from mlanet.potential import Potential
from mlanet.profiling.ours import configuration
from mlanet.statistics import Statistics

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton")


@needs_triton
def test_the_smallest(interpreted: Callable[..., None]) -> None:
    """One edge, no atoms, no nodes; and a layer that multiplies nodes gives what e3nn's tensor product gives."""
    interpreted(
        "interpreted_sums.py",
        "filtered:float32:one edge",
        "filtered:float64:no atoms",
        "product:float64:no nodes",
        "layer:float64",
    )


@needs_triton
@pytest.mark.slow
def test_filtered_sums(interpreted: Callable[..., None]) -> None:
    """With and without vectors, without edges or atoms, several tiles of edges, blocks of channels and functions."""
    interpreted("interpreted_sums.py", "filtered:float64", "filtered:float32:tiles")


@needs_triton
@pytest.mark.slow
def test_products(interpreted: Callable[..., None]) -> None:
    """Several blocks of nodes and channels; degrees to 3; results of lower and of higher degree than the features."""
    interpreted("interpreted_sums.py", "product:float64", "product:float32:vectors")


@needs_triton
@pytest.mark.slow
def test_a_whole_model_runs_on_them(interpreted: Callable[..., None]) -> None:
    """LEIGNN: energy, forces, stress and every gradient of the weights, chosen where a GPU would be."""
    interpreted("interpreted_sums.py", "leignn:float64")


SPILLED_AT_MOST = 1024
"""Bytes of stack of a thread: they live in the first-level cache."""

SHARED_AT_MOST = 99 * 1024
"""Bytes of a program: what the smallest of these GPUs (8.6, 8.9) has."""


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize(
    ("capability", "channels", "functions", "real", "dual"),
    [
        (90, 256, 13, "fp32", False),
        (80, 512, 129, "fp32", True),
        (90, 128, 13, "fp64", True),
    ],
)
def test_filtered_sums_compile_and_fit(channels: int, functions: int, real: str, capability: int, dual: bool) -> None:
    """At the sizes of the presets: machine code, shared memory that is there, few spilled registers."""
    from footprints import FILTERED, filtered_footprint

    from mlanet.ops.filtered_sum.gpu import FilterSizes

    sizes = FilterSizes.of(channels, functions, vectors=True)
    found = [filtered_footprint(kernel, sizes, dual, capability, real) for kernel in FILTERED]
    assert all(one.registers > 0 for one in found)
    assert not [one for one in found if one.shared > SHARED_AT_MOST or one.spilled > SPILLED_AT_MOST]


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize(("capability", "real", "dual"), [(80, "fp32", False), (90, "fp64", True)])
def test_products_compile_and_fit(capability: int, real: str, dual: bool) -> None:
    """The table of terms is walked, not unrolled: machine code does not grow with the degree."""
    from footprints import PRODUCT, product_footprint

    from mlanet.ops.node_product.gpu import ProductSizes

    for degree in (1, 3):
        sizes = ProductSizes.of(64, (degree + 1) ** 2)
        found = [product_footprint(kernel, sizes, degree, dual, capability, real) for kernel in PRODUCT]
        assert all(one.registers > 0 for one in found)
        assert not [one for one in found if one.shared > SHARED_AT_MOST or one.spilled > SPILLED_AT_MOST]


def test_who_has_no_kernels_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half precision, autocast, other devices, GPUs that are too old or come without triton; `auto` stays plain."""
    potential = Potential.build(configuration("leignn:channels=4,layers=1"), Statistics.unit(SPECIES, 10.0)).float()
    assert potential.kernels_obstacle() == ""
    with torch.autocast("cpu"):
        assert "not under autocast" in potential.kernels_obstacle()
    assert "float32 and float64, not bfloat16" in potential.to(torch.bfloat16).kernels_obstacle()
    assert "not for meta" in dispatch.obstacle(torch.empty(1, device="meta"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "an old GPU")
    answers = {(7, 5): "an old GPU is below capability 8.0", (8, 0): "", (9, 0): ""}
    for capability, answer in answers.items():
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, one=capability: one)
        dispatch._cuda_obstacle.cache_clear()
        found = dispatch._cuda_obstacle(torch.device("cuda:0"))
        assert found == answer or "triton is not installed" in found
    dispatch._cuda_obstacle.cache_clear()


def test_kernels_are_not_asked_of_what_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """`kernels: fused` says why."""
    potential = Potential.build(configuration("leignn:channels=4,layers=1"), Statistics.unit(SPECIES, 10.0)).float()
    monkeypatch.setattr(dispatch, "obstacle", lambda _: "there is no triton")
    with pytest.raises(KernelError, match="there is no triton"):
        use_kernels(potential, "fused")
