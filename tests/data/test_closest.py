"""What the training set says of the closest pairs, and what the repulsion does with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ase import Atoms
from ase.build import bulk

from mlanet.checkpoint import load_model, save_model
from mlanet.data.atoms import to_graph, to_labels
from mlanet.data.fit import fit_statistics
from mlanet.data.samples import Sample
from mlanet.models import LEIGNNConfig
from mlanet.nn.repulsion import ScreenedRepulsion
from mlanet.potential import Potential
from mlanet.statistics import Statistics


def samples() -> list[Sample]:
    """Salt, and a chlorine dimer."""
    frames = [bulk("NaCl", "rocksalt", a=5.6), Atoms("Cl2", [[0, 0, 0], [1.9, 0, 0]])]
    result = []
    for frame in frames:
        frame.info["REF_energy"] = -1.0 * len(frame)
        result.append(Sample(to_graph(frame, 5.0), to_labels(frame), "test", "test"))
    return result


def test_closest_pairs_are_fitted_saved_and_used(tmp_path: Path) -> None:
    """Na-Na, Na-Cl, Cl-Cl; the same after a round trip; repulsion ends there, and without them at covalent radii."""
    statistics, _ = fit_statistics(samples(), "none")
    assert statistics.species == (11, 17)
    (na, mixed), (same, cl) = statistics.closest
    assert (na, mixed, same, cl) == pytest.approx((5.6 / 2**0.5, 2.8, 2.8, 1.9))
    potential = Potential.build(LEIGNNConfig(channels=8, layers=1), statistics)
    save_model(potential, tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors").statistics == statistics
    for known, end in ((statistics, 1.9), (Statistics.unit((11, 17)), 2 * 1.02)):
        repulsion = ScreenedRepulsion(known)
        for factor, repels in ((0.98, True), (1.001, False)):
            graph = to_graph(Atoms("Cl2", [[0, 0, 0], [end * factor, 0, 0]]), 5.0).to(dtype=torch.float64)
            assert bool(repulsion(graph, graph.edge_vectors()).sum() > 0) is repels


def test_a_pair_that_was_never_near_counts_as_unknown() -> None:
    """0 in the table."""
    one = Atoms("NaCl", [[0, 0, 0], [9.0, 0, 0]])
    one.info["REF_energy"] = -2.0
    statistics, _ = fit_statistics([Sample(to_graph(one, 5.0), to_labels(one), "test", "test")], "none")
    assert statistics.closest == ((0.0, 0.0), (0.0, 0.0))


def test_a_table_of_another_size_is_refused() -> None:
    """One row and one column per element."""
    with pytest.raises(ValueError, match="2 × 2"):
        Statistics((1, 8), (0.0, 0.0), (1.0, 1.0), 12.0, closest=((1.0,),))
