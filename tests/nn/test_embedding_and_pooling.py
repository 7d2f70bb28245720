"""What starts and ends the network: radial basis, first look around, products as in e3nn, pooling by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from ase import Atoms
from e3nn import o3
from torch import Tensor, nn

from mlanet.data.atoms import to_graph
from mlanet.nn.dual_path import AttentionShape, FullValue
from mlanet.nn.edges import Edges
from mlanet.nn.embedding import ChargeEmbedding, ChargeSettings, EdgeDegreeEmbedding
from mlanet.nn.equivariant import NodeProduct, natural_irreps, to_e3nn
from mlanet.nn.heads import symmetric_basis, torque_correction
from mlanet.nn.pooling import (
    ExtensivePooling,
    LocalPooling,
    PaperPooling,
    Structures,
    SumPooling,
    build_pooling,
)
from mlanet.nn.radial import BesselBasis, RadialMLP, polynomial_envelope
from mlanet.ops.dispatch import neighbor_pooling
from mlanet.ops.node_product.reference import product_paths
from mlanet.ops.rows import Rows
from mlanet.ops.segment import Neighborhoods
from mlanet.ops.tensor_product import paths as natural_paths

N, C, CUTOFF = 4, 3, 5.0


@contextmanager
def double_precision() -> Iterator[None]:
    """e3nn takes the type of its constants from torch's default when a product is built."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def cluster(l_max: int, matrix: Tensor | None = None) -> Edges:
    """All pairs of four atoms, turned by `matrix`, as a list."""
    positions = torch.randn(N, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    positions = positions if matrix is None else positions @ matrix.T
    center, neighbor = (index.flatten() for index in torch.where(~torch.eye(N, dtype=torch.bool)))
    vectors = positions[neighbor] - positions[center]
    distance = vectors.norm(dim=1)
    envelope = polynomial_envelope(distance, CUTOFF)
    harmonics = o3.spherical_harmonics(list(range(l_max + 1)), vectors, normalize=True, normalization="component")
    around = Neighborhoods(center, N)
    radial = BesselBasis(4, CUTOFF).double()(distance, envelope).detach()
    return Edges(around, neighbor, envelope, radial, harmonics, around.sum(envelope))


def hand_made(neighbor: list[int], envelope: list[float], n: int, degree: int = 0) -> Edges:
    """Neighbours of atom 0 only (as a list), or of all atoms in turn (as a table), with given envelopes."""
    u = torch.tensor(envelope, dtype=torch.float64)
    center = torch.arange(n).repeat_interleave(degree) if degree else torch.zeros(len(neighbor), dtype=torch.int64)
    around = Neighborhoods(center, n, degree)
    return Edges(around, torch.tensor(neighbor), u, u[:, None], u[:, None], around.sum(u))


@pytest.mark.parametrize("l_max", [1, 2, 3])
def test_first_look_around_is_equivariant(l_max: int) -> None:
    """Each degree turns as the harmonics of that degree do, inversion included: D from Y(R v) = D Y(v)."""
    matrix = -o3.rand_matrix(dtype=torch.float64)
    module = EdgeDegreeEmbedding(natural_irreps(C, l_max), 4, (5,), 3.0).double()
    sender = torch.randn(N, C, dtype=torch.float64)
    plain, rotated = module(sender, cluster(l_max)), module(sender, cluster(l_max, matrix))
    probes = torch.randn(64, 3, dtype=torch.float64)
    for degree in range(1, l_max + 1):
        before, after = (o3.spherical_harmonics(degree, v, True) for v in (probes, probes @ matrix.T))
        d = torch.linalg.lstsq(before, after).solution.T
        rows = slice(degree**2 - 1, (degree + 1) ** 2 - 1)
        assert torch.allclose(rotated[:, rows], torch.einsum("ab,nbc->nac", d, plain[:, rows]), atol=1e-10)
        assert plain[:, rows].abs().max() > 1e-3


def test_first_look_around_without_neighbours_is_zero() -> None:
    """No edge, no direction; and no NaN."""
    empty = torch.zeros(0, dtype=torch.int64)
    nothing = torch.zeros(0, 4, dtype=torch.float64)
    none = Edges(Neighborhoods(empty, 2), empty, nothing[:, 0], nothing, nothing, torch.zeros(2).double())
    module = EdgeDegreeEmbedding(natural_irreps(C, 1), 4, (5,), 3.0).double()
    assert torch.equal(module(torch.ones(2, C).double(), none), torch.zeros(2, 3, C).double())


def test_bessel_values() -> None:
    """RBF_b = (r_c/2) sin(bπ r/r_c)/r · u(r), number for number."""
    r = torch.tensor([0.7, 1.9, 3.3, 4.9], dtype=torch.float64)
    found = BesselBasis(5, CUTOFF).double()(r, polynomial_envelope(r, CUTOFF))
    for row, distance in zip(found, r.tolist(), strict=True):
        t = distance / CUTOFF
        u = 1 - 28 * t**6 + 48 * t**7 - 21 * t**8
        for b, value in enumerate(row.tolist(), start=1):
            expected = CUTOFF / 2 * math.sin(b * math.pi / CUTOFF * distance) / distance * u
            # The wave numbers are trainable and were drawn in float32, so π has its digits only.
            assert value == pytest.approx(expected, abs=3e-6)


def test_everything_radial_fades_twice_smoothly() -> None:
    """Basis and radial network have value, slope and curvature 0 at the cutoff and value 0 beyond it."""
    torch.manual_seed(0)
    basis, network = BesselBasis(4, CUTOFF).double(), RadialMLP(4, (6,), 3).double()
    at = torch.tensor([CUTOFF], dtype=torch.float64, requires_grad=True)
    for column in range(3):
        value = network(basis(at, polynomial_envelope(at, CUTOFF)))[0, column]
        slope = torch.autograd.grad(value, at, create_graph=True)[0]
        curvature = torch.autograd.grad(slope.sum(), at)[0]
        assert max(value.abs().item(), slope.abs().item(), curvature.abs().item()) < 1e-12
    beyond = torch.tensor([5.0001, 7.0], dtype=torch.float64)
    assert torch.equal(network(basis(beyond, polynomial_envelope(beyond, CUTOFF))), torch.zeros(2, 3).double())


@pytest.mark.parametrize("l_max", [1, 2, 3])
def test_full_value_is_e3nns_product(l_max: int) -> None:
    """`uvu` with weights from the distance, as `o3.TensorProduct` built in float64 has it."""
    irreps, edges = natural_irreps(C, l_max), cluster(l_max)
    module = FullValue(irreps, AttentionShape(1, 1, 4, (5,), 6, 3.0, "tp_dot", "full", "product")).double()
    paths = [(*path, "uvu", True) for path in natural_paths(l_max)]
    with double_precision():
        plain = o3.TensorProduct(irreps, natural_irreps(1, l_max), irreps, paths, shared_weights=False)
    value = torch.randn(N, (l_max + 1) ** 2, C, dtype=torch.float64)
    expected = plain(to_e3nn(value)[edges.neighbor], edges.harmonics, module.radial(edges.radial))
    assert torch.allclose(to_e3nn(module(value, edges)), expected, atol=1e-12)


@pytest.mark.parametrize("l_max", [1, 2, 3])
@pytest.mark.parametrize("scalars_only", [False, True])
def test_node_product_is_e3nns_product(l_max: int, scalars_only: bool) -> None:
    """`uuu` of the features with themselves, then one matrix per degree."""
    irreps, out = natural_irreps(C, l_max), natural_irreps(C, 0 if scalars_only else l_max)
    module = NodeProduct(irreps, out).double()
    paths = [(*path, "uuu", True) for path in product_paths(l_max, out.lmax)]
    with double_precision():
        product, linear = o3.TensorProduct(irreps, irreps, out, paths), o3.Linear(out, out)
    with torch.no_grad():
        product.weight.copy_(module.path_weights.flatten())
        linear.weight.copy_(module.linear.weight.flatten() * math.sqrt(C))
    x = torch.randn(N, (l_max + 1) ** 2, C, dtype=torch.float64)
    flat = to_e3nn(x)
    assert torch.allclose(to_e3nn(module(x)), linear(product(flat, flat)), atol=1e-12)


def test_no_charge_no_change() -> None:
    """A neutral system gets nothing from the charge embedding; charge enters linearly."""
    module = ChargeEmbedding(C, ChargeSettings(charge="total")).double()

    def given(charge: float, atoms: int = 2) -> torch.Tensor:
        return module(to_graph(Atoms(["O"] * atoms, [[0, 0, float(z)] for z in range(atoms)]), 2.0, charge=charge))

    assert torch.equal(given(0.0), torch.zeros(2, C, dtype=torch.float64))
    assert torch.allclose(given(2.0), 2 * given(1.0))
    assert torch.allclose(given(-2.0, 4)[:2], given(-1.0))


def test_torque_of_a_mixed_batch() -> None:
    """Each molecule for itself: a bent one, a straight one, one atom; the crystal among them untouched."""
    counts = [4, 3, 1, 3]
    structure = torch.arange(4).repeat_interleave(torch.tensor(counts))
    positions = torch.randn(11, 3, dtype=torch.float64) + 50.0
    positions[4:7] = torch.tensor([[0.0, 1.0, 2.0], [1.0, 2.0, 4.0], [3.0, 4.0, 8.0]]).double()
    forces = torch.randn(11, 3, dtype=torch.float64)
    for s in range(4):
        forces[structure == s] -= forces[structure == s].mean(0)
    pbc = torch.tensor([[False] * 3] * 3 + [[False, False, True]])
    structures = Structures(structure, torch.tensor(counts).double(), 4)
    correction = torque_correction(forces, positions, pbc, structures)
    assert correction.isfinite().all() and torch.equal(correction[7:], torch.zeros(4, 3).double())
    for s in (0, 1):
        mine = structure == s
        arms = positions[mine] - positions[mine].mean(0)
        before = torch.linalg.cross(arms, forces[mine]).sum(0)
        after = torch.linalg.cross(arms, (forces - correction)[mine]).sum(0)
        assert before.abs().max() > 0.1 and after.abs().max() < 1e-10


def test_stress_basis_is_orthonormal_and_symmetric() -> None:
    """Six unit matrices of symmetric tensors, the first the trace, the others traceless."""
    basis = symmetric_basis(torch.zeros(1, dtype=torch.float64))
    assert torch.allclose(basis @ basis.T, torch.eye(6).double(), atol=1e-14)
    matrices = basis.view(6, 3, 3)
    assert torch.allclose(matrices, matrices.transpose(1, 2), atol=1e-15)
    assert torch.einsum("kaa->k", matrices)[1:].abs().max() < 1e-14


def smooth_max(x: Tensor, edges: Edges) -> Tensor:
    return neighbor_pooling(1, edges.around, edges.neighbor, edges.rows, x, edges.envelope)[:, 1]


@pytest.mark.parametrize("by_kernel", [False, True])
@pytest.mark.parametrize("degree", [0, 3])
@pytest.mark.parametrize("size", [1.0, 300.0, 1e4])
def test_smooth_max_with_padding(degree: int, size: float, by_kernel: bool) -> None:
    """log(1 + Σ u eˣ) with value and two derivatives finite, whatever a row that weighs nothing points at."""
    n = 3
    neighbor, envelope = [1, 2, 0], [0.5, 1.0, 0.0]
    if degree:
        neighbor, envelope = neighbor * n, [*envelope, *[0.0] * 6]
    edges = hand_made(neighbor, envelope, n, degree)
    edges = edges._replace(rows=Rows.of(edges.around, edges.neighbor) if by_kernel else None)
    x = torch.tensor([[size], [-size], [0.3]], dtype=torch.float64, requires_grad=True)
    found = smooth_max(x, edges)
    first = torch.autograd.grad(found.sum(), x, create_graph=True)[0]
    second = torch.autograd.grad(first.square().sum(), x)[0]
    assert all(t.isfinite().all() for t in (found, first, second))
    assert found[0].item() == pytest.approx(math.log(1 + 0.5 * math.exp(-size) + math.exp(0.3)), abs=1e-14)
    assert found[1:].abs().max() == 0 and first[0].item() == 0


def test_smooth_max_tends_to_the_maximum() -> None:
    """At a large scale the largest neighbour wins, up to log u."""
    x = torch.tensor([[0.0], [1.0], [3.0], [2.0]], dtype=torch.float64)
    edges = hand_made([1, 2, 3], [1.0, 1.0, 1.0], 4)
    for scale in (10.0, 100.0, 1000.0):
        assert smooth_max(scale * x, edges)[0].item() / scale == pytest.approx(3.0, abs=1 / scale)


class Column(nn.Module):
    """A readout that reads one column, so that pooling can be seen."""

    def __init__(self, column: int) -> None:
        super().__init__()
        self.column = column

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.column : self.column + 1]


SCALARS = torch.tensor([[1.0], [5.0], [2.0], [7.0]], dtype=torch.float64)
TWO = Structures(torch.tensor([0, 0, 0, 1]), torch.tensor([3.0, 1.0]).double(), 2)


def test_local_pooling_by_hand() -> None:
    """Own features, Σ u x / n̄, Σ u x / (1 + n), smooth maximum over atom 0's neighbours 1 (u = ½) and 2 (u = 1)."""
    edges, module = hand_made([1, 2], [0.5, 1.0], 4), LocalPooling(1, 3.0)
    expected = [1.0, 4.5 / 3, 4.5 / 2.5, math.log(1 + 0.5 * math.exp(5) + math.exp(2))]
    for column, value in enumerate(expected):
        module.readout = Column(column)  # type: ignore[assignment]
        found = module(SCALARS, edges, TWO)
        assert found[0].item() == pytest.approx(value, abs=1e-13)
        assert found[1:].tolist() == (SCALARS[1:, 0].tolist() if column == 0 else [0.0] * 3)


def test_pooling_over_structures_by_hand() -> None:
    """Sum, mean and maximum of (1, 5, 2) and of (7): `paper` shares them out, `extensive` gives each atom the whole."""
    edges = hand_made([1], [1.0], 4)
    paper, extensive, plain = PaperPooling(1), ExtensivePooling(1), SumPooling(1)
    for column, whole in enumerate([(8.0, 7.0), (8.0 / 3, 7.0), (5.0, 7.0)]):
        paper.whole = Column(column)  # type: ignore[assignment]
        assert paper(SCALARS, edges, TWO).tolist() == pytest.approx([*[whole[0] / 3] * 3, whole[1]], abs=1e-14)
    extensive.site = Column(0)  # type: ignore[assignment]
    for column, whole in enumerate([(8.0 / 3, 7.0), (5.0, 7.0)]):
        extensive.whole = Column(column)  # type: ignore[assignment]
        expected = [1 + whole[0], 5 + whole[0], 2 + whole[0], 7 + whole[1]]
        assert extensive(SCALARS, edges, TWO).tolist() == pytest.approx(expected, abs=1e-14)
    plain.readout = Column(0)  # type: ignore[assignment]
    assert plain(SCALARS, edges, TWO).tolist() == SCALARS[:, 0].tolist()


def test_a_bound_tames_large_features() -> None:
    """What neighbours show is b tanh(x/b); small features pass as they are, and an atom's own ones always."""
    x = torch.tensor([[0.01], [40.0]], dtype=torch.float64)
    edges = hand_made([1, 1], [1e-9, 1e-9], 2)
    bounded, free = (LocalPooling(1, 3.0, bound).double() for bound in (3.0, None))
    for module, most in ((bounded, 1e-7), (free, 20.0)):
        module.readout = Column(3)  # type: ignore[assignment]
        found = module(x, edges, TWO)
        assert float(found.max()) <= most
    assert float(free(x, edges, TWO).max()) > 15.0
    bounded.readout = Column(0)  # type: ignore[assignment]
    assert bounded(x, edges, TWO).tolist() == [0.01, 40.0]


def test_equal_atoms_share_the_gradient_of_a_maximum() -> None:
    """Equivalent atoms of a crystal must feel the same force."""
    x = torch.tensor([[2.0], [2.0], [1.0]], dtype=torch.float64, requires_grad=True)
    module, one = PaperPooling(1), Structures(torch.zeros(3, dtype=torch.int64), torch.tensor([3.0]).double(), 1)
    module.whole = Column(2)  # type: ignore[assignment]
    module(x, hand_made([1], [1.0], 3), one).sum().backward()
    assert x.grad is not None and x.grad[:, 0].tolist() == [0.5, 0.5, 0.0]


def test_modes_by_name() -> None:
    """Each name builds its module, and says whether energies belong to atoms."""
    kinds = {"local": LocalPooling, "sum": SumPooling, "extensive": ExtensivePooling, "paper": PaperPooling}
    for mode, kind in kinds.items():
        module = build_pooling(mode, 2, 3.0)
        assert type(module) is kind and module.per_atom == (mode in ("local", "sum"))
