"""Choosing kernels: what a model has, what a machine can make, and what happens to kernels that say something else."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from compilers import COMPILER, quick_compiler
from systems import SPECIES, triclinic
from torch import Tensor

from mlanet.agreement import disagreement
from mlanet.data.atoms import to_graph
from mlanet.errors import ConfigError, KernelError
from mlanet.kernels import _answers, use_kernels
from mlanet.ops.cpp import build, library
from mlanet.ops.message.cpu import NativeMessage
from mlanet.potential import Potential
from mlanet.profiling.ours import configuration
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
    if COMPILER is not None:
        monkeypatch.setenv("CXX", str(quick_compiler(tmp_path / "quick-g++")))
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
    with pytest.raises(ConfigError, match="other numbers"):
        use_kernels(small().float(), "fused")
    potential = small()
    with pytest.raises(ConfigError, match="fused gives other numbers than plain: .* differs"):
        use_kernels(potential, "fused")
    assert potential.model.kernels == "plain"
    with pytest.warns(UserWarning, match="slower, plain kernels: .*other numbers"):
        assert use_kernels(small(), "auto").model.kernels == "plain"


def test_what_float32_cannot_know_is_no_difference() -> None:
    """Weights with which sums cancel: plain torch in float32 is as wrong as the kernels, measured by float64."""
    torch.manual_seed(0)
    config = configuration("mlanet_l1:irreps=8x0e+8x1o,layers=2,heads=2")
    potential = Potential.build(config, Statistics.unit(SPECIES, 40.0))
    with torch.no_grad():
        for weight in potential.parameters():
            weight.mul_(4.0)
    fast, plain = (_answers(potential.with_kernels(kernels)) for kernels in ("fused", "plain"))
    assert disagreement([(name, one, other) for (name, one), (_, other) in zip(fast, plain, strict=True)], 1e-4)
    assert use_kernels(potential, "fused").model.kernels == "fused"


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


def test_a_compiler_with_arguments_and_a_user_without_a_home(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`CXX="g++ -pipe"` is run as a shell would; without a home the kernels are made in a private folder."""
    monkeypatch.setenv("CXX", f"{os.environ['CXX']} -pipe")
    monkeypatch.delenv("MLANET_CACHE")

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert use_kernels(small(), "fused").model.kernels == "fused"


def test_arguments_of_the_compiler_prevail(fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`CXX="g++ -O0"` compiles without optimisation: what users say stands behind what we say."""
    script, seen = tmp_path / "told-g++", tmp_path / "words"
    script.write_text(f'#!/bin/sh\necho "$@" >> {seen}\nexec {os.environ["CXX"]} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CXX", f"{script} -O0")
    use_kernels(small(), "fused")
    words = seen.read_text().splitlines()[-1].split()
    assert words.index("-O0") > words.index("-O3")


def test_a_cache_that_cannot_be_used(fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file in the place of the folder: the kernels are made in a private folder."""
    (tmp_path / "cache").write_text("")
    assert use_kernels(small(), "fused").model.kernels == "fused"


def test_a_library_that_cannot_be_loaded(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the compiler wrote is an error with its name, not a crash."""
    monkeypatch.setattr(build, "_compiled", lambda *_: b"not a library")
    with pytest.raises(KernelError, match=r"the kernels that \S+ made cannot be loaded"):
        use_kernels(small(), "fused")


@pytest.mark.parametrize("reference", [0.0, -2e4])
def test_wrong_second_derivatives_are_refused(monkeypatch: pytest.MonkeyPatch, reference: float) -> None:
    """In float32, however large the reference energies are."""
    right = NativeMessage.tangent

    def wrong(
        self: NativeMessage, up: Tensor, along: Sequence[Tensor], tensors: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        return tuple(one * 1.01 for one in right(self, up, along, tensors))

    monkeypatch.setattr(NativeMessage, "tangent", wrong)
    statistics = Statistics(SPECIES, (reference,) * len(SPECIES), (1.0,) * len(SPECIES), 40.0)
    torch.manual_seed(0)
    potential = Potential.build(configuration("mlanet_l1:irreps=8x0e+8x1o,layers=1,heads=2"), statistics).float()
    with pytest.raises(ConfigError, match="other numbers than plain: the gradient of"):
        use_kernels(potential, "fused")
    assert use_kernels(potential.requires_grad_(False), "fused").model.kernels == "fused", (
        "inference does not need them"
    )
    with pytest.raises(ConfigError, match="other numbers"):
        use_kernels(potential.requires_grad_(True), "fused")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_kernels_can_be_chosen_where_nothing_is_differentiated(mode: type) -> None:
    potential = small()
    with mode():
        assert use_kernels(potential, "auto").model.kernels == "fused"


def test_models_of_charged_atoms_have_kernels_too() -> None:
    potential = Potential.build(
        configuration("mlanet_l1:irreps=8x0e+8x1o,layers=1,charge=atomic"), Statistics.unit(SPECIES)
    )
    assert use_kernels(potential, "auto").model.kernels == "fused"


def test_autocast_changes_no_kernel() -> None:
    """Fewer digits are asked for by `matmul`: under autocast each kind of kernels says what it says outside."""
    graph = to_graph(triclinic(), 5.0).to(dtype=torch.float32)
    potential = small().float()
    for kernels in ("plain", "fused"):
        outside = potential.with_kernels(kernels)(graph)
        with torch.autocast("cpu", torch.bfloat16):
            inside = potential(graph)
        assert torch.equal(inside.energy, outside.energy) and torch.equal(inside.forces, outside.forces)


def test_lists_of_pairs_of_any_layout() -> None:
    """int32, and strided in memory: the same answer."""
    graph = to_graph(triclinic(), 5.0)
    potential = small().with_kernels("fused")
    wanted = potential(graph).energy
    strided = torch.stack([graph.neighbor, torch.zeros_like(graph.neighbor)], dim=1)[:, 0]
    for neighbor in (strided, graph.neighbor.int()):
        assert torch.equal(potential(dataclasses.replace(graph, neighbor=neighbor)).energy, wanted)


def test_gradients_do_not_depend_on_training_mode() -> None:
    """Weights get the gradients that plain kernels give, in evaluation too."""
    graph = to_graph(triclinic(), 5.0)
    potential, found = small(), []
    for kernels in ("plain", "fused"):
        potential.with_kernels(kernels).train()
        potential.model.eval()
        potential.zero_grad(set_to_none=True)
        potential(graph).forces.square().sum().backward()
        found.append([one.grad for one in potential.parameters()])
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, rtol=0, atol=1e-9 * max(1.0, float(one.abs().max())))


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
    ("name", "kernels"), [("mlanet_l1:attention=gatv2", "fused"), ("leignn", "blocks"), ("mlanet_l1", "x")]
)
def test_kernels_that_a_model_has_not(name: str, kernels: str) -> None:
    """Are refused with what is missing; `auto` takes what there is."""
    potential = Potential.build(configuration(name), Statistics.unit(SPECIES))
    with pytest.raises(ConfigError, match="kernels"):
        use_kernels(potential, kernels)
    use_kernels(potential, "auto")
