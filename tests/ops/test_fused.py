"""Every way to compute a fused operation is its reference: values, first and second derivatives, whole models."""

from __future__ import annotations

import itertools

import msgspec
import pytest
import torch
from operations import CASES, Case, assert_same, derivatives, draw, envelope_of, message_problem, rows_of
from systems import SPECIES, slab, triclinic
from torch import Tensor

from mlanet.config import preset_names
from mlanet.data.atoms import to_graph
from mlanet.graph import batch_graphs
from mlanet.memory import peak_bytes
from mlanet.models import read_model_config
from mlanet.ops import autograd
from mlanet.ops.edge_degree.cpu import NativeDirections
from mlanet.ops.filtered_sum.cpu import NativeFilteredSum
from mlanet.ops.message.cpu import NativeMessage
from mlanet.ops.message.reference import message_of_rows
from mlanet.ops.neighbor_pooling.cpu import NativePooling
from mlanet.ops.node_product.cpu import NativeProduct
from mlanet.ops.node_product.reference import product_paths
from mlanet.potential import Potential
from mlanet.profiling.ours import configuration
from mlanet.profiling.systems import system
from mlanet.statistics import Statistics

TOLERANCES = [(torch.float64, 1e-12), (torch.float32, 3e-5)]
"""float32: sums of up to 130 terms of a product, some hundred roundings."""


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES, ids=["float64", "float32"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_native_message_is_the_message(case: Case, dtype: torch.dtype, tolerance: float) -> None:
    """Through second derivatives."""
    shape, rows, inputs, weights = message_problem(case, dtype)
    wanted = derivatives(lambda: message_of_rows(shape, rows, [*inputs, *weights]), inputs, weights, 6)
    native = NativeMessage(shape, rows)
    assert_same(derivatives(lambda: autograd.apply(native, inputs, weights), inputs, weights, 6), wanted, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES, ids=["float64", "float32"])
@pytest.mark.parametrize("layers", [(), (7,), (16, 5)])
@pytest.mark.parametrize(("l_max", "channels"), [(1, 4), (2, 64), (3, 20)])
def test_native_directions(l_max: int, channels: int, layers: tuple[int, ...], dtype: torch.dtype, tolerance: float):  # type: ignore[no-untyped-def]
    """The first look at the directions, through second derivatives."""
    generator = torch.Generator().manual_seed(l_max)
    rows = rows_of((0, 5, 80, 3, 130, 0), generator)
    envelope, edges = envelope_of(rows, generator, dtype), len(rows.neighbor)
    inputs = [draw((6, channels), generator, dtype), envelope]
    inputs += [draw(size, generator, dtype) for size in ((edges, 5), (edges, (l_max + 1) ** 2))]
    widths = (5, *layers, channels * l_max)
    weights = [draw(size, generator, dtype) for size in itertools.pairwise(widths)]
    native = NativeDirections(l_max, 0.3, rows)
    wanted = derivatives(lambda: native.reference([*inputs, *weights]), inputs, weights, 1)
    assert_same(derivatives(lambda: autograd.apply(native, inputs, weights), inputs, weights, 1), wanted, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES, ids=["float64", "float32"])
@pytest.mark.parametrize("channels", [3, 64])
def test_native_pooling(channels: int, dtype: torch.dtype, tolerance: float) -> None:
    """Sum and smooth maximum of the neighbours, through second derivatives."""
    generator = torch.Generator().manual_seed(channels)
    rows = rows_of((0, 5, 80, 3, 130, 0), generator)
    inputs = [draw((6, channels), generator, dtype), envelope_of(rows, generator, dtype)]
    native = NativePooling(rows, 1)
    wanted = derivatives(lambda: native.reference(inputs), inputs, [], 1)
    assert_same(derivatives(lambda: autograd.apply(native, inputs, []), inputs, [], 1), wanted, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES, ids=["float64", "float32"])
@pytest.mark.parametrize(("channels", "vectors"), [(3, True), (64, True), (20, False)])
def test_native_filtered_sum(channels: int, vectors: bool, dtype: torch.dtype, tolerance: float) -> None:
    """Scalars and vectors filtered by distance, through second derivatives; edges without a basis are absent."""
    generator = torch.Generator().manual_seed(channels)
    rows = rows_of((0, 5, 80, 3, 130, 0), generator)
    edges = len(rows.neighbor)
    basis = draw((edges, 7), generator, dtype).detach() * (torch.arange(edges) % 5 != 2)[:, None]
    inputs = [draw((6, 5 if vectors else 2, channels), generator, dtype), basis.requires_grad_()]
    inputs.append(draw((edges, 3), generator, dtype))
    weights = [draw(((3 if vectors else 2) * channels, 7), generator, dtype)]
    native = NativeFilteredSum(rows)
    wanted = derivatives(lambda: native.reference([*inputs, *weights]), inputs, weights, 1)
    assert_same(derivatives(lambda: autograd.apply(native, inputs, weights), inputs, weights, 1), wanted, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES, ids=["float64", "float32"])
@pytest.mark.parametrize(("l_in", "l_out", "channels"), [(1, 0, 3), (2, 2, 64), (3, 0, 20), (3, 3, 16)])
def test_native_product(l_in: int, l_out: int, channels: int, dtype: torch.dtype, tolerance: float) -> None:
    """Features times themselves, through second derivatives."""
    generator = torch.Generator().manual_seed(l_in)
    inputs = [draw((5, (l_in + 1) ** 2, channels), generator, dtype)]
    weights = [draw((len(product_paths(l_in, l_out)), channels), generator, dtype)]
    native = NativeProduct(l_out)
    wanted = derivatives(lambda: native.reference([*inputs, *weights]), inputs, weights, 0)
    assert_same(derivatives(lambda: autograd.apply(native, inputs, weights), inputs, weights, 0), wanted, tolerance)


def test_derivatives_of_the_native_message_are_those_of_its_values() -> None:
    """Finite differences, first and second, of C++ against C++ (weights by the first only)."""
    shape, rows, inputs, weights = message_problem(Case((3, 2), 1))
    inputs = [*inputs[:6], (inputs[6].detach() * 0.5 + 0.25).requires_grad_(), *inputs[7:]]
    native = NativeMessage(shape, rows)

    def call(*given: Tensor) -> Tensor:
        return autograd.apply(native, given[:9], given[9:] or weights)

    assert torch.autograd.gradcheck(call, [*inputs, *weights], fast_mode=True)
    assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)


def test_gradients_of_weights_can_be_differentiated() -> None:
    """A loss on gradients of weights, which nobody trains on, is right too; and a second backward gives the same."""
    shape, rows, inputs, weights = message_problem(CASES["even"])
    native, found = NativeMessage(shape, rows), []
    for call in (
        lambda: autograd.apply(native, inputs, weights),
        lambda: message_of_rows(shape, rows, [*inputs, *weights]),
    ):
        first = torch.autograd.grad(call().square().sum(), weights, create_graph=True)
        loss = torch.stack([one.square().sum() for one in first]).sum()
        slopes = list(torch.autograd.grad(loss, [*inputs, *weights]))
        slopes[6] = slopes[6] * (inputs[6] > 0)  # an edge with u = 0 is absent
        found.append(slopes)
    assert_same(found[0], found[1], 1e-12)
    out = autograd.apply(native, inputs, weights)
    once, twice = (torch.autograd.grad(out.square().sum(), weights, retain_graph=True) for _ in range(2))
    assert_same(once, twice, 0.0)


def test_gradients_are_never_stale() -> None:
    """A second backward with the same, changed vector; memory is free after the last; changed weights are noticed."""
    shape, rows, inputs, weights = message_problem(CASES["even"])
    native = NativeMessage(shape, rows)
    out = autograd.apply(native, inputs, weights)
    up = torch.ones_like(out)
    torch.autograd.grad(out, weights, up, retain_graph=True)
    up.zero_()
    assert all(not one.any() for one in torch.autograd.grad(out, inputs, up, retain_graph=True))
    with torch.no_grad():
        weights[0].mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(out.sum(), inputs)


def test_some_weights_frozen() -> None:
    """The others get theirs, also where gradients are differentiated."""
    shape, rows, inputs, weights = message_problem(CASES["even"])
    weights = [one.detach() if index % 2 else one for index, one in enumerate(weights)]
    trained = [one for one in weights if one.requires_grad]
    found = []
    for call in (
        lambda: autograd.apply(NativeMessage(shape, rows), inputs, weights),
        lambda: message_of_rows(shape, rows, [*inputs, *weights]),
    ):
        first = torch.autograd.grad(call().square().sum(), trained, create_graph=True)
        found.append([*first, *torch.autograd.grad(first[0].square().sum(), trained)])
    assert_same([one.detach() for one in found[0]], [one.detach() for one in found[1]], 1e-12)


def test_mixed_precision_is_refused() -> None:
    """Addresses would be read as numbers of another kind."""
    shape, rows, inputs, weights = message_problem(CASES["even"])
    with pytest.raises(TypeError, match="one precision and one device, got torch.float32 on cpu, torch.float64"):
        autograd.apply(NativeMessage(shape, rows), [inputs[0].float(), *inputs[1:]], weights)


@pytest.mark.parametrize("name", ["whole vectors", "gates of two"])
def test_threads_change_nothing_but_rounding(name: str) -> None:
    """One, two and five threads, more than centers; each repeats to the bit."""
    shape, rows, inputs, weights = message_problem(CASES[name])
    native, before, found = NativeMessage(shape, rows), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5, 5):
            torch.set_num_threads(threads)
            found.append(derivatives(lambda: autograd.apply(native, inputs, weights), inputs, weights, 6))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert_same(other, found[0], 1e-13)
    assert_same(found[3], found[2], 0.0)


def has_kernels(name: str) -> bool:
    config = msgspec.structs.replace(read_model_config(name), layers=1)  # their number says nothing about it
    return not Potential.build(config, Statistics.unit(SPECIES, 40.0)).model.without_kernels()


FUSED = [name for name in preset_names() if has_kernels(name)]


def answers(potential: Potential, kernels: str) -> list[Tensor]:
    """Results and parameter gradients of a loss on all of them, on a crystal and a slab in one batch."""
    graph = batch_graphs([to_graph(atoms, potential.cutoff) for atoms in (triclinic(), slab())])
    found = potential.with_kernels(kernels).train()(graph)
    loss = found.energy.square().sum() + found.forces.square().sum() + found.stress.nan_to_num().square().sum()
    slopes = torch.autograd.grad(loss, list(potential.parameters()), allow_unused=True, materialize_grads=True)
    return [found.energy.detach(), found.forces.detach(), found.stress.nan_to_num().detach(), *slopes]


SHARED = ["mlanet_l1:gate_channels=4", "mlanet_l1:gate_channels=2,combine=sum", "mlanet_l2_full:gate_channels=4"]


@pytest.mark.parametrize("name", [*FUSED, *SHARED])
def test_models_give_the_same(name: str) -> None:
    """Energy, forces, stress and every gradient of the weights, for every preset that can and with shared gates."""
    torch.manual_seed(0)
    potential = Potential.build(configuration(name), Statistics.unit(SPECIES, 40.0)).double()
    plain, other = (answers(potential, name) for name in ("plain", "fused"))
    for one, found in zip(plain, other, strict=True):
        torch.testing.assert_close(found, one, rtol=0, atol=1e-10 * max(1.0, float(one.abs().max())))


def test_memory_does_not_grow_with_edges() -> None:
    """Training needs less than a third of the memory."""
    potential = Potential.build(configuration("mlanet_l2:layers=2"), Statistics.unit((3, 8, 27), 75.0)).float()
    graph = to_graph(system("LiCoO2:36"), potential.cutoff).to(dtype=torch.float32)

    def run() -> None:
        found = potential(graph)
        (found.energy.sum() + found.forces.square().sum()).backward()
        potential.zero_grad(set_to_none=True)

    peaks = {}
    for name in ("plain", "fused"):
        potential.with_kernels(name)
        run()
        peaks[name] = peak_bytes(run)
    assert peaks["fused"] < peaks["plain"] / 3
