"""What the log of a simulation says: temperature, energy drift."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlanet.dynamics.run import COLUMNS, LOG
from mlanet.errors import DataError

WARM_UP = 0.2
"""Fraction of a run that is left out of averages and fits."""


def read_log(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Columns of `log.csv`; NaN where a cell is empty.

    Raises:
        DataError: no log, or one that cannot be read.
    """
    path = folder / LOG
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in COLUMNS.split(",")}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not the log of a simulation: {error}") from None


def summarize(log: dict[str, NDArray[np.float64]], n_atoms: int, conserved: bool = True) -> dict[str, float]:
    """Means after the warm-up, and the drift of the conserved energy (not for `langevin`, which conserves none).

    drift: slope of a straight line through E/N, meV/atom/ps; beside it the drift over the whole time in units of the
    standard deviation of the kinetic energy (some 1 per cent is excellent, 1 is useless).
    """
    start = int(WARM_UP * len(log["step"]))
    late = {name: values[start:] for name, values in log.items()}
    result = {
        "time_ps": float(log["time_ps"][-1]),
        "temperature_K": float(late["temperature_K"].mean()),
        "temperature_std_K": float(late["temperature_K"].std()),
        "potential_eV_per_atom": float(late["potential_eV"].mean() / n_atoms),
    }
    if np.isfinite(late["pressure_GPa"]).all():
        result["pressure_GPa"] = float(late["pressure_GPa"].mean())
    if conserved and len(late["time_ps"]) > 2:
        slope = float(np.polyfit(late["time_ps"], late["conserved_eV"], 1)[0])
        spread = float(late["kinetic_eV"].std())
        result["drift_meV_per_atom_per_ps"] = 1e3 * slope / n_atoms
        whole = slope * float(late["time_ps"][-1] - late["time_ps"][0])
        result["drift_over_kinetic_spread"] = abs(whole) / spread if spread > 0 else float("nan")
    return result
