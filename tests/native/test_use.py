"""Where the native engine answers: the calculator, batches, the command line; and where it steps back."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from native_systems import apart, batch, potential
from systems import ethanol, triclinic

from mlanet import MLANetCalculator
from mlanet.checkpoint import read_model_header, save_model
from mlanet.cli.main import main
from mlanet.errors import ConfigError
from mlanet.execution import Execution
from mlanet.kernels import use_kernels
from mlanet.native import Engine
from mlanet.native.answers import NativeAnswers
from mlanet.native.engine import Answer
from mlanet.potential import Potential

SMALL = {"irreps": "8x0e+8x1o", "layers": 2, "heads": 2, "key_dim": 4, "hidden": 8, "gate_channels": 1}


@pytest.fixture
def subject() -> Potential:
    """In float64, as a model that nobody trains any more."""
    return potential("mlanet_l1", **SMALL).requires_grad_(False)


@pytest.mark.parametrize("make", [ethanol, triclinic])
def test_the_calculator_says_the_same(subject: Potential, make: Any) -> None:
    """All results but for rounding, those that `features` make as well; copies and pickles go on so."""
    subject.watched = True
    plain, native = (MLANetCalculator(subject, kernels=one) for one in ("plain", "native"))
    assert native.potential.answered_by is not None
    atoms = make()
    native.calculate(atoms)
    plain.calculate(atoms)
    assert native.results.keys() == plain.results.keys()
    for name, value in plain.results.items():
        assert native.results[name] == pytest.approx(value, rel=1e-11, abs=1e-11), name
    again = pickle.loads(pickle.dumps(native))
    assert again.potential.answered_by is not None
    assert np.array_equal(again.get_forces(atoms), native.results["forces"])


def test_auto_takes_it_for_inference_only(subject: Potential) -> None:
    """Not in training, not where gradients of weights are wanted, not for a model that it does not know."""
    assert MLANetCalculator(subject).potential.answered_by is not None
    assert use_kernels(copy.deepcopy(subject), "auto").answered_by is None
    assert Execution().placed(copy.deepcopy(subject).train(), inference=True).answered_by is None
    wanted = Execution().placed(copy.deepcopy(subject).requires_grad_(True), inference=True)
    assert (wanted.answered_by, wanted.model.kernels) == (None, "fused")
    assert MLANetCalculator(subject, compiled=True).potential.answered_by is None
    with pytest.raises(ConfigError, match="a whole step already"):
        MLANetCalculator(subject, kernels="native", compiled=True)
    assert MLANetCalculator(potential("leignn_64", channels=8, layers=1)).potential.answered_by is not None
    other = potential("leignn_64", channels=8, layers=1, global_node=True).requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert use_kernels(other, "auto", inference=True).answered_by is None
    with pytest.raises(ConfigError, match="kernels: native: the native engine knows global_node: false"):
        use_kernels(other, "native", inference=True)


def test_it_answers_for_these_weights_only(subject: Potential) -> None:
    """Training, other weights, another precision or other kernels: the model itself answers again."""
    for change in (
        lambda one: one.train(),
        lambda one: one.float(),
        lambda one: one.load_state_dict(one.state_dict()),
        lambda one: one.with_kernels("plain"),
    ):
        native = use_kernels(copy.deepcopy(subject), "native")
        assert native.answered_by is not None
        change(native)
        assert native.answered_by is None
    native, graph = use_kernels(copy.deepcopy(subject), "native"), batch(subject.cutoff)
    before = native(graph).energy
    with torch.no_grad():
        next(native.model.layers.parameters()).mul_(1.5)
    assert not torch.equal(native(graph).energy, before)
    assert native.answered_by is None


def test_batches_of_all_kinds(subject: Potential) -> None:
    """Each structure has its own energy and stress, and none where that has no meaning."""
    graph = batch(subject.cutoff)
    expected = subject(graph)
    found = use_kernels(subject, "native")(graph)
    assert found.features is None
    assert max(apart(found, expected).values()) < 1e-11


def test_wrong_numbers_are_not_used(subject: Potential, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that computes otherwise here is refused by name, and passed over with a warning."""
    right = Engine.compute

    def wrong(self: Engine, *arguments: Any) -> Answer:
        return dataclasses.replace(found := right(self, *arguments), forces=1.001 * found.forces)

    monkeypatch.setattr(Engine, "compute", wrong)
    other = potential("mlanet_l1", **{**SMALL, "key_dim": 3}).requires_grad_(False)
    with pytest.raises(ConfigError, match="kernels: native gives other numbers than plain: forces differs"):
        use_kernels(other, "native")
    with pytest.warns(UserWarning, match="computing without the native engine: .* gives other numbers"):
        assert use_kernels(other, "auto", inference=True).model.kernels == "fused"


def test_export_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that computes what the model computes; a model that cannot be exported is named, and nothing written."""
    one = potential("mlanet_l1", torch.float32, **SMALL)
    save_model(one, tmp_path / "one.safetensors")
    target = tmp_path / "one.mlanet"
    assert main(["export", "native", str(tmp_path / "one.safetensors"), "-o", str(target), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["compared"] is True and document["precision"] == "float32"
    assert 0 < document["force_difference_eV_per_A"] < 1e-3 * max(1.0, document["largest_force_eV_per_A"])
    assert document["energy_difference_eV_per_atom"] < 1e-3
    assert main(["export", "native", str(tmp_path / "one.safetensors"), "-o", str(target)]) == 0
    shown = capsys.readouterr().out
    assert f"compared with the model on {document['compared_atoms']} atoms: energies differ by at most" in shown
    assert (
        f"forces by at most {1000 * document['force_difference_eV_per_A']:.1e} meV/Å" in shown and "True" not in shown
    )
    engine = Engine(target)
    assert engine.header["digest"] == document["digest"] == read_model_header(tmp_path / "one.safetensors").digest
    graph = batch(one.cutoff)
    answers = NativeAnswers(one)
    answers.engine = engine
    assert max(apart(answers(graph.to(None, torch.float32)), one(graph)).values()) < 1e-3
    save_model(potential("mlanet_l1", **SMALL, charge="total"), tmp_path / "two.safetensors")
    assert main(["export", "native", str(tmp_path / "two.safetensors"), "-o", str(tmp_path / "two.mlanet")]) == 2
    assert "charge: total" in capsys.readouterr().err
    assert not (tmp_path / "two.mlanet").exists()
    assert main(["export", "native", str(target.with_suffix(".safetensors")), "-o", str(one_of(tmp_path))]) == 3
    assert "would be overwritten" in capsys.readouterr().err


def one_of(folder: Path) -> Path:
    """The model that is there."""
    return folder / "one.safetensors"
