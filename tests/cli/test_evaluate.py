"""`mlanet evaluate`: errors against labels, in the units people compare."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest

from mlanet.cli.evaluate import _print_limits
from mlanet.limits.calibration import LimitsReport
from mlanet.units import EV_PER_CUBIC_ANGSTROM_IN_GPA


def test_errors_are_those_of_the_written_predictions(mlanet, model, labelled) -> None:
    """MAE and RMSE equal what numpy says of the predictions that ASE reads back."""
    report = mlanet("evaluate", labelled, "-m", model, "--json").document["errors"]
    mlanet("predict", labelled, "-m", model, "-o", "out.extxyz")
    labels, said = ase.io.read(labelled, ":"), ase.io.read("out.extxyz", ":")
    pairs = list(zip(said, labels, strict=True))
    energy = np.array([(a.get_potential_energy() - b.get_potential_energy()) / len(a) for a, b in pairs])
    forces = np.concatenate([(a.get_forces() - b.get_forces()).ravel() for a, b in pairs])
    stress = np.concatenate([(a.get_stress(voigt=False) - b.get_stress(voigt=False)).ravel() for a, b in pairs])
    expected = {"energy": energy * 1000, "forces": forces * 1000, "stress": stress * EV_PER_CUBIC_ANGSTROM_IN_GPA}
    assert report["frames"] == len(labels)
    for name, errors in expected.items():
        found = report["quantities"][name]
        assert found["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-4, abs=1e-4)
        assert found["rmse"] == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-4, abs=1e-4)
        assert found["count"] == errors.size
    units = {name: report["quantities"][name]["unit"] for name in expected}
    assert units == {"energy": "meV/atom", "forces": "meV/Å", "stress": "GPa"}
    assert set(report["elements"]) == {"Al", "Cu"}


def test_a_model_has_no_error_against_itself(mlanet, model, labelled) -> None:
    """Predictions that are written and read back as labels are met to the digits of the file."""
    mlanet("predict", labelled, "-m", model, "-o", "out.extxyz", "--dtype", "float64")
    words = ["--key", "energy=energy", "--key", "forces=forces", "--key", "stress=stress", "--dtype", "float64"]
    report = mlanet("evaluate", "out.extxyz", "-m", model, "--json", *words).document["errors"]["quantities"]
    assert report["energy"]["mae"] < 1e-3 and report["forces"]["mae"] < 1e-3 and report["stress"]["mae"] < 1e-6


def test_what_is_not_labelled_is_left_out(mlanet, model, labelled) -> None:
    """A set with energies only reports energies only."""
    frames = ase.io.read(labelled, ":")
    for atoms in frames:
        atoms.calc.results = {"energy": atoms.calc.results["energy"]}
    ase.io.write("energies.extxyz", frames)
    report = mlanet("evaluate", "energies.extxyz", "-m", model, "--json").document["errors"]
    assert set(report["quantities"]) == {"energy"} and report["elements"] == {}


@pytest.mark.usefixtures("drawn")
def test_table_and_plots(mlanet, model, labelled) -> None:
    """The table names units; one PNG per labelled quantity lies in the folder."""
    outcome = mlanet("evaluate", labelled, "-m", model, "--plots", "plots")
    assert outcome.status == 0
    for word in ("meV/atom", "meV/Å", "GPa", "forces on Cu", "MAE", "RMSE"):
        assert word in outcome.out
    pictures = sorted(path.name for path in Path("plots").iterdir())
    assert pictures == ["parity_energy.png", "parity_forces.png", "parity_stress.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in Path("plots").iterdir())


def test_limits_without_standard_errors_are_no_empty_table(capsys) -> None:
    """Models of few structures know their domain alone."""
    _print_limits(LimitsReport({"inside": 3, "edge": 1}, {}, {}, None))
    assert capsys.readouterr().out == "of the training set: 3 inside, 1 edge\n"
