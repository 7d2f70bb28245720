"""Where labels came from is recorded, contradictions are told with both numbers, and forces choose the energy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from mlanet.checkpoint import load_model
from mlanet.config import parse
from mlanet.data.audit import audit
from mlanet.data.dataset import load_samples, sample_of
from mlanet.data.labels import LabelKeys
from mlanet.data.read import Frame, read_frames
from mlanet.data.samples import Sample
from mlanet.data.sources import follow, sources_of
from mlanet.native.potential import of_statistics
from mlanet.training.config import TrainConfig
from mlanet.training.trainer import train
from mlanet.workflows.evaluate import evaluate_frames


def sample(atoms: Atoms, k: int = 0, keys: LabelKeys = LabelKeys()) -> Sample:  # noqa: B008
    return sample_of(Frame(atoms, f"set, frame {k}"), 4.0, keys)


@pytest.fixture
def cell() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.calc = SinglePointCalculator(atoms, energy=-4.0, forces=np.zeros((4, 3)))
    return atoms


def test_keys_that_change(cell: Atoms) -> None:
    """A set that takes its energies from two keys says from which, in how many frames, and where."""
    other = cell.copy()
    other.calc = SinglePointCalculator(other, forces=np.zeros((4, 3)))
    other.info["REF_energy"] = -3.9
    report = sources_of([sample(cell, 0), sample(cell, 1), sample(other, 2)])
    assert report.read["energy"] == {"energy": 2, "REF_energy": 1} and report.read["forces"] == {"forces": 3}
    assert len(report.warnings) == 1 and "different keys" in report.warnings[0] and "frame 2" in report.warnings[0]


def test_contradictions(cell: Atoms) -> None:
    """Two entries for one label that disagree are a warning with both numbers; equal ones are only left aside."""
    cell.info["dft_energy"] = -42.8
    virial = np.diag([-1.6, -1.6, -1.6])
    cell.calc.results["stress"] = np.array([0.5, 0.5, 0.5, 0, 0, 0])
    cell.info["virial"] = virial
    report = sources_of([sample(cell)])
    energy, stress = report.warnings
    assert "'dft_energy'" in energy and "-4 against -42.8 eV" in energy
    assert "'virial'" in stress and f"0.5 against {1.6 / cell.get_volume():.6g} eV/Å³" in stress
    cell.info["dft_energy"] = -4.0
    cell.info["virial"] = -0.5 * np.eye(3) * cell.get_volume()
    report = sources_of([sample(cell)])
    assert report.warnings == [] and report.aside == {"energy": {"dft_energy": 1}, "stress": {"virial": 1}}
    text = audit([sample(cell)]).render()
    assert "energy read from 'energy' (1 frame); left aside: 'dft_energy' (1 frame)" in text


def test_an_answer_beside_its_question(cell: Atoms) -> None:
    """A prediction beside the REF_energy that it was compared with is no contradiction."""
    cell.info["REF_energy"] = -3.0
    assert sources_of([sample(cell)]).warnings == []


@pytest.mark.parametrize("true", ["energy", "free_energy"])
def test_forces_choose_the_energy(copper: list[Atoms], write, true: str) -> None:
    """Of `energy` and `free_energy` the one is read whose differences the forces explain; a named key decides."""
    generator = np.random.default_rng(4)
    frames = []
    for atoms in copper[:30]:
        copy = atoms.copy()
        results = dict(atoms.calc.results)
        wrong = results["energy"] - 0.8 + 0.1 * generator.normal()
        results |= {"free_energy": wrong} if true == "energy" else {"energy": wrong, "free_energy": results["energy"]}
        copy.calc = SinglePointCalculator(copy, **results)
        frames.append(copy)
    path = write(frames)
    samples = load_samples(path, 4.0)
    right = [atoms.calc.results["energy"] for atoms in copper[:30]]
    np.testing.assert_allclose([float(one.labels.energy[0]) for one in samples], right, rtol=0, atol=1e-6)
    report = sources_of(samples)
    assert report.read["energy"] == {true: 30} and "are the derivative of" in report.warnings[0]
    named = load_samples(path, 4.0, LabelKeys(energy="energy"))
    assert sources_of(named).read["energy"] == {"energy": 30}
    alone = load_samples(write(frames[:1], "one.extxyz"), 4.0)
    assert sources_of(follow(alone, samples)).read["energy"] == {true: 1}
    assert "cannot tell" in sources_of(alone).warnings[0]


def test_a_model_is_judged_by_the_energies_that_it_learnt(copper: list[Atoms], write, tmp_path: Path) -> None:
    """A training that read free energies says so in its model, and evaluating reads them too; a named key decides."""
    frames = []
    generator = np.random.default_rng(4)
    for atoms in copper[:30]:
        copy = atoms.copy()
        free = atoms.calc.results["energy"]
        results = atoms.calc.results | {"energy": free + 0.8 + 0.1 * generator.normal(), "free_energy": free}
        copy.calc = SinglePointCalculator(copy, **results)
        frames.append(copy)
    path = write(frames)
    settings = {
        "model": {"model": "leignn", "channels": 8, "layers": 1, "radial_functions": 6, "cutoff": 4.0},
        "data": {"train": [str(path)]},
        "budget": {"steps": 1},
        "run": {"folder": str(tmp_path / "run"), "limits": False},
    }
    model = load_model(train(parse(settings, TrainConfig, "test"), progress=False).model)
    assert model.statistics.energy_key == "free_energy"
    few = write(frames[:2], "few.extxyz")

    def labels(keys: LabelKeys) -> list[float]:
        return [float(one.labels.energy[0]) for one in evaluate_frames(model, read_frames(few), keys)]

    free = [atoms.calc.results["free_energy"] for atoms in frames[:2]]
    assert labels(LabelKeys()) == pytest.approx(free)
    assert labels(LabelKeys(energy="energy")) == pytest.approx([atoms.calc.results["energy"] for atoms in frames[:2]])
    header, _ = of_statistics(model.statistics, None)
    assert header["statistics"]["energy_key"] == "free_energy"
