"""Do crystals survive heat? Ten picoseconds at 1000 K for each of many, with what went wrong.

    python benchmarks/hot.py crystals.extxyz --count 20 --work out/hot

One frame of each composition is drawn by seed 0, repeated to at least `--atoms` atoms, and simulated at constant volume
with a stochastic thermostat. A crystal is sound when the simulation ends, the temperature stays near its target, and
no two atoms come closer than 0.8 times the closest such pair of the training set. Rows go to WORK/rows.csv; simulations
that are there already are read, interrupted ones go on.
"""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import Annotated, Any

import ase.io
import numpy as np
import torch
import typer
from ase import Atoms

from mlanet.calculator import MLANetCalculator
from mlanet.data.read import read_frames
from mlanet.dynamics.approach import Guard
from mlanet.dynamics.run import CHECKPOINT, simulate
from mlanet.dynamics.settings import DynamicsSettings
from mlanet.dynamics.summary import read_log
from mlanet.errors import DivergedError
from mlanet.files import write_whole

NEAR = 0.8
"""Of the closest distance in training: nearer than heat and pressure bring atoms, see `dynamics.approach`."""
LIGHT = 4
"""Atomic numbers up to this one (H to Be) move with half the time step."""


def main(
    crystals: Annotated[Path, typer.Argument(help="Structures, labelled or not.")],
    work: Annotated[Path, typer.Option("--work", help="Folder for simulations and rows.")],
    model: Annotated[str, typer.Option("--model", help="A model file, or the name of a packaged one.")] = "universal",
    count: Annotated[int, typer.Option("--count", help="Crystals.")] = 20,
    atoms: Annotated[int, typer.Option("--atoms", help="At least so many in each.")] = 16,
    time_ps: Annotated[float, typer.Option("--time", help="ps of each.")] = 10.0,
    temperature: Annotated[float, typer.Option("--temperature", help="K.")] = 1000.0,
) -> None:
    """Simulate, and say how each went."""
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    calculator = MLANetCalculator(model)
    rows = []
    for start in drawn(crystals, count, atoms):
        rows.append(simulated(start, calculator, work / start.get_chemical_formula(), time_ps, temperature))
        print({name: f"{value:.3g}" if isinstance(value, float) else value for name, value in rows[-1].items()})
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        write_whole(work / "rows.csv", text.getvalue().encode())
    print(f"{sum(row['sound'] for row in rows)} of {len(rows)} sound")


def drawn(path: Path, count: int, at_least: int) -> list[Atoms]:
    """Crystals of different compositions, as supercells."""
    by_formula = {}
    for frame in read_frames(path):
        if frame.atoms.pbc.all():
            by_formula.setdefault(frame.atoms.get_chemical_formula("reduce"), frame.atoms)
    structures = list(by_formula.values())
    order = np.random.default_rng(0).permutation(len(structures))[:count]
    return [_repeated(structures[index], at_least) for index in order]


def _repeated(atoms: Atoms, at_least: int) -> Atoms:
    """The shortest direction doubled until there are enough atoms."""
    cell = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell.array, pbc=True)
    while len(cell) < at_least:
        copies = [1, 1, 1]
        copies[int(np.argmin(cell.cell.lengths()))] = 2
        cell = cell.repeat(copies)
    return cell


def simulated(
    atoms: Atoms, calculator: MLANetCalculator, folder: Path, time_ps: float, temperature: float
) -> dict[str, Any]:
    """One crystal: how long it went, how near its atoms came, how hot it got."""
    step = 1.0 if atoms.numbers.min() <= LIGHT else 2.0
    settings = DynamicsSettings(
        ensemble="langevin",
        temperature=temperature,
        timestep=step,
        steps=round(1000 * time_ps / step),
        every=20,
        checkpoint_every=1000,
    )
    atoms.calc = calculator
    guard, ended, started = Guard(calculator.potential.statistics), "whole", time.process_time()
    try:
        for _ in simulate(atoms, settings, folder, resume=(folder / CHECKPOINT).exists()):
            pass  # SIGTERM ends this too
    except DivergedError as error:
        ended = str(error)
    seconds = time.process_time() - started
    for frame in ase.io.iread(folder / "trajectory.extxyz"):
        guard.alarmed_by(frame)
    log, near = read_log(folder), guard.nearest
    if ended == "whole" and log["step"][-1] < settings.steps:
        raise SystemExit(f"stopped in {folder.name}; the same command goes on")
    ratio = near.ratio if near is not None else float("inf")
    second_half = log["temperature_K"][len(log["step"]) // 2 :]
    return {
        "crystal": folder.name,
        "atoms": len(atoms),
        "ps": float(log["time_ps"][-1]),
        "mean_temperature_K": float(np.mean(second_half)),
        "closest_over_training": ratio,
        "closest_pair": near.pair if near is not None else "",
        "energy_change_meV_per_atom": 1e3
        * float(np.mean(log["potential_eV"][-20:]) - log["potential_eV"][0])
        / len(atoms),
        "seconds": seconds,
        "ended": ended,
        "sound": ended == "whole" and ratio > NEAR and bool(abs(np.mean(second_half) / temperature - 1) < 0.1),
    }


if __name__ == "__main__":
    typer.run(main)
