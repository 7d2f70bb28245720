"""A committee answers with the mean of its members, and says how far they are apart."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from limited import crystals
from numpy.testing import assert_allclose

import mlanet
from mlanet.checkpoint import save_model
from mlanet.cli.main import main
from mlanet.errors import ConfigError
from mlanet.potential import Potential


@pytest.fixture(scope="module")
def members(potential: Potential, model: Path) -> list[Path]:
    """Three of one shape and different weights; only the first knows its limits."""
    paths = [model]
    for seed in (1, 2):
        one = copy.deepcopy(potential)
        one.domain = None
        torch.manual_seed(seed)
        with torch.no_grad():
            for weight in one.parameters():
                weight += 0.1 * torch.randn_like(weight) * weight.abs().mean()
        paths.append(model.with_name(f"member-{seed}.safetensors"))
        save_model(one, paths[-1], {})
    return paths


def test_the_calculator_gives_mean_and_spread(members: list[Path]) -> None:
    """By hand from three calculators; the mean's forces are the gradient of the mean energy; copies are as good."""
    (atoms,) = crystals(1, seed=7)
    said = []
    for path in members:
        one = atoms.copy()
        one.calc = mlanet.MLANetCalculator(path)
        said.append((one.get_potential_energy(), one.get_forces(), one.get_stress()))
    energies, forces, stresses = (np.array(one) for one in zip(*said, strict=True))
    calculator = mlanet.CommitteeCalculator(members)
    for committee in (calculator, pickle.loads(pickle.dumps(calculator))):
        atoms.calc = committee
        assert atoms.get_potential_energy() == pytest.approx(energies.mean(), abs=1e-12)
        assert_allclose(atoms.get_forces(), forces.mean(0), atol=1e-12)
        assert_allclose(atoms.get_stress(), stresses.mean(0), atol=1e-14)
        results = committee.results
        assert results["energy_std"] == pytest.approx(energies.std(ddof=1), rel=1e-9)
        assert_allclose(results["forces_std"], np.sqrt(forces.var(0, ddof=1).mean(1)), rtol=1e-9)
        assert results["stress_std"] > 0 and results["extrapolation"] == committee.members[0].results["extrapolation"]
    step = 1e-4
    moved = atoms.copy()
    moved.calc = calculator
    ends = []
    for sign in (1, -1):
        moved.positions[0, 0] = atoms.positions[0, 0] + sign * step
        ends.append(moved.get_potential_energy())
    assert (ends[1] - ends[0]) / (2 * step) == pytest.approx(atoms.get_forces()[0, 0], abs=1e-6)


def test_commands_say_the_same_as_the_calculator(
    members: list[Path], files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """predict's means and spreads are the calculator's; evaluate and select take a committee too."""
    first, *others = map(str, members)
    more = [word for one in others for word in ("--member", one)]
    pool = str(files["pool"])
    assert main(["predict", pool, "--model", first, *more, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["predictions"]
    calculator = mlanet.CommitteeCalculator(members)
    for row, atoms in zip(rows, ase.io.read(pool, ":"), strict=True):
        bare = atoms.copy()
        bare.calc = calculator
        assert row["energy_eV"] == pytest.approx(bare.get_potential_energy(), abs=1e-9)
        assert row["energy_std_eV"] == pytest.approx(calculator.results["energy_std"], rel=1e-6)
        assert_allclose(row["forces_std_eV_per_A"], calculator.results["forces_std"], rtol=1e-6)
    assert main(["predict", pool, "--model", first, *more, "--workers", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["predictions"] == rows
    assert main(["evaluate", pool, "--model", first, *more, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["errors"]["limits"]["quantities"]["forces"]["real"] > 0
    chosen = tmp_path / "next.extxyz"
    assert main(["select", pool, "--model", first, *more, "-o", str(chosen), "-n", "3", "--json"]) == 0
    selected = json.loads(capsys.readouterr().out)["selected"]
    largest = max(rows, key=lambda row: np.mean(np.square(row["forces_std_eV_per_A"])))
    assert selected[0]["structure"] == largest["where"]


def test_models_that_know_no_limits_make_a_committee(
    members: list[Path], files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Their spread is said, in the table too, and only the word is unknown."""
    _, first, second = members
    (atoms,) = crystals(1, seed=8)
    atoms.calc = calculator = mlanet.CommitteeCalculator([first, second])
    atoms.get_potential_energy()
    assert calculator.results["energy_std"] > 0 and "extrapolation" not in calculator.results
    words = [str(files["pool"]), "--model", str(first), "--member", str(second)]
    assert main(["predict", *words]) == 0
    assert "±" in capsys.readouterr().out
    assert main(["evaluate", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["errors"]["limits"]["quantities"]["energy"]["predicted"] > 0


def test_what_is_no_committee_is_refused(
    members: list[Path], potential: Potential, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """One model, a model twice, a model of other elements: said before anything is computed."""
    with pytest.raises(ConfigError, match="at least two"):
        mlanet.CommitteeCalculator(members[:1])
    with pytest.raises(ConfigError, match="list of models"):
        mlanet.CommitteeCalculator(members[0])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="has the weights of"):
        mlanet.CommitteeCalculator([members[0], members[1], members[0]])
    with pytest.raises(ConfigError, match="other elements"):
        mlanet.CommitteeCalculator([potential, "elemental"])
    status = main(["predict", str(files["pool"]), "--model", str(members[0]), "--member", str(members[0])])
    assert status == 2 or status == 1
    assert "has the weights of" in capsys.readouterr().err
