"""Everything that people do works on a device that is not the CPU, and gives the same numbers there.

No GPU is needed: `elsewhere` refuses what a GPU would refuse.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.md.verlet import VelocityVerlet
from elsewhere import Elsewhere, elsewhere
from systems import SPECIES, SYSTEMS

from mlanet.calculator import MLANetCalculator
from mlanet.checkpoint import copied, load_model, save_model
from mlanet.config import parse
from mlanet.data.atoms import to_graph
from mlanet.data.labels import LabelKeys
from mlanet.data.read import read_frames
from mlanet.graph import AtomicGraph, batch_graphs
from mlanet.laws import run_laws
from mlanet.potential import Potential
from mlanet.profiling.ours import configuration
from mlanet.statistics import Statistics
from mlanet.training.config import TrainConfig
from mlanet.training.trainer import train
from mlanet.workflows.evaluate import collect, evaluate_frames
from mlanet.workflows.predict import predict_frames
from mlanet.workflows.relax import relaxation

PRESETS = ("leignn", "leignn_direct", "leignn_coulomb", "mlanet_l1", "mlanet_l1_paper", "mlanet_l2_dispersion")
PRESETS += ("mlanet_l2_full",)
"""One of every kind."""

MODEL = {"model": "mlanet", "irreps": "8x0e+8x1o", "layers": 1, "heads": 2, "key_dim": 2, "hidden": 8, "cutoff": 4.0}


@pytest.fixture(autouse=True)
def there() -> Iterator[torch.device]:
    """Tensors can be sent to the device; gradients stay in this thread, where operations are watched."""
    with Elsewhere(), torch.autograd.set_multithreading_enabled(False):
        yield elsewhere()


def built(name: str = "mlanet_l1:irreps=8x0e+8x1o,layers=1,heads=2") -> Potential:
    torch.manual_seed(0)
    return Potential.build(configuration(name), Statistics.unit(SPECIES, 40.0)).double().eval()


def everything(cutoff: float) -> AtomicGraph:
    """Molecule, crystal, slab, wire and lone atoms in one batch."""
    return batch_graphs([to_graph(atoms, cutoff) for atoms in SYSTEMS.values()])


def copper(path: Path) -> Path:
    """Twelve labelled cells."""
    frames = []
    for seed in range(12):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    write(path, frames, format="extxyz")
    return path


def test_devices_are_not_mixed(there: torch.device) -> None:
    """What these tests stand on: two devices in one operation, and numpy, are errors; single numbers are welcome."""
    ours, theirs = torch.ones(3), torch.ones(3).to(there)
    assert theirs.device == there and (2.0 * theirs + torch.tensor(1.0)).cpu().tolist() == [3.0] * 3
    with pytest.raises(RuntimeError, match="two devices"):
        ours + theirs
    with pytest.raises(RuntimeError, match="numpy"):
        theirs.numpy()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_says_the_same(name: str, there: torch.device) -> None:
    """Energy, forces and stress, and the gradient of a loss on them, as on the CPU.

    The loss of models with a long-range term is the energy alone: torch differentiates determinants twice in code that
    does not know of such a device.
    """
    potential, graph = built(name), everything(configuration(name).cutoff)
    twice = not name.endswith(("coulomb", "dispersion"))
    answers = []
    for device in (torch.device("cpu"), there):
        potential.to(device).train().zero_grad()
        found = potential(graph)
        loss = found.energy.sum()
        if twice:
            loss = loss + found.forces.square().sum() + found.stress.nan_to_num().square().sum()
        loss.backward()
        slopes = [one.grad.flatten() for one in potential.parameters() if one.grad is not None]
        assert slopes[0].device.type == device.type and len(slopes) > 10
        answers.append([one.detach().cpu() for one in (found.energy, found.forces, found.stress, torch.cat(slopes))])
    for one, other in zip(*answers, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11, equal_nan=True)


def test_laws_are_asked_there(there: torch.device) -> None:
    """As `mlanet check --device` does."""
    found = list(run_laws(built().to(there), {"triclinic": SYSTEMS["triclinic"]}))
    assert len(found) > 12 and not [one for one in found if one.promised and not one.holds]


def test_models_travel(there: torch.device, tmp_path: Path) -> None:
    """Saved from there, loaded to there, copied there."""
    save_model(built().to(there), tmp_path / "m.safetensors", {})
    loaded = load_model(tmp_path / "m.safetensors", device=there)
    assert loaded.device == copied(loaded).device == there
    assert torch.equal(loaded.model.embedding.weight.cpu(), built().model.embedding.weight)


@pytest.mark.parametrize("skin", [0.0, 0.4])
def test_dynamics_and_relaxation(skin: float, there: torch.device, tmp_path: Path) -> None:
    """With the ASE calculator, pickled on the way, beside the same on the CPU."""
    save_model(built(), tmp_path / "m.safetensors", {})
    courses = []
    for device in ("cpu", str(there)):
        calculator = MLANetCalculator(tmp_path / "m.safetensors", device=device, skin=skin, kernels="plain")
        atoms: Atoms = SYSTEMS["triclinic"].copy()
        atoms.calc = pickle.loads(pickle.dumps(calculator))
        VelocityVerlet(atoms, timestep=0.5 * units.fs).run(3)
        *_, last = relaxation(atoms, cell="full", steps=3)
        courses.append((atoms.positions, atoms.get_forces(), atoms.get_stress()))
        assert last is not None
    for one, other in zip(*courses, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-9)


def test_training_goes_on_there_and_is_judged(there: torch.device, tmp_path: Path) -> None:
    """Training, an interruption, resuming, prediction and evaluation; the same errors as on the CPU."""
    data, errors = copper(tmp_path / "cu.extxyz"), []
    for device in ("cpu", str(there)):
        settings = {
            "data": {"train": [str(data)], "valid_fraction": 0.25},
            "model": MODEL,
            "budget": {"steps": 4, "max_structures": 3, "validate_every": 2},
            "run": {"folder": str(tmp_path / device), "device": device, "dtype": "float64", "kernels": "plain"},
        }
        assert train(parse(settings, TrainConfig, "test")).steps == 4
        settings["budget"] = {"steps": 6, "max_structures": 3, "validate_every": 2}
        result = train(parse(settings, TrainConfig, "test"), resume=True)
        assert result.steps == 6
        potential = load_model(result.model, device=device)
        evaluation, _ = collect(evaluate_frames(potential, read_frames(data), LabelKeys()))
        predicted = list(predict_frames(potential, read_frames(data)))
        assert len(predicted) == 12
        errors.append([evaluation.quantities[name].mae for name in ("energy", "forces", "stress")])
    np.testing.assert_allclose(*errors, rtol=1e-6)
