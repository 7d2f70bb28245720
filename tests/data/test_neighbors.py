"""The neighbour list is ASE's, edge for edge, whatever the cell."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from ase.build import bulk, graphene, molecule
from ase.neighborlist import primitive_neighbor_list
from hypothesis import assume, given
from hypothesis import strategies as st

from mlanet.data.neighbors import neighbor_list

RANDOM = np.random.default_rng(0)
DIAMOND = bulk("Si", cubic=True)
SHEET = graphene(size=(2, 2, 1), vacuum=None)

CASES = {
    "one atom, 2 Å cell, rc 6": (np.zeros((1, 3)), np.eye(3) * 2.0, [1, 1, 1], 6.01),
    "two atoms, 2 Å cell, rc 6": (np.array([[0, 0, 0], [1.1, 0.9, 1.0]]), np.eye(3) * 2.0, [1, 1, 1], 6.01),
    "primitive silicon": (bulk("Si").positions, bulk("Si").cell.array, [1, 1, 1], 6.0),
    "skewed": (RANDOM.random((5, 3)) * 4, np.array([[4, 0, 0], [3.7, 2, 0], [-3, 1.5, 3]]), [1, 1, 1], 5.0),
    "strongly skewed": (RANDOM.random((3, 3)), np.array([[3, 0, 0], [29, 3, 0], [-17, 31, 3.0]]), [1, 1, 1], 5.0),
    "strongly skewed slab": (RANDOM.random((3, 3)), np.array([[3, 0, 0], [29, 3, 0], [0, 0, 0.0]]), [1, 1, 0], 5.0),
    "left-handed": (RANDOM.random((6, 3)) * 4, np.array([[0, 4, 0], [4, 0, 0], [0, 0, 5.0]]), [1, 1, 1], 5.0),
    "left-handed, skewed": (RANDOM.random((4, 3)), np.array([[0, 3, 1], [3, 0, 1], [9, 9, 5.0]]), [1, 1, 1], 4.0),
    "slab TTF": (SHEET.positions, np.diag([0, 0, 20.0]) + SHEET.cell.array, [1, 1, 0], 6.0),
    "slab TTF, zero c": (RANDOM.random((4, 3)) * 4, np.array([[4, 0, 0], [1, 4, 0], [0, 0, 0.0]]), [1, 1, 0], 6.0),
    "slab TTF, thinner c than the slab": (RANDOM.random((8, 3)) * 9, np.diag([4.0, 4.0, 2.0]), [1, 1, 0], 5.0),
    "slab FTT": (RANDOM.random((4, 3)) * 4, np.diag([9.0, 3.0, 3.0]), [0, 1, 1], 5.0),
    "wire TFF": (RANDOM.random((4, 3)) * 3, np.diag([3.0, 20.0, 20.0]), [1, 0, 0], 6.0),
    "wire FTF, zero others": (RANDOM.random((4, 3)) * 3, np.diag([0.0, 3.0, 0.0]), [0, 1, 0], 6.0),
    "single atom, no pbc": (np.ones((1, 3)), np.zeros((3, 3)), [0, 0, 0], 6.0),
    "molecule": (molecule("CH3CH2OH").positions, np.zeros((3, 3)), [0, 0, 0], 5.0),
    "molecule, 1 Å dummy cell": (molecule("CH3CH2OH").positions, np.eye(3), [0, 0, 0], 5.0),
    "molecule, cell without pbc": (molecule("CH4").positions + 30, np.eye(3) * 10.0, [0, 0, 0], 5.0),
    "1000 Å vacuum, periodic": (RANDOM.random((6, 3)) * 4, np.diag([4.0, 4.0, 1000.0]), [1, 1, 1], 5.0),
    "1000 Å box": (molecule("H2O").positions, np.eye(3) * 1000.0, [1, 1, 1], 5.0),
    "far fragments": (np.array([[0, 0, 0], [1, 0, 0], [1e5, 0, 0], [1e5, 1, 0]]), np.zeros((3, 3)), [0, 0, 0], 5.0),
    "unwrapped": (
        DIAMOND.positions + RANDOM.integers(-5, 6, (8, 3)) @ DIAMOND.cell.array,
        DIAMOND.cell.array,
        [1, 1, 1],
        5.0,
    ),
}


def multiset(positions, cell, pbc, cutoff) -> Counter:
    """Edges by ASE's implementation."""
    i, j, shift = primitive_neighbor_list(
        "ijS", np.array(pbc, bool), np.array(cell, float), np.array(positions, float), cutoff, self_interaction=False
    )
    return Counter(zip(i.tolist(), j.tolist(), map(tuple, shift.tolist()), strict=True))


def ours(positions, cell, pbc, cutoff) -> Counter:
    """Edges by vesin, as the package calls it."""
    edges = neighbor_list(positions, cell, pbc, cutoff)
    triples = zip(edges.center.tolist(), edges.neighbor.tolist(), map(tuple, edges.shift.tolist()), strict=True)
    return Counter(triples)


@pytest.mark.parametrize("name", CASES)
def test_same_edges_as_ase(name: str) -> None:
    """Every hard case gives the same multiset of (center, neighbor, shift) as ASE's reference implementation."""
    reference = multiset(*CASES[name])
    assert ours(*CASES[name]) == reference
    assert set(reference.values()) <= {1}


@given(
    st.lists(st.floats(-6, 6), min_size=9, max_size=9),
    st.lists(st.tuples(*[st.floats(-12, 12)] * 3), min_size=1, max_size=5),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.floats(1.0, 5.0),
)
def test_same_edges_as_ase_in_random_cells(numbers, positions, pbc, cutoff) -> None:
    """Random cells of any handedness and skew, random periodicity, positions far outside: ASE's edges."""
    cell = np.array(numbers).reshape(3, 3)
    assume(abs(np.linalg.det(cell)) > 4.0)
    positions = np.array(positions)
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=2)[~np.eye(len(positions), dtype=bool)]
    assume(not distances.size or distances.min() > 1e-3)
    reference, found = multiset(positions, cell, pbc, cutoff), ours(positions, cell, pbc, cutoff)
    for i, j, shift in (reference - found) + (found - reference):
        # Rounding may decide a pair that sits exactly on the cutoff; nothing else may differ.
        distance = np.linalg.norm(positions[j] - positions[i] + np.array(shift) @ cell)
        assert abs(distance - cutoff) < 1e-9


def test_edges_are_sorted_and_mutual() -> None:
    """Edges ascend by (center, neighbor, shift), and with (i, j, s) stands (j, i, −s)."""
    edges = neighbor_list(*CASES["skewed"])
    rows = np.column_stack(edges).tolist()
    assert rows == sorted(rows)
    assert sorted([j, i, -a, -b, -c] for i, j, a, b, c in rows) == rows


@given(st.lists(st.tuples(*[st.integers(-5, 5)] * 3), min_size=8, max_size=8))
def test_wrapping_changes_shifts_only(images) -> None:
    """Atoms moved by whole lattice vectors keep their neighbours: pairs and edge vectors stay the same."""
    cell, pbc, cutoff = DIAMOND.cell.array, [True] * 3, 4.0
    moved = DIAMOND.positions + np.array(images) @ cell
    vectors = []
    for positions in (DIAMOND.positions, moved):
        edges = neighbor_list(positions, cell, pbc, cutoff)
        vector = positions[edges.neighbor] - positions[edges.center] + edges.shift @ cell
        rows = np.column_stack([edges.center, edges.neighbor, vector.round(7) + 0.0])
        vectors.append(rows[np.lexsort(rows.T[::-1])])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
