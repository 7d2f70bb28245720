"""Inside, edge and outside with the right reason; standard errors of the right symmetries and sizes; kept in files."""

from __future__ import annotations

import dataclasses
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator
from limited import SMALL, SMALL_LEIGNN, crystals, knowing, samples

from mlanet.calculator import MLANetCalculator
from mlanet.checkpoint import CheckpointError, copied, load_model, save_model
from mlanet.data.atoms import to_graph
from mlanet.domain import arrays_of, parted
from mlanet.inference import predict
from mlanet.limits import Assessment, Watch, assess, fit_domain, of_batch
from mlanet.limits.calibration import auroc, calibration
from mlanet.limits.errors import fitted
from mlanet.limits.fit import _force_coefficients
from mlanet.potential import Potential


def judged(potential: Potential, atoms: Atoms) -> Assessment:
    graph = to_graph(atoms, potential.cutoff)
    (prediction,) = predict(potential, [graph])
    return assess(potential.domain, potential.statistics, graph, prediction)


def test_what_is_like_the_training_set_is_inside(potential: Potential) -> None:
    """Of a hundred new crystals of the same kind, two at most are flagged; none is outside."""
    words = [judged(potential, atoms).extrapolation for atoms in crystals(100, seed=7)]
    assert words.count("inside") >= 98 and "outside" not in words


def test_no_structure_of_a_large_training_set_is_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Means and spreads are of a few; fewest and most neighbours and the farthest atoms are of all."""
    monkeypatch.setattr("mlanet.limits.fit.MOST_STRUCTURES", 8)
    monkeypatch.setattr("mlanet.limits.fit.IN_TURN", 7)
    known = knowing(SMALL)
    frames = crystals(60, seed=1)
    for atoms in frames[-2:]:  # an end of the set with atoms that have fewer neighbours
        results = atoms.calc.results
        atoms.set_cell(atoms.cell * np.array([[1.0], [1.0], [2.5]]))
        atoms.calc = SinglePointCalculator(atoms, **results)
    training = samples(frames)
    known.domain = fit_domain(known, training, samples(crystals(30, seed=2)))
    for sample in training:
        (prediction,) = predict(known, [sample.graph])
        assert assess(known.domain, known.statistics, sample.graph, prediction).reason == ""


STRANGE = {
    "alloy": (bulk("Cu", cubic=True), r"Cu-Au: the training set has no such neighbours"),
    "half the volume": (bulk("Cu", cubic=True), r"Å apart; the closest in training was"),
    "lone pair": (Atoms("Cu2", positions=[[0, 0, 0], [2.55, 0, 0]]), r"fewer neighbours than any Cu in training"),
    "lone atom": (Atoms("Au"), r"fewer neighbours than any Au in training"),
    "surface": (fcc111("Cu", (1, 1, 4), vacuum=8.0), r"fewer neighbours than any Cu in training"),
}
STRANGE["alloy"][0].numbers[0] = 79
STRANGE["half the volume"][0].set_cell(STRANGE["half the volume"][0].cell * 0.5 ** (1 / 3), scale_atoms=True)


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_strange_is_outside_for_the_right_reason(potential: Potential, name: str) -> None:
    """Unlike pairs, compression, bare atoms and surfaces: flagged, in words that say why, with the atoms."""
    atoms, reason = STRANGE[name]
    found = judged(potential, atoms)
    assert found.extrapolation in ("edge", "outside") and found.atoms
    assert name == "surface" or found.extrapolation == "outside"
    assert re.search(reason, found.reason)


def test_a_melt_is_unlike_a_crystal(potential: Potential) -> None:
    """Positions far from the lattice are flagged, and their forces are said to be less certain."""
    atoms = bulk("Cu", cubic=True) * 2
    melt = atoms.copy()
    melt.positions += 0.45 * np.random.default_rng(0).normal(size=melt.positions.shape)
    found, usual = judged(potential, melt), judged(potential, crystals(1, seed=5)[0])
    assert found.extrapolation == "outside"
    assert found.forces_std is not None and usual.forces_std is not None
    assert np.median(found.forces_std) > np.median(usual.forces_std)


@pytest.mark.parametrize("settings", [None, SMALL_LEIGNN])
def test_a_supercell_says_the_same_of_every_copy(potential: Potential, settings: dict[str, object] | None) -> None:
    """Errors of forces and stress are intensive, that of the energy grows with the cell; nothing turns with it."""
    one = potential if settings is None else knowing(settings)
    atoms = crystals(1, seed=9)[0]
    first, second = judged(one, atoms), judged(one, atoms * (2, 1, 1))
    assert first.energy_std is not None and first.forces_std is not None and first.stress_std is not None
    assert second.energy_std == pytest.approx(2 * first.energy_std, rel=1e-9)
    np.testing.assert_allclose(second.forces_std, np.tile(first.forces_std, 2), rtol=1e-8)
    assert second.stress_std == pytest.approx(first.stress_std, rel=1e-8)
    turned = atoms.copy()
    turned.rotate(37, (1, 2, 3), rotate_cell=True)
    np.testing.assert_allclose(judged(one, turned).forces_std, first.forces_std, rtol=1e-7)


def test_a_batch_says_what_each_says_alone(potential: Potential) -> None:
    """Structures do not touch each other, flagged ones among them."""
    graphs = [to_graph(atoms, 4.0) for atoms in [*crystals(3, seed=11), STRANGE["alloy"][0], STRANGE["lone pair"][0]]]
    predictions = list(predict(potential, graphs))
    together = of_batch(potential.domain, potential.statistics, graphs, predictions)
    for graph, prediction, found in zip(graphs, predictions, together, strict=True):
        alone = assess(potential.domain, potential.statistics, graph, prediction)
        assert (found.extrapolation, found.reasons, found.atoms) == (alone.extrapolation, alone.reasons, alone.atoms)
        assert found.energy_std == pytest.approx(alone.energy_std) and found.stress_std == pytest.approx(
            alone.stress_std
        )
        np.testing.assert_allclose(found.forces_std, alone.forces_std)


def test_errors_are_as_large_as_predicted_on_new_data(potential: Potential) -> None:
    """Calibrated on thirty structures, right within a third for a hundred others, and within two in every bin."""
    frames = crystals(100, seed=13)
    predicted, real = [], []
    for sample, prediction in zip(samples(frames), predict(potential, [s.graph for s in samples(frames)]), strict=True):
        found = assess(potential.domain, potential.statistics, sample.graph, prediction)
        predicted.append(found.forces_std)
        real.append((prediction.forces - sample.labels.forces).square().mean(dim=1).sqrt().numpy())
    one = calibration(np.stack([np.concatenate(predicted), np.concatenate(real)], axis=1))
    assert one is not None and one.largest_factor is not None and one.finds_worst is not None
    assert one.predicted == pytest.approx(one.real, rel=0.33) and one.largest_factor < 2 and one.finds_worst > 0.6


def test_likelihood_finds_the_spread_that_errors_were_drawn_with() -> None:
    """ln s = 0.3 + 0.8 q is found from errors drawn so; a column that says nothing stays at zero."""
    q, idle, noise = np.random.default_rng(0).normal(size=(3, 20_000))
    errors = np.exp(0.3 + 0.8 * q) * noise
    columns = np.stack([np.ones_like(q), q, idle], axis=1)
    found = fitted(columns, errors**2, np.ones_like(q), np.zeros(3), np.ones(3))
    np.testing.assert_allclose(found, [0.3, 0.8, 0.0], atol=0.03)


def test_auroc_of_chance_and_of_its_opposite() -> None:
    """A half for noise, one for the errors themselves, none for the reverse."""
    error = np.abs(np.random.default_rng(0).normal(size=5000))
    assert auroc(error, error) == 1.0 and auroc(-error, error) == 0.0
    assert auroc(np.random.default_rng(1).normal(size=5000), error) == pytest.approx(0.5, abs=0.03)


def test_limits_live_in_the_file(potential: Potential, model: Path, tmp_path: Path) -> None:
    """Saved, loaded and copied they say the same; without them a model says `unknown`, and forces stay to the bit."""
    atoms = crystals(1, seed=15)[0]
    first = judged(potential, atoms)
    for other in (load_model(model), copied(potential)):
        second = judged(other, atoms)
        assert second.extrapolation == first.extrapolation
        assert second.energy_std == pytest.approx(first.energy_std, rel=1e-9)
        np.testing.assert_allclose(second.forces_std, first.forces_std, rtol=1e-9)
    bare = copied(potential)
    bare.domain = None
    save_model(bare, tmp_path / "bare.safetensors")
    loaded = load_model(tmp_path / "bare.safetensors")
    assert loaded.domain is None and judged(loaded, atoms) == Assessment("unknown")
    graph = to_graph(atoms, 4.0)
    assert torch.equal(loaded(graph).forces, potential(graph).forces)
    assert model.stat().st_size - (tmp_path / "bare.safetensors").stat().st_size < 20_000


def test_damaged_limits_are_refused(potential: Potential, tmp_path: Path) -> None:
    """A file whose limits belong to another model, or are no numbers, is an error and not a judgement."""
    assert potential.domain is not None
    for change in ({"reach": np.ones(5)}, {"forces": potential.domain.forces * np.nan}):
        wrong = copied(potential)
        wrong.domain = dataclasses.replace(potential.domain, **change)
        save_model(wrong, tmp_path / "wrong.safetensors")
        with pytest.raises(CheckpointError, match=r"limits\.(reach|forces)"):
            load_model(tmp_path / "wrong.safetensors")
    weights, limits = parted({**potential.state_dict(), **arrays_of(potential.domain)})
    assert set(weights) == set(potential.state_dict()) and len(limits) == 8


def test_the_calculator_says_it(model: Path) -> None:
    """`results` hold the word and the errors, also of a pickled copy; ASE's own properties stay."""
    calculator: Calculator = MLANetCalculator(model, dtype="float64")
    atoms = crystals(1, seed=17)[0]
    for one in (calculator, pickle.loads(pickle.dumps(calculator))):
        atoms.calc = one
        atoms.get_forces()
        assert atoms.calc.results["extrapolation"] == "inside" and atoms.calc.results["energy_std"] > 0
        assert atoms.calc.results["forces_std"].shape == (len(atoms),)
    water = molecule("H2O")
    water.symbols[:] = "Cu"
    water.calc = calculator
    water.get_potential_energy()
    assert calculator.results["extrapolation"] == "outside" and calculator.assessment.reasons


def test_a_watch_tells_once_and_keeps_the_gravest() -> None:
    """Each graver word is told once; what comes back inside is not forgotten."""
    watch = Watch()
    inside, edge, outside = (Assessment(word, ("why",) * (word != "inside")) for word in ("inside", "edge", "outside"))
    assert watch.sees(inside, "step 0") == "" and not watch.outside
    assert "at the edge" in watch.sees(edge, "step 1") and watch.sees(edge, "step 2") == ""
    assert watch.sees(outside, "step 3") == "step 3: outside the training set: why"
    assert watch.sees(inside, "step 4") == "" and watch.outside
    assert watch.numbers() == {"extrapolation": "outside", "extrapolation_reason": "step 3: why"}


def test_chance_among_few_atoms_says_nothing_of_atoms_far_away() -> None:
    """Errors grow with the distance alone; of 32 directions none matters, though by chance some seem to."""
    rng = np.random.default_rng(0)
    held, far = rng.normal(size=(300, 32)), 2 * rng.normal(size=(2000, 32)) + 2 * rng.normal(size=32)

    def columns(white: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        away = np.sqrt(np.square(white).mean(axis=1)) * rng.uniform(0.5, 2.0, len(white))
        fixed = np.stack([np.ones_like(away), np.zeros_like(away), np.log(away)], axis=1)
        return np.concatenate([fixed, np.tanh(0.5 * white)], axis=1), away

    (seen, size), (there, real) = columns(held), columns(far)
    squared = np.square(rng.normal(size=(300, 3)) * size[:, None]).mean(axis=1)
    predicted = there @ _force_coefficients(seen, squared, 1)
    assert np.corrcoef(predicted, np.log(real))[0, 1] > 0.95
