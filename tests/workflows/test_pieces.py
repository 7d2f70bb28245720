"""How a structure hangs together: its pieces against scipy's search of the same graph, and its directions."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mlanet.data.neighbors import neighbor_list
from mlanet.workflows.relax import joined


@pytest.mark.parametrize("seed", range(8))
def test_pieces_are_those_of_the_graph(seed: int) -> None:
    """Clouds of atoms of every density, and a chain whose atoms are numbered at random."""
    generator = np.random.default_rng(seed)
    n = int(generator.integers(1, 80))
    chain = np.outer(generator.permutation(n), [1.5, 0.0, 0.0])
    cloud = np.stack(np.meshgrid(*[np.arange(9.0)] * 3), axis=-1).reshape(-1, 3)[generator.permutation(729)[:n]]
    for positions, apart in ((chain, 1), (cloud, None)):
        atoms = Atoms("H" * n, positions)
        pairs = neighbor_list(positions, np.zeros((3, 3)), [False] * 3, 1.6)
        edges = coo_matrix((np.ones(len(pairs.center)), (pairs.center, pairs.neighbor)), shape=(n, n))
        pieces, directions = joined(atoms, 1.6)
        assert pieces == connected_components(edges, directed=False)[0] and apart in (None, pieces) and not directions


@pytest.mark.parametrize("box", [np.diag([2.0, 2.0, 2.0]), np.array([[2.0, 0, 0], [2.0, 2.0, 0], [0, 2.0, 2.0]])])
@pytest.mark.parametrize("periods", [0, 1, 2, 3])
def test_directions_are_those_in_which_images_are_neighbours(box: np.ndarray, periods: int) -> None:
    """A cubic lattice, other vectors 4 Å long, in two cells; copies in any order, moved by lattice vectors."""
    stretched = Atoms("H", cell=box, pbc=True)
    grid = np.diag([2.0] * periods + [4.0] * (3 - periods))
    stretched.set_cell(box @ np.linalg.inv(np.diag([2.0] * 3)) @ grid, scale_atoms=True)
    generator = np.random.default_rng(periods)
    atoms = (stretched * (2, 3, 1))[generator.permutation(6)]
    atoms.positions += generator.integers(-2, 3, (6, 3)) @ atoms.cell.array
    many = 1 if periods > 1 else {1: 3, 0: 6}[periods]
    found = joined(atoms, 2.1)
    assert found.directions == periods and found.pieces == many
