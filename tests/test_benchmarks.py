"""Benchmarks run; their figures are not judged here."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_accuracy_benchmark_runs_and_goes_on(tmp_path: Path) -> None:
    """A tiny grid leaves a row for each training and a picture; started again, it trains nothing anew."""
    words = ["--demo", "--steps", "2", "--channels", "4", "--layers", "1", "--l-max", "1", "2", "--fractions", "0.5"]
    command = [sys.executable, str(ROOT / "benchmarks" / "accuracy.py"), *words, "--output", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for _ in range(2):
        subprocess.run(command, check=True, env=environment, capture_output=True)
    with (tmp_path / "accuracy_demo_cpu.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["l_max"] for row in rows] == ["1", "2"]
    assert all(float(row["forces_mae_meV_per_A"]) > 0 and row["torch"] for row in rows)
    assert (tmp_path / "accuracy_demo_cpu.png").stat().st_size > 1000


def run(script: str, *words: str) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout


def test_comparison_runs(tmp_path: Path) -> None:
    """Rows for a model, for a variant of it, and for one that is pre-trained with direct forces."""
    models = [
        "leignn:channels=8",
        "leignn:channels=8,update=painn",
        "leignn:channels=8,forces=direct>leignn:channels=8",
    ]
    run("compare.py", "--demo", "--steps", "4", "--models", *models, "--output", str(tmp_path))
    with (tmp_path / "compare_demo_cpu.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == models
    assert all(float(row["stress_mae_GPa"]) > 0 and row["steps"] == "4" for row in rows)


def test_forecasts_are_judged(tmp_path: Path) -> None:
    """A row for a configuration and one for a set of batches; no batch above its limit."""
    run("forecast.py", "--count", "1", "--runs", "1", "--seed", "3", "--output", str(tmp_path))
    with (tmp_path / "forecast_cpu.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert abs(float(row["error"])) < 0.2 and float(row["counted_MiB"]) > 1
    with (tmp_path / "batches_cpu.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["exceeded"] == "0" and 0.2 < float(row["fullest"]) <= 1
