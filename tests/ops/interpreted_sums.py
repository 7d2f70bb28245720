"""Runs the GPU operations of filtered sums and products in Triton's interpreter and compares them with plain torch.

A program of its own, because the interpreter must be chosen before triton is imported:
`TRITON_INTERPRET=1 python interpreted_sums.py WHAT:PRECISION[:CASE] …`, with WHAT one of filtered, product, leignn and
layer, PRECISION float64 or float32; without a case, all of a kind.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch
from ase import Atoms
from interpreted import compare  # chooses small numbers of programs and a quicker interpreter
from torch import Tensor

from mlanet import kernels
from mlanet.data.atoms import to_graph
from mlanet.nn.equivariant import NodeProduct, natural_irreps
from mlanet.ops import dispatch
from mlanet.ops.autograd import Operation
from mlanet.ops.filtered_sum import gpu as filtered_gpu
from mlanet.ops.filtered_sum.gpu import GpuFilteredSum
from mlanet.ops.node_product import gpu as product_gpu
from mlanet.ops.node_product.gpu import GpuProduct
from mlanet.ops.node_product.reference import product_paths
from mlanet.ops.rows import Rows
from mlanet.potential import Potential
from mlanet.profiling.ours import configuration
from mlanet.statistics import Statistics

# So that small problems have several blocks of channels and functions, and weights several programs.
filtered_gpu.CHANNELS, filtered_gpu.FUNCTIONS, filtered_gpu.EDGES_OF_PROGRAM = 16, 16, 16
product_gpu.CHANNELS, product_gpu.ELEMENTS, product_gpu.TILES_OF_PROGRAM = 4, 8, 1

FILTERED = {
    "one edge": ((1,), 3, 2, True),
    "no edges": ((0, 0), 3, 2, True),
    "no atoms": ((), 3, 2, True),
    "tiles": ((37, 0, 3), 5, 3, True),
    "blocks": ((18,), 20, 18, True),
    "no vectors": ((3, 0, 17), 20, 3, False),
}
"""Edges of each center, channels, functions, whether there are vectors; nothing is a power of two."""

PRODUCTS = {
    "blocks": (1, 1, 6, 5),
    "no nodes": (1, 1, 6, 0),
    "scalars": (2, 0, 3, 2),
    "vectors": (2, 1, 3, 2),
    "l2": (2, 2, 3, 2),
    "wider": (1, 3, 3, 2),
    "l3": (3, 3, 3, 2),
}
"""l_in, l_out, channels, nodes."""

LONG = {"l2", "l3"}
"""Whose gradients of inputs alone are left out: the same kernels as with weights."""


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def filtered(case: str, dtype: torch.dtype) -> None:
    """The filtered sums; edges without a basis are absent, whatever the direction says."""
    counts, channels, functions, vectors = FILTERED[case]
    n, e = len(counts), sum(counts)
    rows = Rows(torch.randint(max(n, 1), (e,)), torch.tensor((0, *counts)).cumsum(0))
    there = (torch.arange(e) % 5 != 2).double()[:, None]
    inputs = [normal(n, 5 if vectors else 2, channels), normal(e, functions) * there, normal(e, 3)]
    weight = normal((3 if vectors else 2) * channels, functions)
    operation = GpuFilteredSum(rows)
    check(case, operation, inputs, [weight], dtype, lambda found, place: found * there if place == 1 else found)


def product(case: str, dtype: torch.dtype) -> None:
    """The product of nodes."""
    l_in, l_out, channels, n = PRODUCTS[case]
    weight = normal(len(product_paths(l_in, l_out)), channels)
    features = normal(n, (l_in + 1) ** 2, channels)
    check(case, GpuProduct(l_out), [features], [weight], dtype, lambda found, _: found)


def check(
    case: str,
    operation: Operation,
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    dtype: torch.dtype,
    seen: Callable[[Tensor, int], Tensor],
) -> None:
    """Value, gradient and tangent against those of the reference; seen: what counts of an input's gradient."""
    leaves = [one.requires_grad_() for one in (*inputs, *weights)]
    given, n = [one.detach().to(dtype) for one in leaves], len(inputs)
    options = {"allow_unused": True, "materialize_grads": True}

    value = operation.reference(leaves)
    assert operation.blank(given).shape == value.shape
    compare(f"{case}: value", [operation.value(given)], [value], dtype)
    assert not value.numel() or value.abs().max() > 0 or not inputs[-1].numel()
    up = normal(*value.shape).requires_grad_()
    first = list(torch.autograd.grad(value, leaves, up, create_graph=True, **options))
    wanted = [seen(one, place) for place, one in enumerate(first)]
    asked = up.detach().to(dtype)
    compare(f"{case}: gradient", operation.gradient(asked, given, True), wanted, dtype)
    if case not in LONG:
        compare(f"{case}: gradient of inputs", operation.gradient(asked, given, False), wanted[:n], dtype)

    along = [seen(normal(*one.shape), place) for place, one in enumerate(inputs)]
    total = torch.stack([(one * a).sum() for one, a in zip(first[:n], along, strict=True)]).sum()
    slope, *second = torch.autograd.grad(total, [up, *leaves], **options)
    second = [slope, *(seen(one, place) for place, one in enumerate(second))]
    compare(f"{case}: tangent", operation.tangent(asked, [a.to(dtype) for a in along], given), second, dtype)


def leignn(case: str, dtype: torch.dtype) -> None:
    """A whole model: energy, forces, stress, and every weight's gradient of a training loss, as at each start."""
    config = configuration("leignn:channels=4,layers=2,radial_functions=3,cutoff=3.0")
    potential = Potential.build(config, Statistics.unit((1, 6, 8), 10.0)).to(dtype)
    cell = [[2.6, 0.0, 0.0], [0.3, 2.8, 0.0], [0.0, -0.2, 3.1]]
    atoms = Atoms("COH", scaled_positions=[[0.0, 0.0, 0.1], [0.5, 0.4, 0.5], [0.1, 0.6, 0.9]], cell=cell, pbc=True)
    graph = to_graph(atoms, potential.cutoff).to(dtype=dtype)
    kernels._sample = lambda _: graph
    plain = kernels._answers(potential.with_kernels("plain"))
    calls = counted(GpuFilteredSum)
    fused = kernels._answers(potential.with_kernels("fused"))
    assert calls.pop("value") == 2 and calls.pop("gradient") > 2 and calls.pop("tangent") >= 2, calls
    assert len(plain) > 10 and all(one.abs().max() > 0 for name, one in plain if "filter" in name)
    for (name, one), (_, other) in zip(fused, plain, strict=True):
        compare(name, [one.to(dtype)], [other.double()], dtype)


def layer(case: str, dtype: torch.dtype) -> None:
    """The layer that multiplies nodes, whose product is e3nn's where it is plain."""
    made = NodeProduct(natural_irreps(3, 1), natural_irreps(3, 1)).to(dtype)
    features, found = normal(2, 4, 3).to(dtype).requires_grad_(), []
    calls = counted(GpuProduct)
    for by_kernel in (False, True):
        out = made(features, by_kernel=by_kernel)
        (first,) = torch.autograd.grad(out.sin().sum(), features, create_graph=True)
        found.append([out, first, *torch.autograd.grad(first.sin().sum(), [features, *made.parameters()])])
    assert calls.pop("value") == 1 and calls.pop("gradient") >= 1 and calls.pop("tangent") == 1, calls
    compare("layer", [one.detach() for one in found[1]], [one.double() for one in found[0]], dtype)


def counted(operation: type) -> dict[str, int]:
    """How often an operation is asked for what, from now on."""
    calls = {"value": 0, "gradient": 0, "tangent": 0}

    def watch(name: str) -> None:
        true = getattr(operation, name)

        def call(*arguments: object) -> object:
            calls[name] += 1
            return true(*arguments)

        setattr(operation, name, call)

    for name in calls:
        watch(name)
    return calls


def main(what: str, precision: str, case: str = "") -> None:
    """One comparison, or all of a kind."""
    run = {"filtered": filtered, "product": product, "leignn": leignn, "layer": layer}[what]
    cases = {"filtered": [*FILTERED], "product": [*PRODUCTS]}.get(what, [what])
    for one in [case] if case else cases:
        run(one, getattr(torch, precision))


if __name__ == "__main__":
    torch.manual_seed(0)
    dispatch.by_triton = lambda sample: True  # the GPU of this process is the interpreter
    for comparison in sys.argv[1:]:
        main(*comparison.split(":"))
