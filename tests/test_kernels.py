"""Choosing kernels: what a model has, what a machine can make, and what happens to kernels that say something else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from systems import SPECIES
from torch import Tensor

from mlanet.errors import ConfigError, KernelError
from mlanet.kernels import use_kernels
from mlanet.ops.native import library
from mlanet.ops.native.message import NativeMessage
from mlanet.potential import Potential
from mlanet.profiling.subject import configuration
from mlanet.statistics import Statistics


def small() -> Potential:
    torch.manual_seed(0)
    config = configuration("mlanet_l1:irreps=8x0e+8x1o,layers=1,heads=2")
    return Potential.build(config, Statistics.unit(SPECIES, 40.0)).double()


@pytest.fixture(autouse=True)
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been compared in this process."""
    monkeypatch.setattr("mlanet.kernels._compared", set())


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine that has not compiled anything yet."""
    monkeypatch.setenv("MLANET_CACHE", str(tmp_path / "cache"))
    library.load.cache_clear()
    yield tmp_path / "cache" / "kernels"
    library.load.cache_clear()


def test_fused_kernels_are_compared_and_kept(fresh: Path) -> None:
    """Made once, into the cache, whole; `auto` takes them; the second load finds the file."""
    assert use_kernels(small(), "auto").model.kernels == "fused"
    made = list(fresh.iterdir())
    assert [one.suffix for one in made] == [".so"]
    before = made[0].stat().st_mtime_ns
    library.load.cache_clear()
    assert use_kernels(small(), "fused").model.kernels == "fused"
    assert made[0].stat().st_mtime_ns == before


def test_kernels_that_say_something_else_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names what differs; the plain ones stay; `auto` warns."""
    right = NativeMessage.value

    def wrong(self: NativeMessage, tensors: Sequence[Tensor]) -> Tensor:
        return right(self, tensors) * 1.001

    monkeypatch.setattr(NativeMessage, "value", wrong)
    potential = small()
    with pytest.raises(ConfigError, match="fused gives other numbers than plain: energy differs"):
        use_kernels(potential, "fused")
    assert potential.model.kernels == "plain"
    with pytest.warns(UserWarning, match="slower, plain kernels: .*other numbers"):
        assert use_kernels(small(), "auto").model.kernels == "plain"


@pytest.mark.parametrize(
    ("compiler", "message"),
    [("/nowhere/g++", "CXX=/nowhere/g++ is not there"), ("false", "could not compile the kernels")],
)
def test_a_machine_without_a_compiler(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, compiler: str, message: str
) -> None:
    """Says so, leaves nothing behind, and `auto` goes on with the plain kernels."""
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(KernelError, match=re.escape(message)):
        use_kernels(small(), "fused")
    with pytest.warns(UserWarning, match=f"slower, plain kernels: .*{re.escape(message)}"):
        assert use_kernels(small(), "auto").model.kernels == "plain"
    assert not list(fresh.iterdir()) if fresh.exists() else True


def test_a_cache_that_cannot_be_used(fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file in the place of the folder: the kernels are made in a private folder."""
    (tmp_path / "cache").write_text("")
    assert use_kernels(small(), "fused").model.kernels == "fused"


def test_a_damaged_library(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names the file to delete."""
    monkeypatch.setattr(library, "_compile", lambda _compiler, _macros, place: place.write_text("not a library"))
    with pytest.raises(KernelError, match=r"kernels/\w+\.so cannot be loaded.*delete the file"):
        use_kernels(small(), "fused")


def test_half_precision_has_no_kernels() -> None:
    """Asked for, that is an error that says so; `auto` computes plainly."""
    potential = small().bfloat16()
    with pytest.raises(KernelError, match="float32 and float64, not bfloat16"):
        use_kernels(potential, "fused")
    assert use_kernels(potential, "auto").model.kernels == "plain"


def test_kernels_that_crash_are_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a compiler or a driver raises; the plain ones stay."""

    def crash(*_: object) -> Tensor:
        raise RuntimeError("PTX was compiled with an unsupported toolchain")

    monkeypatch.setattr(NativeMessage, "value", crash)
    potential = small()
    with pytest.raises(KernelError, match="fail here: RuntimeError: PTX was compiled"):
        use_kernels(potential, "fused")
    assert potential.model.kernels == "plain"


@pytest.mark.parametrize(
    ("name", "kernels"), [("mlanet_l1:attention=gatv2", "blocks"), ("leignn", "blocks"), ("mlanet_l1", "x")]
)
def test_kernels_that_a_model_has_not(name: str, kernels: str) -> None:
    """Are refused with what is missing; `auto` takes what there is."""
    potential = Potential.build(configuration(name), Statistics.unit(SPECIES))
    with pytest.raises(ConfigError, match="kernels"):
        use_kernels(potential, kernels)
    use_kernels(potential, "auto")
