"""What is predicted is one table; dipole and polarizability are read, trained, scored and printed as the rest is."""

from __future__ import annotations

import csv
import dataclasses
import json
import typing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from golden import SWITCHES, model

import mlanet
from mlanet.cli.main import main
from mlanet.config import parse
from mlanet.data.atoms import to_graph, to_labels
from mlanet.data.dataset import load_samples
from mlanet.data.labels import LabelKeys
from mlanet.errors import ConfigError, MissingLabelError
from mlanet.graph import Labels, Prediction, batch_graphs, batch_labels
from mlanet.models import ModelConfig
from mlanet.potential import Potential
from mlanet.quantities import NAMES, QUANTITIES, Name, Output
from mlanet.statistics import Statistics
from mlanet.sweep.table import Row
from mlanet.training.config import LossConfig, TrainConfig
from mlanet.training.loss import Residuals, loss
from mlanet.training.start import adopt
from mlanet.training.trainer import train

CHARGE = {1: 0.4, 8: -0.8}
SIZE = {1: 0.5, 8: 0.9}


def test_the_table_is_whole() -> None:
    """Every row has its field, key, weight and column, and there are no others."""
    assert typing.get_args(Name) == NAMES
    assert typing.get_args(Output) == tuple(one.name for one in QUANTITIES if one.optional)
    assert tuple(field.name for field in dataclasses.fields(Labels)) == NAMES
    assert set(NAMES) <= {field.name for field in dataclasses.fields(Prediction)}
    assert set(NAMES) <= {*LossConfig.__struct_fields__} & {*LabelKeys.__struct_fields__}
    columns = {f"{one.name}_{kind}_{one.column}" for one in QUANTITIES for kind in ("mae", "rmse")}
    assert columns == {name for name in Row.__struct_fields__ if "_mae_" in name or "_rmse_" in name}


def waters(count: int, seed: int = 0) -> list[Atoms]:
    """Bent and stretched molecules of water, turned, with the dipole of fixed charges and polarizable bonds."""
    generator = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        atoms = Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        atoms.positions += 0.1 * generator.normal(size=(3, 3))
        atoms.rotate(360 * generator.random(), generator.normal(size=3))
        atoms.positions += generator.normal(size=3)
        bonds = atoms.positions[1:] - atoms.positions[0]
        tensor = sum(SIZE[z] for z in atoms.numbers) * np.eye(3) + np.einsum("ba,bc->ac", bonds, bonds)
        charges = np.array([CHARGE[z] for z in atoms.numbers])
        results = {"energy": 0.0, "forces": np.zeros((3, 3)), "dipole": charges @ atoms.positions}
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info["REF_polarizability"] = tensor
        frames.append(atoms)
    return frames


NETWORK: dict[str, dict[str, Any]] = {
    "mlanet": SWITCHES["mlanet"] | {"irreps": "8x0e+8x1o+8x2e", "outputs": ["dipole", "polarizability"]},
    "leignn": SWITCHES["leignn"] | {"channels": 16, "outputs": ["dipole"]},
}


@pytest.mark.parametrize("name", NETWORK)
def test_training_lowers_the_errors(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Far below those of no dipole and of the mean polarizability, on molecules that were not trained on."""
    write(tmp_path / "train.extxyz", waters(60))
    write(tmp_path / "test.extxyz", test := waters(12, seed=1))
    config = {
        "data": {"train": [str(tmp_path / "train.extxyz")], "require": NETWORK[name]["outputs"]},
        "model": NETWORK[name],
        "loss": {"energy": 0.0, "forces": 0.0, "stress": 0.0, "dipole": 1.0, "polarizability": 1.0},
        "optimizer": {"lr": 0.01},
        "budget": {"steps": 100, "max_structures": 12},
        "run": {"folder": str(tmp_path / "run")},
    }
    result = train(parse(config, TrainConfig, "test"), progress=False)
    assert set(result.best) >= {f"valid_{one}_mae" for one in NETWORK[name]["outputs"]}
    words = ["evaluate", str(tmp_path / "test.extxyz"), "--model", str(result.model), "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)["errors"]["quantities"]
    dipoles = np.array([atoms.get_dipole_moment() for atoms in test])
    assert found["dipole"]["unit"] == "me Å" and found["dipole"]["count"] == 36
    assert found["dipole"]["mae"] < 0.25 * 1e3 * np.abs(dipoles).mean()
    if name == "mlanet":
        tensors = np.array([atoms.info["REF_polarizability"] for atoms in test])
        assert found["polarizability"]["mae"] < 0.5 * np.abs(tensors - tensors.mean(axis=0)).mean()


def test_predictions_carry_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In ASE, in JSON, in a table and in a file, whose labels are kept beside; not where they have no meaning."""
    potential = model("mlanet dipole and polarizability")
    place = tmp_path / "model.safetensors"
    mlanet.checkpoint.save_model(potential, place)
    (water,) = waters(1)
    write(tmp_path / "water.extxyz", water)
    water = read(tmp_path / "water.extxyz")
    write(tmp_path / "crystal.extxyz", bulk("C", cubic=True))
    files = [str(tmp_path / name) for name in ("water.extxyz", "crystal.extxyz")]
    out, table = tmp_path / "out.extxyz", tmp_path / "table.csv"
    words = ["predict", *files, "--model", str(place), "--output", str(out), "--csv", str(table)]
    assert main([*words, "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["predictions"]
    answer = potential(to_graph(water, potential.cutoff))
    assert first["dipole_e_A"] == pytest.approx(answer.dipole[0].tolist(), abs=1e-12)
    assert first["polarizability_A3"] == pytest.approx(answer.polarizability[0].numpy()[mlanet.units.VOIGT], abs=1e-12)
    assert "dipole_e_A" not in second and len(second["polarizability_A3"]) == 6
    written = read(out, index=0)
    assert written.get_dipole_moment() == pytest.approx(answer.dipole[0].numpy(), abs=1e-7)
    assert written.info["REF_dipole"] == pytest.approx(water.get_dipole_moment(), abs=1e-7)
    header, line, last = csv.reader(table.open(newline=""))
    assert header[-1] == "polarizability_xy_A3" and len(line) == len(header) == 27
    first = header.index("dipole_x_e_A")
    assert last[first : first + 3] == ["", "", ""] != line[first : first + 3]
    calculator = mlanet.MLANetCalculator(place)
    atoms = Atoms(water.symbols, water.positions, calculator=calculator)
    assert atoms.get_dipole_moment() == pytest.approx(answer.dipole[0].numpy(), abs=1e-12)
    assert calculator.get_property("polarizability", atoms) == pytest.approx(answer.polarizability[0].numpy())
    atoms.set_cell([8, 8, 8])
    atoms.pbc = True
    with pytest.raises(PropertyNotImplementedError, match="no direction is periodic"):
        atoms.get_dipole_moment()
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "dipole in e Å" in printed and "polarizability in Å³" in printed


def test_labels_are_found_where_they_mean_something() -> None:
    """As vectors and tensors of structures that have them; the size of a dipole moment, as others write it, is none."""
    (water,) = waters(1)
    water.info["REF_polarizability"] = [1.0, 2.0, 3.0, 0.4, 0.5, 0.6]
    labels = to_labels(water)
    assert labels.dipole.tolist() == [water.get_dipole_moment().tolist()]
    assert labels.polarizability.tolist() == [[[1.0, 0.6, 0.5], [0.6, 2.0, 0.4], [0.5, 0.4, 3.0]]]
    bare = Atoms("OH", [[0, 0, 0], [0, 0, 1]], info={"dipole_moment": 1.85, "polarizability": 9.8})
    assert bool(to_labels(bare).dipole.isnan().all()) and bool(to_labels(bare).polarizability.isnan().all())
    with pytest.raises(mlanet.errors.DataError, match="1 numbers, expected 3"):
        to_labels(bare, LabelKeys(dipole="dipole_moment"))
    crystal = bulk("C")
    crystal.info["REF_dipole"] = [0.0, 0.0, 1.0]
    assert bool(to_labels(crystal).dipole.isnan().all())


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (SWITCHES["mlanet l1"] | {"outputs": ["polarizability"]}, "needs l_max 2 or 3"),
        (SWITCHES["leignn"] | {"outputs": ["polarizability"]}, "scalars and vectors only"),
        (SWITCHES["mlanet"] | {"outputs": ["dipole", "dipole"]}, "twice"),
        (SWITCHES["mlanet"] | {"outputs": ["magmom"]}, "magmom"),
    ],
)
def test_what_cannot_be_is_refused(config: dict[str, Any], reason: str) -> None:
    """With the reason, when the configuration is read."""
    with pytest.raises(ConfigError, match=reason):
        parse(config, ModelConfig, "test")


@pytest.mark.parametrize("periodic", [False, True])
def test_an_output_without_a_label_is_refused(periodic: bool, tmp_path: Path) -> None:
    """Before the first step: a head that learns nothing would predict nonsense."""
    frames = waters(8)
    for atoms in frames:
        if periodic:
            atoms.set_cell([9.0, 9.0, 9.0])
            atoms.pbc = [True, False, False]
            atoms.calc.atoms = atoms.copy()
        else:
            del atoms.calc.results["dipole"]
    write(tmp_path / "train.extxyz", frames)
    config: dict[str, Any] = {
        "data": {"train": [str(tmp_path / "train.extxyz")]},
        "model": NETWORK["leignn"],
        "budget": {"steps": 1},
        "run": {"folder": str(tmp_path / "run")},
    }
    with pytest.raises(MissingLabelError, match=r"model\.outputs has dipole"):
        train(parse(config, TrainConfig, "test"), progress=False)
    config["data"]["require"] = ["dipole"]
    with pytest.raises(MissingLabelError, match="has no meaning" if periodic else "no frame has a label for dipole"):
        train(parse(config, TrainConfig, "test"), progress=False)


@pytest.mark.parametrize("name", ["mlanet dipole and polarizability", "leignn dipole"])
def test_outputs_are_added_to_a_trained_model_and_taken_off(name: str) -> None:
    """A fine-tuning begins with the energies of the model that it starts from."""
    rich = model(name)
    config = msgspec.structs.replace(rich.model.config, outputs=())
    poor = Potential.build(config, rich.statistics).double().eval()
    graph = to_graph(waters(1)[0], rich.cutoff)
    adopt(poor, rich)
    assert torch.equal(poor(graph).energy, rich(graph).energy)
    again = Potential.build(rich.model.config, Statistics.unit(rich.species)).double().eval()
    again.statistics = poor.statistics
    again._restore_constants()
    adopt(again, poor)
    assert torch.allclose(again(graph).energy, poor(graph).energy, rtol=0, atol=1e-12)


def test_the_charge_of_an_ion_moves_with_it() -> None:
    """μ(R + t) = μ(R) + Q t."""
    potential = model("mlanet dipole of charges")
    water = waters(1)[0]
    here = to_graph(water, potential.cutoff, charge=-2.0)
    move = torch.tensor([1.0, 20.0, -3.0], dtype=torch.float64)
    there = dataclasses.replace(here, positions=here.positions + move)
    with pytest.warns(UserWarning, match="ignores"):
        difference = potential(there).dipole - potential(here).dipole
    assert torch.allclose(difference, -2.0 * move, rtol=0, atol=1e-12)


def test_energies_of_atoms_are_learnt_from_a_teacher_that_has_them(tmp_path: Path) -> None:
    """Read from a column of the file, per atom, nothing in frames that lack them; part of the loss."""
    atoms = bulk("CO", "rocksalt", 4.6)
    atoms.calc = SinglePointCalculator(atoms, energy=-7.0, forces=np.zeros((2, 3)))
    plain = to_labels(atoms)
    assert plain.atomic_energies.shape == (2,) and bool(plain.atomic_energies.isnan().all())
    atoms.arrays["atomic_energies"] = np.array([-3.0, -4.0])
    write(tmp_path / "a.extxyz", [atoms])
    (sample,) = load_samples(tmp_path / "a.extxyz", 4.0)
    assert sample.labels.atomic_energies.tolist() == [-3.0, -4.0]
    potential = model("mlanet l1")
    batch = batch_labels([sample.labels, plain])
    graph = batch_graphs([to_graph(atoms, potential.cutoff)] * 2)
    potential.train()
    residuals = Residuals(potential(graph), batch, graph)
    found = residuals["atomic_energies"]
    assert bool((found[:2] != 0).all()) and bool((found[2:] == 0).all())
    counts = residuals.counts()
    off, on = (loss(residuals, counts, LossConfig(atomic_energies=weight)) for weight in (0.0, 0.5))
    assert float(on - off) == pytest.approx(0.5 * float(found[:2].abs().mean()), rel=1e-9)
