"""Graphs and labels: joining, moving, edge vectors; nothing is changed in place."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from systems import SYSTEMS, apart, ethanol, lone, triclinic, wire

from mlanet.data.atoms import to_graph
from mlanet.graph import AtomicGraph, Labels, Prediction, batch_graphs, batch_labels

CUTOFF = 4.0
PARTS = [ethanol(), lone(), triclinic(), apart(), wire()]


def graphs() -> list[AtomicGraph]:
    return [to_graph(atoms, CUTOFF) for atoms in PARTS]


@pytest.mark.parametrize("name", SYSTEMS)
def test_edge_vectors(name: str) -> None:
    """r_ij = R_j + shift · cell − R_i, each within the cutoff, each with its opposite."""
    graph = to_graph(SYSTEMS[name], CUTOFF)
    vectors = graph.edge_vectors()
    for e in range(graph.n_edges):
        i, j = int(graph.center[e]), int(graph.neighbor[e])
        image = sum((float(graph.shift[e, a]) * graph.cell[0, a] for a in range(3)), torch.zeros(3).double())
        assert torch.allclose(vectors[e], graph.positions[j] + image - graph.positions[i], atol=1e-12)
    assert (vectors.norm(dim=1) <= CUTOFF).all() and (graph.center.diff() >= 0).all()
    triples = torch.cat([graph.center[:, None], graph.neighbor[:, None], graph.shift], dim=1)
    opposite = torch.cat([graph.neighbor[:, None], graph.center[:, None], -graph.shift], dim=1)
    assert {tuple(t) for t in triples.tolist()} == {tuple(t) for t in opposite.tolist()}


def test_edge_vectors_are_differentiable_in_positions_and_cell() -> None:
    """First derivatives against finite differences."""
    graph = to_graph(triclinic(), CUTOFF)

    def vectors(positions: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        return dataclasses.replace(graph, positions=positions, cell=cell).edge_vectors()[:10]

    inputs = (graph.positions.clone().requires_grad_(), graph.cell.clone().requires_grad_())
    assert torch.autograd.gradcheck(vectors, inputs)


def test_a_batch_is_its_parts_in_order() -> None:
    """Atoms, edges and structures are joined with the right offsets, structures without edges included."""
    parts = graphs()
    batch = batch_graphs(parts)
    assert batch.n_structures == len(parts) and batch.cutoff == CUTOFF
    assert batch.atoms_per_structure().tolist() == [len(atoms) for atoms in PARTS]
    assert batch.n_atoms == sum(map(len, PARTS)) and batch.n_edges == sum(p.n_edges for p in parts)
    assert (batch.center.diff() >= 0).all() and (batch.structure.diff() >= 0).all()
    assert torch.equal(batch.structure[batch.center], batch.structure[batch.neighbor])
    assert torch.allclose(batch.edge_vectors(), torch.cat([p.edge_vectors() for p in parts]), atol=1e-13)
    assert torch.allclose(batch.volume(), torch.cat([p.volume() for p in parts]))
    assert batch.volume()[0] == 0 and batch.volume()[2] == pytest.approx(triclinic().get_volume())


def test_a_batch_of_batches_is_a_batch() -> None:
    """Joining is associative."""
    parts = graphs()
    nested = batch_graphs([batch_graphs(parts[:2]), batch_graphs(parts[2:])])
    flat = batch_graphs(parts)
    for field in dataclasses.fields(AtomicGraph):
        mine, other = getattr(nested, field.name), getattr(flat, field.name)
        assert torch.equal(mine, other) if isinstance(mine, torch.Tensor) else mine == other


def test_a_batch_knows_its_smallest_cutoff() -> None:
    """Completeness is that of the least complete part."""
    assert batch_graphs([to_graph(ethanol(), 3.0), to_graph(lone(), 6.0)]).cutoff == 3.0


def test_atomic_charges_are_all_or_nothing() -> None:
    """One part without them, and the batch has none."""
    plain = to_graph(lone(), CUTOFF)
    charged = dataclasses.replace(plain, atomic_charges=torch.tensor([0.5]).double())
    assert batch_graphs([plain, charged]).atomic_charges is None
    joined = batch_graphs([charged, charged]).atomic_charges
    assert joined is not None and joined.tolist() == [0.5, 0.5]


def test_to_changes_what_is_computed_with_and_no_geometry() -> None:
    """Charges and edge vectors are rounded; positions, cells and integers are not, and the original keeps all."""
    graph = batch_graphs(graphs())
    moved = graph.to("cpu", torch.float32)
    for field in dataclasses.fields(AtomicGraph):
        before, after = getattr(graph, field.name), getattr(moved, field.name)
        if isinstance(before, torch.Tensor):
            rounded = field.name in ("charge", "atomic_charges")
            assert after.dtype == (torch.float32 if rounded else before.dtype)
            assert before.dtype != torch.float32
        elif field.name != "dtype":
            assert before == after
    assert torch.equal(graph.to().positions, graph.positions)
    assert moved.dtype == torch.float32
    assert torch.equal(moved.edge_vectors(), graph.edge_vectors().float())


def test_labels_keep_energies_in_float64() -> None:
    """Forces may be rounded, totals of −10⁵ eV may not; NaN survives as 'not labelled'."""
    one = Labels(
        torch.tensor([-123456.789012345], dtype=torch.float64),
        torch.zeros(2, 3).double(),
        torch.full((1, 3, 3), torch.nan),
    )
    both = batch_labels([one, one]).to(dtype=torch.float32)
    assert both.energy.dtype == torch.float64 and both.energy.tolist() == [-123456.789012345] * 2
    assert both.forces.dtype == torch.float32 and both.forces.shape == (4, 3)
    assert both.stress.shape == (2, 3, 3) and bool(both.stress.isnan().all())


def test_detached_prediction_has_no_history() -> None:
    """Same numbers, no graph."""
    x = torch.ones(1, 3, 3, requires_grad=True)
    prediction = Prediction(x[:, 0, 0] * 2, x[0] * 2, x * 2, x[:, 0, 0] * 2, x[0, :, 0] * 2).detach()
    assert dataclasses.replace(prediction, charges=None).detach().charges is None
    values = prediction.tensors().values()
    assert not any(v.requires_grad for v in values) and prediction.energy.tolist() == [2.0]


def test_a_graph_cannot_be_changed() -> None:
    """Frozen: a changed graph is a new one."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        to_graph(lone(), CUTOFF).cutoff = 3.0  # type: ignore[misc]
