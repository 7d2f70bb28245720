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
