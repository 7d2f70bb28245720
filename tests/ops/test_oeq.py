"""Messages by OpenEquivariance are ours: the operation through second derivatives, and whole models.

Without a GPU its module is stood in for (`oeq_without_gpu`); its problem, and the kernels that it writes, are its own
where it is installed.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from oeq_without_gpu import Gpu, emulated, stand_in
from operations import assert_same, derivatives, draw, rows_of
from systems import SPECIES, triclinic
from torch import Tensor

from mlanet.data.atoms import to_graph
from mlanet.errors import ConfigError, KernelError
from mlanet.kernels import use_kernels
from mlanet.ops import oeq
from mlanet.ops.paths import coefficients, full_values, paths
from mlanet.ops.reference import split_degrees
from mlanet.potential import Potential
from mlanet.profiling.subject import configuration
from mlanet.statistics import Statistics

there = importlib.util.find_spec("openequivariance") is not None
MODELS = ["message=full", "message=full,combine=sum", "message=full,attention=none", "attention=fctp"]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing has been made or compared in this process."""
    monkeypatch.setattr("mlanet.kernels._compared", set())
    oeq._convolution.cache_clear()
    yield
    oeq._convolution.cache_clear()


@pytest.fixture
def standing_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oeq, "_library", lambda _: stand_in())


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package itself; without CUDA or HIP only its part that needs no torch can be imported."""
    if not there:
        pytest.skip("needs openequivariance")
    if not (torch.version.cuda or torch.version.hip):
        monkeypatch.setenv("OEQ_NOTORCH", "1")
    return importlib.import_module("openequivariance")


def potential(more: str) -> Potential:
    torch.manual_seed(0)
    config = configuration(f"mlanet_l2:irreps=8x0e+8x1o+8x2e,layers=2,heads=2,{more}")
    return Potential.build(config, Statistics.unit(SPECIES, 40.0)).double()


def ways(l_max: int, channels: int) -> tuple[list[Tensor], Callable[[], Tensor], Callable[[], Tensor]]:
    """Inputs of a message of four centers, one without an edge, one its own neighbour; by the module, and plainly."""
    generator = torch.Generator().manual_seed(l_max)
    compressed = rows_of((3, 0, 1, 2), generator)
    around, neighbor, rows = compressed.around(), compressed.neighbor, (l_max + 1) ** 2
    neighbor[0] = 0
    sizes = [(4, rows, channels), (6, len(paths(l_max)), channels), (6, l_max + 1, channels), (6, rows)]
    inputs = [draw(size, generator, torch.float64) for size in sizes]

    def fused() -> Tensor:
        sent, weights, gates, harmonics = inputs
        return oeq.full_message(sent, weights, gates, harmonics, neighbor.int(), around)

    def plain() -> Tensor:
        sent, weights, gates, harmonics = inputs
        values = full_values(split_degrees(sent[neighbor], l_max), weights, split_degrees(harmonics, l_max))
        gated = [one * gate[:, None] for one, gate in zip(values, gates.unbind(1), strict=True)]
        return around.sum(torch.cat(gated, dim=1))

    return inputs, fused, plain


@pytest.mark.usefixtures("standing_in")
@pytest.mark.parametrize("l_max", [1, 2, 3])
def test_gates_go_into_the_weights(l_max: int) -> None:
    """The message as one convolution is the sum of gated products, in all inputs."""
    inputs, fused, plain = ways(l_max, 3)
    assert_same(derivatives(fused, inputs, [], 0), derivatives(plain, inputs, [], 0), 1e-12)


@pytest.mark.usefixtures("standing_in")
def test_products_of_edges_are_messages_of_one_edge() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [draw(size, generator, torch.float64) for size in ((5, 9, 3), (5, len(paths(2)), 3), (5, 9))]

    def plain() -> Tensor:
        sent, weights, harmonics = inputs
        return torch.cat(full_values(split_degrees(sent, 2), weights, split_degrees(harmonics, 2)), dim=1)

    found = derivatives(lambda: oeq.full_product(*inputs), inputs, [], 0)
    assert_same(found, derivatives(plain, inputs, [], 0), 1e-12)


@pytest.mark.usefixtures("standing_in")
@pytest.mark.parametrize("more", MODELS)
def test_models_give_the_same(more: str) -> None:
    """Chosen only after a comparison that goes through training; energies agree."""
    one = potential(more)
    graph = to_graph(triclinic(), one.cutoff)
    wanted = one(graph).energy
    assert use_kernels(one, "oeq").model.kernels == "oeq"
    torch.testing.assert_close(one(graph).energy, wanted, rtol=0, atol=1e-9)


def test_other_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one path differs: the comparison is made for this backend too."""
    module = stand_in()
    right = module.TensorProductConv

    def wrong(problem: Any, *, deterministic: bool) -> Any:
        problem.instructions[3] = (*problem.instructions[3], 1.01)
        return right(problem, deterministic=deterministic)

    module.TensorProductConv = wrong
    monkeypatch.setattr(oeq, "_library", lambda _: module)
    one = potential("message=full")
    with pytest.raises(ConfigError, match="oeq gives other numbers than plain"):
        use_kernels(one, "oeq")
    assert one.model.kernels == "plain"


@pytest.mark.parametrize("l_max", [0, 1, 2, 3])
def test_its_problem_is_ours(package: Any, l_max: int) -> None:
    """Order of paths, number of weights, norms and Clebsch–Gordan coefficients of the package itself."""
    from openequivariance.core.e3nn_lite import wigner_3j

    problem = oeq.problem(package, l_max, 5, torch.float64)
    assert problem.weight_numel == 5 * len(paths(l_max)) and problem.layout == "ir_mul"
    assert problem.irreps_in1.dim == problem.irreps_out.dim == 5 * (l_max + 1) ** 2
    for one, path, table in zip(problem.instructions, paths(l_max), coefficients(paths(l_max)), strict=True):
        assert (one.i_in1, one.i_in2, one.i_out) == path
        theirs = torch.as_tensor(one.path_weight * wigner_3j(*path))
        torch.testing.assert_close(theirs, table, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("l_max", "channels", "gpu"),
    [(1, 3, Gpu()), (2, 40, Gpu()), (3, 33, Gpu(232448, 3))],
)
def test_its_kernels_are_ours(
    package: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, l_max: int, channels: int, gpu: Gpu
) -> None:
    """The CUDA that the package writes, run on the CPU lane by lane: values, first and second derivatives."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    monkeypatch.setattr(oeq, "_library", lambda _: emulated(package, tmp_path, gpu))
    inputs, fused, plain = ways(l_max, channels)
    assert_same(derivatives(fused, inputs, [], 0), derivatives(plain, inputs, [], 0), 1e-12)


@pytest.mark.skipif(there, reason="openequivariance is there")
def test_without_it_the_error_says_what_to_install() -> None:
    with pytest.raises(KernelError, match=r"NVIDIA or AMD GPU and OpenEquivariance: pip install \"mlanet\[oeq\]\""):
        use_kernels(potential("message=full"), "oeq")


def test_without_a_gpu_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oeq, "find_spec", lambda _: "there")
    one = potential("message=full")
    with pytest.raises(KernelError, match="oeq needs an NVIDIA or AMD GPU; this potential is on the cpu"):
        use_kernels(one, "oeq")
    assert one.model.kernels == "plain"


@pytest.mark.usefixtures("standing_in")
def test_half_precision_is_not_among_its_own() -> None:
    with pytest.raises(KernelError, match="float32 and float64, not bfloat16"):
        use_kernels(potential("message=full").bfloat16(), "oeq")


@pytest.mark.usefixtures("standing_in")
def test_deterministic_runs_refuse_it() -> None:
    """OpenEquivariance's compiled module does not ask."""
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(KernelError, match="oeq sums in no fixed order"):
            use_kernels(potential("message=full"), "oeq")
    finally:
        torch.use_deterministic_algorithms(False)


def test_light_messages_have_no_tensor_product() -> None:
    with pytest.raises(ConfigError, match="oeq is for tensor products on edges"):
        use_kernels(potential("message=light"), "oeq")
