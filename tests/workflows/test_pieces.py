"""How many pieces a structure is in, against scipy's search of the same graph."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mlanet.data.neighbors import neighbor_list
from mlanet.workflows.relax import connected


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
        pieces, lone = connected(atoms, 1.6)
        assert pieces == connected_components(edges, directed=False)[0] and apart in (None, pieces)
        assert lone == np.setdiff1d(np.arange(n), pairs.center).tolist()
