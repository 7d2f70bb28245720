"""`mlanet profile` as its users meet it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from mlanet.cli.main import main
from mlanet.profiling.clock import Clocks
from mlanet.profiling.measurement import Measurement

SMALL = "leignn:channels=8,layers=1"


@pytest.mark.usefixtures("forks")
def test_compare_leaves_table_document_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two models on two systems; the error of each goes into the report against its time."""
    errors = tmp_path / "errors.csv"
    errors.write_text(f'model,forces_mae_meV_per_A\n"{SMALL}",20\n"leignn:channels=16,layers=1",15\n')
    words = ["profile", "compare", SMALL, "leignn:channels=16,layers=1", "-s", "Si:8", "-s", "NaCl:8"]
    assert main([*words, "--rounds", "1", "-o", str(tmp_path), "--errors", str(errors), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["rows"]) == 8 and not any(row["failure"] for row in document["rows"])
    with (tmp_path / "compare.csv").open() as file:
        assert [row["mode"] for row in csv.DictReader(file)] == ["infer", "train"] * 4
    page = (tmp_path / "compare.html").read_text()
    assert "Error against time" in page and page.count("<figure>") == 3 and "http://" not in page.split("</style>")[1]


def test_a_busy_machine_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning on stderr, a remark in the document, a line on the page, and the column to compare instead."""
    row = Measurement("leignn", "Si:8", "infer", atoms=8)
    row.add_times([Clocks(500.0, 10.0)])
    monkeypatch.setattr("mlanet.profiling.compare.compare", lambda *_: [row])
    words = ["profile", "compare", "leignn", "-s", "Si:8", "-o", str(tmp_path)]
    assert main(words) == 0
    told = capsys.readouterr()
    assert "up to 50 times" in told.err and "processor ms" in told.out and "failure" not in told.out
    assert main([*words, "--json"]) == 0
    assert "up to 50 times" in json.loads(capsys.readouterr().out)["remarks"][0]
    page = (tmp_path / "compare.html").read_text()
    assert "up to 50 times" in page and "processor_ms" in page


@pytest.mark.usefixtures("forks")
def test_speed_memory_and_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each prints a table and leaves its report."""
    common = ["-s", "Si:8", "-o", str(tmp_path)]
    assert main(["profile", "speed", SMALL, "--rounds", "1", *common]) == 0
    assert "train: double backward" in capsys.readouterr().out
    assert main(["profile", "memory", SMALL, "--mode", "train", *common]) == 0
    assert main(["profile", "trace", SMALL, *common]) == 0
    assert "GFLOP_per_s" in capsys.readouterr().out
    for name in ("speed.html", "memory.html", "trace.html", "trace.json", "memory.csv"):
        assert (tmp_path / name).stat().st_size > 200


@pytest.mark.slow
@pytest.mark.usefixtures("forks")
def test_scale_and_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Growth ends at the size that was asked for; a prediction names the largest cell."""
    assert main(["profile", "scale", SMALL, "--crystal", "Si", "--max-atoms", "200", "-o", str(tmp_path)]) == 0
    assert "time exponent" in capsys.readouterr().out
    words = ["profile", "predict", SMALL, "--memory", "1", "--neighbors", "28", "--atoms", "500", "--json"]
    assert main(words) == 0
    infer, train = json.loads(capsys.readouterr().out)["predictions"]
    assert infer["largest_atoms"] > train["largest_atoms"] > 500
    assert 0 < infer["GiB"] < train["GiB"] < 1 and infer["ms"] < train["ms"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", "leignnn"], "did you mean 'leignn'"),
        (["compare", SMALL, "-s", "Unobtainium:8"], "expected NAME:ATOMS"),
        (["compare", SMALL, "--mode", "think"], "expected infer or train"),
        (["compare", SMALL, "--errors", "no.csv"], "needs columns model"),
        (["predict", SMALL, "--device", "cuda:99"], "cuda"),
        (["compare", "no.safetensors"], "no.safetensors"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is measured, with exit status 2 or 3."""
    assert main(["profile", *words]) in (2, 3)
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
