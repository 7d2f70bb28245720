"""The GPU kernels give the numbers of `block.message` through second derivatives, and fit the GPUs they are made for.

Neither needs a GPU: Triton interprets the kernels on the CPU, and compiles them for a GPU that is not there.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from mlanet.config import preset_names
from mlanet.ops.message.gpu.sizes import obstacle
from mlanet.ops.message.reference import MessageShape, MessageWeights
from mlanet.ops.rows import Rows
from mlanet.ops.segment import Neighborhoods
from mlanet.potential import Potential
from mlanet.profiling.ours import configuration
from mlanet.statistics import Statistics

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton")


@needs_triton
def test_kernels_are_the_equations(interpreted: Callable[..., None]) -> None:
    """The smallest problems, every derivative."""
    interpreted("interpreted.py", "one_edge,0.0,1,float64,tangent,1", "no_edges,0.0,1,float64,tangent,1")


LAYERED = ["tiles,0.3,1,float64,tangent,1", "one_atom_own_images,0.0,1,float64,tangent,2"]
LAYERED += ["own_l3,0.0,1,float64,gradient,1", "one_edge,0.3,1,float64,tangent,2", "one_atom,0.0,1,float64,tangent,1"]

LINEAR = ["some_alone,0.0,0,float64,tangent,2", "one_atom_own_images,0.3,0,float64,tangent,1"]
LINEAR += ["own_l3,0.3,0,float64,tangent,4", "tiles,0.3,0,float64,gradient,3"]
"""Gates of a channel, of some channels of a head, of channels of several heads; every pair of degree, sum or product,
and hidden layer or none."""


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("cases", [LAYERED, LINEAR], ids=["hidden layer", "linear"])
def test_kernels_are_the_equations_everywhere(interpreted: Callable[..., None], cases: list[str]) -> None:
    """Every degree, product and sum, several tiles, own images, none: message, gradient and its tangent."""
    interpreted("interpreted.py", *cases)


@needs_triton
@pytest.mark.slow
def test_kernels_are_the_equations_at_full_width(interpreted: Callable[..., None]) -> None:
    """Channels, heads and keys that people train with, for an atom or two: message and gradient."""
    interpreted(
        "interpreted.py", *(f"{name},0.0,0,float64,gradient,4" for name in ("molecules_l1", "crystal_l2", "crystal_l3"))
    )


@needs_triton
@pytest.mark.slow
def test_kernels_in_single_precision(interpreted: Callable[..., None]) -> None:
    """float32 gives float32, to what it can hold."""
    interpreted("interpreted.py", "one_atom_own_images,0.3,1,float32,tangent,1", "some_alone,0.3,1,float32,tangent,1")


SPILLED_AT_MOST = 1024
"""Bytes of stack of a thread: they live in the first-level cache."""

SHARED_AT_MOST = 99 * 1024
"""Bytes of a program: what the smallest of these GPUs (8.6, 8.9) has."""


@needs_triton
@pytest.mark.long
@pytest.mark.parametrize(("capability", "l_max", "dual"), [(80, 2, False), (90, 2, True)])
def test_kernels_compile_and_fit(capability: int, l_max: int, dual: bool) -> None:
    """At the sizes people train with, in float32: machine code, shared memory that is there, few spilled registers."""
    from footprints import MESSAGE, footprint

    from mlanet.ops.message.gpu.sizes import Sizes

    sizes = Sizes(l_max, 64, 4, 8, 8, 64, 0, 4, 0.0, 16, "ieee")
    found = [footprint(kernel, sizes, dual, capability) for kernel in MESSAGE]
    assert all(one.registers > 0 for one in found)
    assert not [one for one in found if one.shared > SHARED_AT_MOST or one.spilled > SPILLED_AT_MOST]


def weights_like(radial: int, hidden: int, mlp: list[int], out: int, heads: int, l_max: int) -> MessageWeights:
    widths = [radial, *mlp, 2 * out]
    layers = [torch.zeros(a, b) for a, b in pairwise(widths)]
    terms = heads * (2 * l_max + 2)
    flat = [torch.zeros(radial, hidden), torch.zeros(out, hidden), torch.zeros(out), torch.zeros(terms, hidden)]
    return MessageWeights.of([*flat, torch.zeros(terms), torch.zeros(heads), *layers])


@pytest.mark.parametrize("name", [name for name in preset_names() if name.startswith("mlanet")])
def test_every_preset_with_light_messages_has_kernels(name: str) -> None:
    """Linear filters, shared gates, long range and all; full messages say why not."""
    potential = Potential.build(configuration(name), Statistics.unit((1, 8), 50.0))
    layer = potential.model.layers[0].attention
    found = obstacle(layer.message_shape(), layer.channels, layer.message_weights())
    assert found == ("there are kernels for message: light only" if layer.full else "")


def test_sizes_without_a_kernel_are_told() -> None:
    """Two hidden layers, l_max 4, many channels, wide keys: each is named; usual sizes are not."""
    usual = weights_like(8, 64, [64], 64 * 3, 4, 2)
    assert obstacle(MessageShape(2, 4, 8, 0.0), 64, usual) == ""
    assert obstacle(MessageShape(2, 4, 8, 0.0), 64, weights_like(8, 64, [], 64 * 3, 4, 2)) == ""
    assert "2 hidden layers" in obstacle(MessageShape(2, 4, 8, 0.0), 64, weights_like(8, 64, [64, 64], 64 * 3, 4, 2))
    assert "l_max is 4" in obstacle(MessageShape(4, 4, 8, 0.0), 64, weights_like(8, 64, [64], 64 * 5, 4, 4))
    assert "channels: 512" in obstacle(MessageShape(2, 4, 8, 0.0), 512, weights_like(8, 64, [64], 512 * 3, 4, 2))
    assert "key width: 260" in obstacle(MessageShape(2, 4, 65, 0.0), 64, usual)
    assert "light only" in obstacle(MessageShape(2, 4, 8, 0.0, full=True), 64, usual)


@needs_triton
def test_edges_by_sender() -> None:
    """The transposed order lists every edge once, by who sends, and is found once for a list."""
    from mlanet.ops.gpu.by_sender import Senders

    rows = Rows(torch.tensor([2, 0, 2, 1, 0]), torch.tensor([0, 2, 2, 5]))
    found = Senders.of(rows)
    assert found.center.tolist() == [0, 0, 2, 2, 2]
    assert found.order.tolist() == [1, 4, 3, 0, 2] and found.start.tolist() == [0, 2, 3, 5]
    assert Senders.of(rows) is found


@needs_triton
def test_edges_by_sender_are_those_of_the_step() -> None:
    """Pairs that are replaced in place, as a recorded step has them replaced, are sorted anew in the next step."""
    from mlanet.ops.gpu.by_sender import Senders

    around, neighbor = Neighborhoods(torch.tensor([0, 0, 1]), 2), torch.tensor([0, 1, 1])
    assert Senders.of(Rows.of(around, neighbor)).start.tolist() == [0, 1, 3]
    neighbor.copy_(torch.tensor([0, 1, 0]))
    assert Senders.of(Rows.of(around, neighbor)).start.tolist() == [0, 2, 3]


@needs_triton
def test_edges_by_sender_ask_nothing_of_the_device() -> None:
    """So the host runs ahead, and the sorting is part of a recorded step."""
    from mlanet.ops.gpu.by_sender import Senders

    rows = Rows(torch.tensor([1, 0, 1]).to("meta"), torch.tensor([0, 1, 3]).to("meta"))
    found = Senders.of(rows)
    assert [tuple(one.shape) for one in found] == [(3,), (3,), (3,)] and found.order.device.type == "meta"
