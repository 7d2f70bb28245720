"""Fine-tuning reaches: new elements, another level of theory, replay, frozen parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from mlanet.checkpoint import load_model, save_model
from mlanet.config import parse
from mlanet.data.atoms import to_graph
from mlanet.data.dataset import load_samples
from mlanet.data.fit import bonded_shifts
from mlanet.errors import ConfigError
from mlanet.models import ModelConfig
from mlanet.potential import Potential
from mlanet.statistics import Statistics
from mlanet.training.config import TrainConfig
from mlanet.training.start import starting_potential
from mlanet.training.trainer import plan, train
from mlanet.training.tune import extended, freeze, moved, replayed

Settings = Callable[..., TrainConfig]
CLOSE = ((2.5, 2.2), (2.2, 2.1))
OLD = Statistics((13, 29), (-1.25, -2.5), (0.5, 0.75), 11.0, closest=CLOSE)
MODELS = [
    {"repulsion": "none"},
    {"repulsion": "zbl", "bonded": "learned"},
    {"model": "leignn", "channels": 8, "layers": 1, "cutoff": 3.5, "repulsion": "none"},
]


def old_model(settings: Settings, path: Path, changes: dict[str, object]) -> Potential:
    torch.manual_seed(3)
    keys = changes if "model" in changes else settings().model | changes
    potential = Potential.build(parse(keys, ModelConfig, "test"), OLD).double()
    for name, weight in potential.named_parameters():
        if name.endswith("bonded.shift"):
            torch.nn.init.normal_(weight)
    save_model(potential, path)
    return potential.eval()


@pytest.fixture
def with_gold(write: Callable[..., str], four: list[Atoms]) -> str:
    frames = []
    for atoms in four:
        atoms.numbers[-1] = 79
        atoms.calc = SinglePointCalculator(atoms, energy=-20.0, forces=np.zeros((len(atoms), 3)), stress=np.zeros(6))
        frames.append(atoms)
    return write(frames, "gold.extxyz")


@pytest.mark.parametrize("changes", MODELS)
def test_a_new_element_leaves_the_old_ones_as_they_are(
    settings: Settings, tmp_path: Path, four: list[Atoms], with_gold: str, changes: dict[str, object]
) -> None:
    """Energies and forces of Al and Cu stay to the bit of float64, and gold begins as copper with reference 0."""
    old = old_model(settings, tmp_path / "old.safetensors", changes)
    new, remarks = extended(old, load_samples([with_gold], 3.5))
    assert new.species == (13, 29, 79)
    assert "Au" in remarks[0] and "Cu" in remarks[0]
    graph = to_graph(bulk("Cu", cubic=True), 3.5)
    torch.testing.assert_close(new.eval()(graph).energy, old(graph).energy, rtol=0, atol=1e-12)
    torch.testing.assert_close(new(graph).forces, old(graph).forces, rtol=0, atol=1e-12)
    if changes.get("repulsion") != "zbl":
        golden = new(to_graph(bulk("Au", a=3.6, cubic=True), 3.5))
        copper = old(to_graph(bulk("Cu", a=3.6, cubic=True), 3.5))
        torch.testing.assert_close(golden.energy, copper.energy + 4 * 2.5, rtol=0, atol=1e-10)


def test_references_move_to_the_level_of_theory_of_the_new_data(
    settings: Settings, tmp_path: Path, four: list[Atoms], write: Callable[..., str]
) -> None:
    """Labels that are the old model's, moved by −7 eV per Al and +3 eV per Cu, give the references moved so."""
    old = old_model(settings, tmp_path / "old.safetensors", {})
    frames = []
    for atoms in four:
        found = old(to_graph(atoms, 3.5))
        energy = float(found.energy[0]) - 7.0 * (atoms.numbers == 13).sum() + 3.0 * (atoms.numbers == 29).sum()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=found.forces.numpy())
        frames.append(atoms)
    file = write(frames, "moved.extxyz")
    config = settings(model=None, start_from=str(tmp_path / "old.safetensors"), move_references=True)
    new, remarks = starting_potential(config, load_samples([file], 3.5))
    assert new.statistics.references == pytest.approx((-1.25 - 7.0, -2.5 + 3.0), abs=2e-3)
    assert "moved" in " ".join(remarks)


def test_references_of_lone_atoms_stop_being_so_when_fine_tuning_changes_them(
    settings: Settings, tmp_path: Path, seven: str, with_gold: str
) -> None:
    """Moved by a fit, or 0 for a new element, they are no energies of free atoms, whatever the old ones were."""
    old = old_model(settings, tmp_path / "old.safetensors", {})
    free = dataclasses.replace(old.statistics, references_from="isolated")
    old = Potential.build(old.model.config, free).double().eval()
    save_model(old, tmp_path / "free.safetensors")
    config = settings(model=None, start_from=str(tmp_path / "free.safetensors"))
    kept, _ = starting_potential(config, load_samples([seven], 3.5))
    assert kept.statistics.lone_atoms is None
    config = settings(model=None, start_from=str(tmp_path / "free.safetensors"), move_references=True)
    new, _ = starting_potential(config, load_samples([seven], 3.5))
    assert new.statistics.references != free.references
    assert "fitted" in str(new.statistics.lone_atoms)
    assert extended(old, load_samples([with_gold], 3.5))[0].statistics.lone_atoms is not None
    assert extended(old, load_samples([seven], 3.5))[0].statistics.lone_atoms is None


def test_elements_without_a_label_do_not_move() -> None:
    counts = np.array([[4.0, 0, 0], [2, 2, 0], [0, 0, 4]])
    moves = moved(counts, np.array([4.0, 6.0, np.nan]))
    assert moves == pytest.approx([1.0, 2.0, 0.0], abs=1e-4)


def test_replayed_energies_move_along_with_the_references(settings: Settings, tmp_path: Path, seven: str) -> None:
    """What the old model gets right on old data, the moved model gets right on the replayed: residuals are equal."""
    old = old_model(settings, tmp_path / "old.safetensors", {})
    start = str(tmp_path / "old.safetensors")
    config = settings(model=None, start_from=start, move_references=True, replay=[seven], replay_limit=3)
    new, _ = starting_potential(config, load_samples([seven], 3.5))
    new.double().eval()
    samples = replayed(config, new)
    assert len(samples) == 3
    for sample in samples:
        original = next(one for one in load_samples([seven], 3.5) if one.where == sample.where)
        before = float(old(original.graph).energy[0] - original.labels.energy[0])
        assert float(new(sample.graph).energy[0] - sample.labels.energy[0]) == pytest.approx(before, abs=1e-6)
        assert float(sample.labels.energy[0]) != float(original.labels.energy[0])
    with pytest.raises(ConfigError, match="start_from"):
        replayed(settings(replay=[seven]), new)


def test_a_run_with_everything_trains_resumes_and_leaves_frozen_parts(
    settings: Settings, tmp_path: Path, with_gold: str, seven: str
) -> None:
    old_model(settings, tmp_path / "old.safetensors", {})
    words = {
        "model": None,
        "start_from": str(tmp_path / "old.safetensors"),
        "data": {"train": [with_gold], "valid": [with_gold]},
        "new_elements": True,
        "move_references": True,
        "replay": [seven],
        "freeze": ["embedding", "layers.0"],
    }
    result = train(settings(**words, budget={"steps": 4}), progress=False)
    assert train(settings(**words, budget={"steps": 6}), resume=True, progress=False).steps == 6
    new, old = load_model(result.model), load_model(tmp_path / "old.safetensors")
    assert new.species == (13, 29, 79)
    torch.testing.assert_close(new.model.embedding.weight[:2].double(), old.model.embedding.weight.float().double())
    mine, theirs = new.model.state_dict(), old.model.state_dict()
    same = {
        name for name, one in theirs.items() if name.startswith("layers.0") and torch.equal(one.float(), mine[name])
    }
    assert same == {name for name in theirs if name.startswith("layers.0")}
    assert any(not torch.equal(one.float(), mine[name]) for name, one in theirs.items() if name.startswith("pooling"))


@pytest.mark.parametrize(("share", "drawn"), [(0.2, 1), (0.5, 4), (0.6, 6), (0.9, 7)])
def test_replayed_structures_are_a_share_of_each_epoch(
    settings: Settings, tmp_path: Path, with_gold: str, seven: str, share: float, drawn: int
) -> None:
    """Four new structures, and of seven old ones as many as the share says."""
    old_model(settings, tmp_path / "old.safetensors", {})
    words = {"model": None, "start_from": str(tmp_path / "old.safetensors"), "replay": [seven], "new_elements": True}
    words |= {"data": {"train": [with_gold]}, "replay_share": share}
    facts = plan(settings(**words, budget={"steps": 1, "max_structures": 1}))
    assert facts["batches per epoch"] == 4 + drawn and facts["training structures"] == 11
    assert f"an epoch holds 4 new structures and {drawn} of 7 old ones" in facts["remarks"]


def test_parts_that_are_not_there_cannot_be_frozen(settings: Settings, tmp_path: Path) -> None:
    potential = old_model(settings, tmp_path / "old.safetensors", {})
    with pytest.raises(ConfigError, match=r"freeze: no weights 'embeding'.*embedding.*layers\.0"):
        freeze(potential, ["embeding"])
    with pytest.raises(ConfigError, match="nothing is left"):
        freeze(potential, ["embedding", "sender", "radial", "directions", "layers", "pooling"])


def test_bonded_shifts_take_cohesion_and_leave_the_lone_atom(settings: Settings, seven: str) -> None:
    """A fresh model with free atoms as references starts at the energies of a least-squares fit, exerts hardly any
    force by it in a crystal, and gives a lone atom its reference exactly."""
    samples = load_samples([seven], 3.5)
    config = settings(
        model=settings().model | {"bonded": "learned"}, references={"Al": -0.1, "Cu": -0.2}, run={"dtype": "float64"}
    )
    potential, _ = starting_potential(config, samples)
    shifts = bonded_shifts(samples, potential.statistics)
    graph = to_graph(bulk("Cu", cubic=True), 3.5)
    found = potential.eval().model.bonded(torch.full((4,), 1), torch.full((4,), 12.0, dtype=torch.float64))
    assert found.detach().numpy() == pytest.approx(shifts[1], rel=1e-4)
    lone = potential(to_graph(Atoms("Cu"), 3.5))
    assert float(lone.energy[0]) == pytest.approx(-0.2, abs=1e-12)
    assert potential(graph).forces.abs().max() < 1e-10
