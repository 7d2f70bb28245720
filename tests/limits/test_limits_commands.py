"""The commands that measure limits, and those that speak of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk

from mlanet.checkpoint import copied, load_model, read_model_header, save_model
from mlanet.cli.main import main
from mlanet.config import parse
from mlanet.potential import Potential
from mlanet.training.config import TrainConfig
from mlanet.training.trainer import train


def said(capsys: pytest.CaptureFixture[str], *words: object, status: int = 0) -> dict:
    assert main([*map(str, words), "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_predict_gives_a_column_for_each(
    model: Path, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Word, reason and errors in JSON, CSV, extxyz and the table; an alloy is outside."""
    alloy = bulk("Cu", cubic=True)
    alloy.numbers[0] = 79
    strange = tmp_path / "alloy.extxyz"
    ase.io.write(strange, alloy)
    out, table = tmp_path / "out.extxyz", tmp_path / "out.csv"
    document = said(capsys, "predict", files["pool"], strange, "--model", model, "--output", out, "--csv", table)
    *usual, last = document["predictions"]
    assert last["extrapolation"] == "outside" and "Cu-Au" in last["reasons"][0]
    assert "inside" in {one["extrapolation"] for one in usual} <= {"inside", "edge"} and usual[0]["energy_std_eV"] > 0
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert rows[-1]["extrapolation"] == "outside" and float(rows[0]["max_force_std_eV_per_A"]) > 0
    frames = ase.io.read(out, ":")
    assert frames[-1].info["extrapolation"] == "outside" and len(frames[0].arrays["forces_std"]) == len(frames[0])
    main(["predict", str(strange), "--model", str(model)])
    told = capsys.readouterr()
    assert "outside" in told.out and "Cu-Au" in told.err


@pytest.mark.usefixtures("drawn")
def test_evaluate_compares_predicted_with_real_errors(
    model: Path, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Predicted and real errors stand side by side, by element, with a picture."""
    document = said(capsys, "evaluate", files["held"], "--model", model, "--plots", tmp_path)
    limits = document["errors"]["limits"]
    assert limits["extrapolation"] == {"inside": 30} and set(limits["elements"]) == {"Cu", "Au"}
    forces = limits["quantities"]["forces"]
    assert forces["predicted"] == pytest.approx(forces["real"], rel=0.2)
    assert (tmp_path / "calibration.png").read_bytes().startswith(b"\x89PNG")
    main(["evaluate", str(files["held"]), "--model", str(model)])
    assert "predicted RMSE" in capsys.readouterr().out


def test_calibrate_gives_an_old_file_its_limits(
    potential: Potential, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights and card stay; a packaged model needs a place of its own."""
    old = copied(potential)
    old.domain = None
    path = tmp_path / "old.safetensors"
    save_model(old, path, {"note": "kept"})
    said(capsys, "calibrate", path, files["train"], "--held-out", files["held"])
    new = load_model(path)
    assert new.domain is not None and len(new.domain.forces) and read_model_header(path).card == {"note": "kept"}
    assert all(bool((one == potential.state_dict()[name]).all()) for name, one in new.state_dict().items())
    assert main(["calibrate", "elemental", str(files["train"])]) == 2
    assert "--output" in capsys.readouterr().err


def test_select_takes_what_is_uncertain_and_no_copies(
    model: Path, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a pool with every structure twice, each is taken once at most, the strangest first, with its labels."""
    odd = bulk("Cu", cubic=True)
    odd.rattle(0.4, seed=0)
    pool = tmp_path / "pool.extxyz"
    twice = [*ase.io.read(files["pool"], ":"), *ase.io.read(files["pool"], ":"), odd]
    ase.io.write(pool, twice)
    document = said(capsys, "select", pool, "--model", model, "--output", tmp_path / "next.extxyz", "-n", 20)
    chosen = ase.io.read(tmp_path / "next.extxyz", ":")
    assert len(chosen) == len(document["selected"]) <= 13
    assert [frame.info["selected"] for frame in chosen] == list(range(len(chosen)))
    assert (chosen[0].positions == ase.io.read(pool, "-1").positions).all()
    energies = [round(frame.get_potential_energy(), 8) for frame in chosen[1:]]
    assert len(set(energies)) == len(energies) > 3


def test_relax_and_md_stop_outside(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both end at once where they start outside, keep the frame, and say why; without the option they go on."""
    alloy = bulk("Cu", cubic=True)
    alloy.numbers[0] = 79
    alloy.rattle(0.1, seed=1)
    path = tmp_path / "alloy.extxyz"
    ase.io.write(path, alloy)
    words = ["relax", path, "--model", model, "--steps", 3, "--output", tmp_path / "relaxed.extxyz"]
    stopped = said(capsys, *words, "--stop-outside", status=1)
    assert (
        stopped["steps"] == 0 and stopped["extrapolation"] == "outside" and "Cu-Au" in stopped["extrapolation_reason"]
    )
    assert len(ase.io.read(tmp_path / "relaxed.extxyz")) == 4
    assert said(capsys, *words, status=1)["steps"] == 3
    words = ["md", path, "--model", model, "--steps", 4, "--every", 2, "--temperature", 10]
    stopped = said(capsys, *words, "--output", tmp_path / "a", "--stop-outside", status=1)
    assert stopped["extrapolation"] == "outside" and not ase.io.read(tmp_path / "a" / "trajectory.extxyz", ":")[1:]
    whole = said(capsys, *words, "--output", tmp_path / "b")
    assert whole["extrapolation"] == "outside" and len(ase.io.read(tmp_path / "b" / "trajectory.extxyz", ":")) == 3


def test_training_leaves_them_in_the_model(files: dict[str, Path], tmp_path: Path) -> None:
    """Reach and errors are in the file that a run ends with, unless they are not wanted."""
    for wanted in (True, False):
        data = {
            "data": {"train": [str(files["train"])], "valid": [str(files["held"])]},
            "model": {"model": "mlanet", "irreps": "4x0e+4x1o", "layers": 1, "hidden": 4, "cutoff": 3.5},
            "budget": {"steps": 2},
            "run": {"folder": str(tmp_path / str(wanted)), "device": "cpu", "limits": wanted},
        }
        domain = load_model(train(parse(data, TrainConfig, "test"), progress=False).model).domain
        assert (domain is not None and len(domain.forces) > 0) == wanted
