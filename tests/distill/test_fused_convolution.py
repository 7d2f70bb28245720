from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from e3nn import o3

import mlanet.distill
from mlanet.distill.fused_convolution import Product


@pytest.mark.parametrize("irreps", ["16x0e", "12x0e+8x1e+4x2e+4x3e", "6x0e+5x1o+3x2e"])
def test_the_fused_product_is_e3nns_summed_over_neighbours(irreps: str) -> None:
    """Values and all first derivatives, in float32, for SevenNet's parities and for natural ones."""
    generator = torch.Generator().manual_seed(0)
    one = o3.Irreps(irreps)
    parity = 1 if "1o" not in irreps else -1
    other = o3.Irreps([(1, (degree, parity**degree)) for degree in range(4 if parity == 1 else 3)])
    made, instructions = [], []
    for i, (channels, a) in enumerate(one):
        for j, (_, b) in enumerate(other):
            for c in a * b:
                if c.l <= 3:
                    instructions.append((i, j, len(made), "uvu", True))
                    made.append((channels, c))
    out, places, _ = o3.Irreps(made).sort()
    instructions = [(i, j, places[k], mode, train) for i, j, k, mode, train in instructions]
    plain = o3.TensorProduct(one, other, out, instructions, shared_weights=False, internal_weights=False)
    n, edges = 5, 23
    sender, center = torch.randint(n, (2, edges), generator=generator)
    shapes = ((n, one.dim), (edges, other.dim), (edges, plain.weight_numel))
    inputs = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    x, harmonics, weights = inputs
    expected = torch.zeros(n, out.dim).index_add(0, center, plain(x[sender], harmonics, weights))
    found = Product(plain)(x, harmonics, weights, sender, center)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    up = torch.randn(expected.shape, generator=generator)
    for mine, theirs in zip(
        torch.autograd.grad(found, inputs, up), torch.autograd.grad(expected, inputs, up), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=2e-4)


def test_other_products_are_refused() -> None:
    product = o3.FullyConnectedTensorProduct("4x0e", "1x0e", "4x0e", shared_weights=False, internal_weights=False)
    with pytest.raises(ValueError, match="uvw"):
        Product(product)


@pytest.mark.parametrize("name", ["worker", "fused_convolution"])
def test_what_runs_beside_the_teacher_needs_nothing_of_this_package(name: str) -> None:
    """The teacher's environment has its own packages; an import of ours there leaves labelling slow without a word."""
    tree = ast.parse((Path(mlanet.distill.__file__).parent / f"{name}.py").read_text())
    modules = {one.module for one in tree.body if isinstance(one, ast.ImportFrom)}
    modules |= {alias.name for one in tree.body if isinstance(one, ast.Import) for alias in one.names}
    assert not [one for one in modules if one and one.split(".")[0] == "mlanet"]
