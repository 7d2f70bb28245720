"""Errors are the plain means over what is labelled, however the data are batched or spread over processes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlanet.graph import AtomicGraph, Labels, Prediction, batch_graphs, batch_labels
from mlanet.inference import split
from mlanet.metrics import Errors

NAN = float("nan")


def graph(sizes: list[int], numbers: list[int], periodic: bool = True) -> AtomicGraph:
    """Structures of given sizes without edges: errors need no neighbours."""
    n, s = sum(sizes), len(sizes)
    none = torch.zeros(0, dtype=torch.int64)
    return AtomicGraph(
        positions=torch.zeros(n, 3, dtype=torch.float64),
        numbers=torch.tensor(numbers),
        cell=torch.eye(3, dtype=torch.float64).expand(s, 3, 3) * periodic,
        pbc=torch.full((s, 3), periodic),
        center=none,
        neighbor=none,
        shift=none.reshape(0, 3),
        structure=torch.repeat_interleave(torch.arange(s), torch.tensor(sizes)),
        n_structures=s,
        cutoff=5.0,
        charge=torch.zeros(s, dtype=torch.float64),
    )


def labels(energy: list[float], n: int) -> Labels:
    """Energies as given, forces and stress zero."""
    s = len(energy)
    return Labels(torch.tensor(energy, dtype=torch.float64), torch.zeros(n, 3), torch.zeros(s, 3, 3))


def prediction(energy: list[float], n: int) -> Prediction:
    """Energies as given, forces and stress zero."""
    s = len(energy)
    return Prediction(
        torch.tensor(energy, dtype=torch.float64), torch.zeros(n, 3), torch.zeros(s, 3, 3), torch.zeros(n)
    )


def test_a_case_done_by_hand() -> None:
    """Energies are per atom, forces per component, stress over nine entries; force errors also by element."""
    errors = Errors()
    said = prediction([1.0, 4.0], 3)
    said.forces[0, 0] = 0.3  # the H
    said.forces[2] = torch.tensor([0.0, 0.0, -0.6])  # the second O
    said.stress[1, 0, 1] = said.stress[1, 1, 0] = 0.09
    errors.add(said, labels([0.0, 2.0], 3), graph([1, 2], [1, 8, 8]))
    assert errors.mae() == pytest.approx({"energy": 1.0, "forces": 0.9 / 9, "stress": 0.18 / 18})
    assert errors.rmse() == pytest.approx(
        {"energy": 1.0, "forces": (0.45 / 9) ** 0.5, "stress": (2 * 0.0081 / 18) ** 0.5}
    )
    assert errors.counts == {"energy": 2, "forces": 9, "stress": 18}
    assert list(errors.by_element()) == ["H", "O"]
    assert errors.by_element()["H"] == pytest.approx((0.1, 0.3 / 3**0.5, 3))
    assert errors.by_element()["O"] == pytest.approx((0.1, 0.6 / 6**0.5, 6))


def test_what_is_not_labelled_does_not_count() -> None:
    """NaN labels are left out number by number; a quantity without labels is absent, not zero."""
    errors = Errors()
    truth = labels([NAN, 2.0], 3)
    truth.forces[0] = NAN
    truth.forces[1, 2] = NAN
    truth.stress[:] = NAN
    said = prediction([100.0, 4.0], 3)
    said.forces[0] = 7.0
    errors.add(said, truth, graph([1, 2], [1, 8, 8]))
    assert errors.mae() == {"energy": 1.0, "forces": 0.0}
    assert errors.counts == {"energy": 1, "forces": 5, "stress": 0}
    assert list(errors.by_element()) == ["O"]


def test_stress_counts_only_where_it_is_defined() -> None:
    """A molecule has no stress: its NaN prediction is not an error, even where a file labels it."""
    errors = Errors()
    said = prediction([0.0], 1)
    said = dataclasses.replace(said, stress=torch.full((1, 3, 3), NAN))
    errors.add(said, labels([0.0], 1), graph([1], [1], periodic=False))
    assert "stress" not in errors.mae()


def test_a_broken_prediction_shows() -> None:
    """NaN forces of a diverged model are not swept under the carpet."""
    said = prediction([0.0], 1)
    said.forces[0, 0] = NAN
    errors = Errors()
    errors.add(said, labels([0.0], 1), graph([1], [1]))
    assert np.isnan(errors.mae()["forces"])


def test_large_totals_keep_their_digits() -> None:
    """Energies of −10⁶ eV that differ by 1 meV give 1 meV: differences are taken in float64."""
    errors = Errors()
    errors.add(prediction([-1e6 + 1e-3], 1), labels([-1e6], 1), graph([1], [1]))
    assert errors.mae()["energy"] == pytest.approx(1e-3, rel=1e-6)


@given(st.integers(0, 10_000), st.lists(st.integers(1, 4), min_size=1, max_size=6))
def test_batches_and_processes_add_up(seed: int, sizes: list[int]) -> None:
    """One batch, one structure at a time, and sums of two processes added together give the same errors."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    n, s = sum(sizes), len(sizes)
    whole = graph(sizes, torch.randint(1, 4, (n,), generator=generator).tolist())
    said = Prediction(random(s), random(n, 3), random(s, 3, 3), random(n))
    truth = Labels(random(s), random(n, 3), random(s, 3, 3))
    truth.forces[random(n, 3) > 1] = NAN
    truth.energy[random(s) > 1] = NAN
    together, apart, other = Errors(), Errors(), Errors()
    together.add(said, truth, whole)
    starts = np.cumsum([0, *sizes])
    for index, one in enumerate(split(said, whole)):
        atoms = slice(starts[index], starts[index + 1])
        single = graph([sizes[index]], whole.numbers[atoms].tolist())
        label = Labels(truth.energy[index : index + 1], truth.forces[atoms], truth.stress[index : index + 1])
        (apart if index % 2 else other).add(one, label, single)
    joined = Errors()
    joined.load_tensor(apart.tensor() + other.tensor())
    assert joined.counts == together.counts
    assert joined.mae() == pytest.approx(together.mae(), rel=1e-12)
    assert joined.rmse() == pytest.approx(together.rmse(), rel=1e-12)
    assert joined.by_element().keys() == together.by_element().keys()
    force = (said.forces - truth.forces)[torch.isfinite(truth.forces)]
    if force.numel():
        assert together.mae()["forces"] == pytest.approx(float(force.abs().mean()))
        assert together.rmse()["forces"] == pytest.approx(float((force**2).mean().sqrt()))


def test_sums_are_copies_of_the_right_size() -> None:
    """What is handed out or taken over cannot change the sums later, and a foreign tensor is refused."""
    errors = Errors()
    errors.tensor().fill_(1.0)
    assert errors.counts == {"energy": 0, "forces": 0, "stress": 0}
    with pytest.raises(ValueError, match="sums"):
        errors.load_tensor(torch.zeros(4))


def test_batched_labels_and_graphs_fit_together() -> None:
    """The order of `batch_graphs` and `batch_labels` is the order of the errors."""
    graphs = [graph([1], [1]), graph([2], [8, 8])]
    truth = [labels([1.0], 1), labels([2.0], 2)]
    errors = Errors()
    errors.add(prediction([1.0, 2.0], 3), batch_labels(truth), batch_graphs(graphs))
    assert errors.mae() == {"energy": 0.0, "forces": 0.0, "stress": 0.0}
