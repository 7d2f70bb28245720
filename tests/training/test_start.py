"""Fine-tuning begins where the old model ended, and says what it could not take along."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ase import Atoms

from mlanet.checkpoint import load_model, save_model
from mlanet.config import parse
from mlanet.data.dataset import load_samples
from mlanet.errors import CheckpointError, MLANetError, UnsupportedElementError
from mlanet.graph import batch_graphs
from mlanet.models import ModelConfig
from mlanet.potential import Potential
from mlanet.statistics import Statistics
from mlanet.training.config import TrainConfig
from mlanet.training.start import starting_potential
from mlanet.training.trainer import train

Settings = Callable[..., TrainConfig]
OLD = Statistics((13, 29), (-1.25, -2.5), (0.5, 0.75), 11.0)


@pytest.fixture
def save(settings: Settings, tmp_path: Path) -> Callable[..., str]:
    """An untrained model of known statistics, as a file."""

    def inner(**changes: object) -> str:
        torch.manual_seed(11)
        config = parse(settings().model | changes, ModelConfig, "test")
        save_model(Potential.build(config, OLD).double(), tmp_path / "old.safetensors")
        return str(tmp_path / "old.safetensors")

    return inner


@pytest.mark.parametrize("irreps", ["8x0e+8x1o", "8x0e+8x1o+8x2e"])
def test_a_direct_model_becomes_a_conservative_one_with_the_same_energies(
    settings: Settings, save: Callable[..., str], seven: str, irreps: str
) -> None:
    """Energies of all structures are those of the direct model to 1e-12; the heads of forces and stress are left out,
    by name; forces are then the gradient of that energy."""
    file = save(forces="direct", irreps=irreps, layers=2)
    samples = load_samples([seven], 3.5)
    config = settings(model={"forces": "gradient"}, start_from=file, run={"dtype": "float64"})
    new, remarks = starting_potential(config, samples)
    assert new.conservative and new.statistics == OLD
    graph = batch_graphs([one.graph for one in samples])
    mine, theirs = new.eval()(graph), load_model(file)(graph)
    torch.testing.assert_close(mine.energy, theirs.energy, rtol=1e-12, atol=1e-12)
    told = " ".join(remarks)
    assert "direct_forces" in told and "direct_stress" in told and "left out" in told


def test_fine_tuning_trains_on(settings: Settings, save: Callable[..., str], tmp_path: Path) -> None:
    """A direct model fine-tuned with gradient forces ends as a conservative model with the old statistics."""
    file = save(forces="direct")
    result = train(settings(model={"forces": "gradient"}, start_from=file), progress=False)
    tuned = load_model(result.model)
    assert tuned.conservative and tuned.statistics == OLD
    assert "direct_forces" in (tmp_path / "run/log.jsonl").read_text()


def test_without_a_network_named_it_is_the_old_one(settings: Settings, save: Callable[..., str], seven: str) -> None:
    """Every weight is taken over, nothing is drawn."""
    file = save()
    new, remarks = starting_potential(settings(model=None, start_from=file), load_samples([seven], 3.5))
    old = load_model(file)
    assert new.model.config == old.model.config
    assert all(torch.equal(old.state_dict()[k].float(), v) for k, v in new.state_dict().items())
    assert "newly drawn" not in " ".join(remarks)


def test_statistics_can_be_fitted_anew(settings: Settings, save: Callable[..., str], seven: str) -> None:
    """`keep_statistics: false` takes the references of the new data, for the species of the old model."""
    new, _ = starting_potential(
        settings(model=None, start_from=save(), keep_statistics=False), load_samples([seven], 3.5)
    )
    assert new.species == OLD.species and new.statistics.references != OLD.references


def test_an_element_the_old_model_never_saw_is_an_error(
    settings: Settings, save: Callable[..., str], write: Callable[..., str], four: list[Atoms]
) -> None:
    """The element is named."""
    for atoms in four:
        atoms.numbers[0] = 28
    samples = load_samples([write(four)], 3.5)
    with pytest.raises(UnsupportedElementError, match="Ni"):
        starting_potential(settings(model=None, start_from=save()), samples)


def test_a_network_of_another_width_shares_nothing(settings: Settings, save: Callable[..., str], seven: str) -> None:
    """Weights of another width are no start, and that is said."""
    config = settings(model={"irreps": "16x0e+16x1o"}, start_from=save())
    with pytest.raises(CheckpointError, match="must be the same"):
        starting_potential(config, load_samples([seven], 3.5))


def test_parts_of_another_network_are_not_passed_off_as_taken(
    settings: Settings, save: Callable[..., str], seven: str
) -> None:
    """With fewer hidden functions the leading ones of the old network are no meaningful start: a tensor is taken whole,
    or cut for want of directions at the end of a gradient model, and anything else is drawn anew and named."""
    file = save(hidden=16)
    _, remarks = starting_potential(settings(model={"hidden": 8}, start_from=file), load_samples([seven], 3.5))
    told = next((line for line in remarks if "newly drawn" in line), "")
    assert "attention.chemical.center.bias" in told


def test_no_such_model(settings: Settings, tmp_path: Path) -> None:
    """A start that does not exist is an error before anything is written."""
    with pytest.raises(MLANetError, match="nowhere"):
        train(settings(start_from="nowhere.safetensors"), progress=False)
    assert not (tmp_path / "run").exists()
