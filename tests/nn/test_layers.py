"""Every layer transforms as its irreps say, and is what e3nn says where e3nn has it."""

from __future__ import annotations

import math

import pytest
import torch
from e3nn import o3
from torch import Tensor

from mlanet.nn.dual_path import AttentionShape, DualPathAttention, InteractionLayer
from mlanet.nn.edges import Edges
from mlanet.nn.equivariant import (
    EquivariantRMSNorm,
    GatedMLP,
    Linear,
    NodeProduct,
    natural_irreps,
    to_e3nn,
)
from mlanet.nn.heads import DirectForces, DirectStress, torque_correction
from mlanet.nn.pooling import Structures
from mlanet.nn.radial import BesselBasis, polynomial_envelope
from mlanet.nn.tensor_product import TensorProduct
from mlanet.ops.message import reference
from mlanet.ops.neighbor_pooling.reference import pooled_neighbors
from mlanet.ops.segment import Neighborhoods

N, C = 4, 4


def turned(features: Tensor, matrix: Tensor) -> Tensor:
    """Features in the layout (N, M, C), transformed by D(matrix).

    D is solved from Y(R v) = D Y(v), exact to 1e-14; e3nn's own D goes through angles and errs by 1e-7.
    """
    probes = torch.randn(64, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    blocks = []
    for degree, block in enumerate(reference.split_degrees(features, math.isqrt(features.shape[1]) - 1)):
        before, after = (o3.spherical_harmonics(degree, v, True) for v in (probes, probes @ matrix.T))
        blocks.append(torch.einsum("ab,nbc->nac", torch.linalg.lstsq(before, after).solution.T, block))
    return torch.cat(blocks, dim=1)


def a_rotation() -> Tensor:
    """An improper rotation, so that parity is tested too."""
    return -o3.rand_matrix(dtype=torch.float64)


def edges(l_max: int, matrix: Tensor | None = None) -> Edges:
    """All pairs of a small random cluster, turned by `matrix`."""
    positions = torch.randn(N, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    if matrix is not None:
        positions = positions @ matrix.T
    center, neighbor = (index.flatten() for index in torch.where(~torch.eye(N, dtype=torch.bool)))
    vectors = positions[neighbor] - positions[center]
    distance = vectors.norm(dim=1)
    envelope = polynomial_envelope(distance, 5.0)
    harmonics = o3.spherical_harmonics(list(range(l_max + 1)), vectors, normalize=True, normalization="component")
    around = Neighborhoods(center, N, N - 1)
    radial = BesselBasis(4, 5.0).double()(distance, envelope).detach()
    return Edges(around, neighbor, envelope, radial, harmonics, around.sum(envelope))


def features(l_max: int) -> Tensor:
    return torch.randn(N, (l_max + 1) ** 2, C, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def shape(**switches: str) -> AttentionShape:
    settings = {"attention": "tp_dot", "message": "light", "combine": "product", **switches}
    return AttentionShape(2, 2, 4, (5,), 6, 3.0, **settings)


@pytest.mark.parametrize("l_max", [1, 2, 3])
@pytest.mark.parametrize("layer", [Linear, GatedMLP, NodeProduct])
def test_node_layers_are_equivariant(layer: type, l_max: int) -> None:
    """f(D x) = D f(x), inversion included, also with fewer degrees out than in."""
    matrix, x = a_rotation(), features(l_max)
    for l_out in (0, 1, l_max):
        module = layer(natural_irreps(C, l_max), natural_irreps(C, l_out)).double()
        assert torch.allclose(module(turned(x, matrix)), turned(module(x), matrix), atol=1e-10)


@pytest.mark.parametrize("l_max", [1, 2, 3])
def test_norm_is_equivariant_and_normalises(l_max: int) -> None:
    """Features of any size leave with mean square 1."""
    matrix, x = a_rotation(), 100 * features(l_max)
    module = EquivariantRMSNorm(natural_irreps(C, l_max)).double()
    assert torch.allclose(module(turned(x, matrix)), turned(module(x), matrix), atol=1e-10)
    weight = module.weight_of_row.double()
    assert torch.allclose(torch.einsum("nmc,m->n", module(x) ** 2, weight) / C, torch.ones(N).double(), atol=1e-6)


@pytest.mark.parametrize("l_max", [1, 2, 3])
@pytest.mark.parametrize("attention", ["tp_dot", "fctp", "gatv2", "none"])
@pytest.mark.parametrize("message", ["light", "full"])
@pytest.mark.parametrize("combine", ["product", "sum"])
def test_attention_is_equivariant(l_max: int, attention: str, message: str, combine: str) -> None:
    """Every combination of switches."""
    matrix, x = a_rotation(), features(l_max)
    switches = shape(attention=attention, message=message, combine=combine)
    module = DualPathAttention(natural_irreps(C, l_max), switches).double()
    expected = turned(module(x, edges(l_max)), matrix)
    assert torch.allclose(module(turned(x, matrix), edges(l_max, matrix)), expected, atol=1e-10)
    assert expected.abs().max() > 1e-3


def test_a_null_key_of_its_own_is_the_bias_of_the_logits() -> None:
    """α = u e^a / (ν + Σ u e^a), ν of each head, is the softmax with the bias of its logits less τ ln ν."""
    x, around = features(2), edges(2)
    module = DualPathAttention(natural_irreps(C, 2), shape()).double()
    assert module.logits is not None
    module.logits.log_temperature.data.copy_(torch.tensor([0.4, -0.3]))
    alpha, nu = module.attention_weights(x, around), torch.tensor([0.2, 3.0]).double()
    powers = alpha / (1 - around.around.spread(around.around.sum(alpha)))  # u e^a
    wanted = powers / (nu + around.around.spread(around.around.sum(powers)))
    bias = module.logits.weights.bias.data.unflatten(0, (2, -1))
    bias[:, 0] -= torch.exp(module.logits.log_temperature.data) * nu.log()
    assert torch.allclose(module.attention_weights(x, around), wanted, atol=1e-12)


@pytest.mark.parametrize("attention", ["tp_dot", "none"])
def test_output_gate_scales_the_heads_by_the_scalars_of_the_center(attention: str) -> None:
    """Shut it lets nothing through, open twice the message, and every head has its own; it turns with the features."""
    matrix, x = a_rotation(), features(2)
    module = DualPathAttention(natural_irreps(C, 2), shape(attention=attention, output_gate="head")).double()
    plain = DualPathAttention(natural_irreps(C, 2), shape(attention=attention)).double()
    plain.load_state_dict({key: one for key, one in module.state_dict().items() if not key.startswith("output_gate")})
    expected = turned(module(x, edges(2)), matrix)
    assert torch.allclose(module(turned(x, matrix), edges(2, matrix)), expected, atol=1e-10)
    module.output_gate.weight.data.zero_()  # type: ignore[union-attr]
    module.output_gate.bias.data.copy_(torch.tensor([40.0, -40.0]))  # type: ignore[union-attr]
    first, second = module(x, edges(2)).unflatten(2, (2, -1)).unbind(2)
    assert torch.allclose(first, 2 * plain(x, edges(2)).unflatten(2, (2, -1))[:, :, 0], atol=1e-12)
    assert second.abs().max() < 1e-15


@pytest.mark.parametrize("product", [True, False])
def test_interaction_layer_is_equivariant(product: bool) -> None:
    """The whole layer, with all degrees and with scalars only at its end."""
    matrix, x = a_rotation(), features(2)
    for l_out in (0, 2):
        out = natural_irreps(C, l_out)
        module = InteractionLayer(natural_irreps(C, 2), out, shape(), product=product, normalised=True).double()
        expected = turned(module(x, edges(2)), matrix)
        assert torch.allclose(module(turned(x, matrix), edges(2, matrix)), expected, atol=1e-10)


@pytest.mark.parametrize("l_max", [1, 2, 3])
def test_direct_heads_are_equivariant(l_max: int) -> None:
    """Forces turn as vectors, stress as a symmetric tensor; both change sign as they should under inversion."""
    matrix, x = a_rotation(), features(l_max)
    structures = Structures(torch.zeros(N, dtype=torch.int64), torch.tensor([N]).double(), 1)
    positions, pbc = torch.randn(N, 3, dtype=torch.float64), torch.tensor([[True] * 3])
    forces, stress = DirectForces(natural_irreps(C, l_max)).double(), DirectStress(natural_irreps(C, l_max)).double()
    given = forces(x, positions, pbc, structures)
    assert torch.allclose(forces(turned(x, matrix), positions @ matrix.T, pbc, structures), given @ matrix.T)
    tensor = stress(x, structures)[0]
    assert torch.allclose(stress(turned(x, matrix), structures)[0], matrix @ tensor @ matrix.T, atol=1e-10)
    assert torch.allclose(tensor, tensor.T, atol=1e-12)


@pytest.mark.parametrize("linear", [False, True])
def test_net_torque_is_removed(linear: bool) -> None:
    """Molecules, straight ones too; a periodic structure is left alone."""
    positions = torch.randn(5, 3, dtype=torch.float64)
    if linear:
        positions[:, 1:] = 0
    forces = torch.randn(5, 3, dtype=torch.float64)
    forces = forces - forces.mean(0)
    structures = Structures(torch.zeros(5, dtype=torch.int64), torch.tensor([5.0]).double(), 1)
    free, bound = torch.tensor([[False] * 3]), torch.tensor([[True, True, False]])
    rest = forces - torque_correction(forces, positions, free, structures)
    arms = positions - positions.mean(0)
    assert torch.linalg.cross(arms, rest).sum(0).abs().max() < 1e-10
    assert rest.sum(0).abs().max() < 1e-10
    assert torch.equal(torque_correction(forces, positions, bound, structures), torch.zeros_like(forces))


@pytest.mark.parametrize("l_max", [1, 2, 3])
def test_linear_is_e3nns(l_max: int) -> None:
    """The same numbers as `o3.Linear` with √C times the weights."""
    irreps = natural_irreps(C, l_max)
    ours, theirs = Linear(irreps, irreps).double(), o3.Linear(irreps, irreps).double()
    with torch.no_grad():
        theirs.weight.copy_(ours.weight.flatten() * math.sqrt(C))
    x = features(l_max)
    assert torch.allclose(to_e3nn(ours(x)), theirs(to_e3nn(x)), atol=1e-12)


def test_constants_are_exact_and_not_saved() -> None:
    """Clebsch–Gordan coefficients keep float64's digits through any change of type; checkpoints hold weights only."""
    module = TensorProduct(*[natural_irreps(2, 2)] * 3, [(1, 1, 2, "uuu", True), (2, 2, 2, "uuu", True)], True)
    module = module.double().float().double()
    for name, buffer in module.named_buffers():
        if "_w3j_" in name:
            degrees = [int(word) for word in name.rpartition("_w3j_")[2].split("_")]
            assert torch.equal(buffer, o3.wigner_3j(*degrees, dtype=torch.float64))
    assert set(module.state_dict()) == {"product.weight"}


def test_envelope_is_smooth_at_the_cutoff() -> None:
    """u, u' and u'' vanish at r_c; beyond it u is 0; the factored form is the published polynomial."""
    r = torch.linspace(0.0, 6.0, 601, dtype=torch.float64, requires_grad=True)
    u = polynomial_envelope(r, 5.0)
    t = r.detach() / 5
    published = torch.where(t < 1, 1 - 28 * t**6 + 48 * t**7 - 21 * t**8, 0.0)
    assert torch.allclose(u.detach(), published, atol=1e-13)
    at = torch.tensor([5.0], dtype=torch.float64, requires_grad=True)
    first = torch.autograd.grad(polynomial_envelope(at, 5.0).sum(), at, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), at)[0]
    assert first.abs().item() < 1e-12 and second.abs().item() < 1e-12


def test_smooth_max_approaches_the_maximum() -> None:
    """0 without neighbours, the maximum of large values, finite for huge ones, blind to edges that weigh nothing."""
    values = torch.tensor([[1.0], [400.0], [-3.0]], dtype=torch.float64)
    around = Neighborhoods(torch.tensor([0, 0, 1]), 3)
    neighbor, weightless = torch.tensor([1, 2, 2]), torch.tensor([1.0, 1.0, 0.0]).double()
    found = pooled_neighbors(values, weightless, neighbor, around)[:, 1, 0]
    assert found[0].item() == pytest.approx(400.0) and found[1:].tolist() == [0.0, 0.0]


def test_products_that_share_code_share_nothing_else() -> None:
    """Weights are those that e3nn would draw; type, constants and weights of one leave the other as it is."""
    irreps, paths = natural_irreps(2, 2), [(1, 1, 2, "uuu", True), (2, 2, 2, "uuu", True)]
    torch.set_default_dtype(torch.bfloat16)
    try:
        TensorProduct(irreps, irreps, irreps, paths, True)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.manual_seed(1)
    one, other = (TensorProduct(irreps, irreps, irreps, paths, True) for _ in range(2))
    torch.manual_seed(1)
    for mine in (one, other):
        theirs = o3.TensorProduct(irreps, irreps, irreps, paths)
        assert torch.equal(mine.product.weight, theirs.weight)
        x = torch.randn(3, irreps.dim, generator=torch.Generator().manual_seed(2))
        torch.testing.assert_close(mine(x, x), theirs(x, x), rtol=0, atol=1e-6)
    before = other(x, x)
    one.double()
    with torch.no_grad():
        one.product.weight.zero_()
    assert not one(x.double(), x.double()).any()
    assert torch.equal(other(x, x), before) and before.dtype == torch.float32 and bool(before.any())
