"""Long runs of the packaged model: conservation, order of the integrator, reversibility, memory."""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet

import mlanet
from mlanet.dynamics.run import simulate
from mlanet.dynamics.settings import DynamicsSettings
from reliability.check import Outcome, within

MODEL = "elemental"
STEP = 0.5
"""fs."""


def crystal(symbol: str) -> Atoms:
    """A rattled small crystal at 300 K with the packaged model in float64."""
    atoms = bulk(symbol, cubic=True)
    atoms.rattle(0.02, seed=1)
    atoms.calc = mlanet.MLANetCalculator(MODEL, dtype="float64", skin=0.5)
    MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(0))
    Stationary(atoms)
    return atoms


def drift(picoseconds: float = 50.0) -> Outcome:
    """Slope of the conserved energy in meV/atom/ps, the worst of three crystals, NVE at 0.5 fs."""
    worst = 0.0
    for symbol in ("Si", "Li", "Mo"):
        atoms = crystal(symbol)
        settings = DynamicsSettings(
            ensemble="nve", timestep=STEP, steps=int(1000 * picoseconds / STEP), every=100, keep_velocities=True
        )
        with tempfile.TemporaryDirectory() as folder:
            moments = list(simulate(atoms, settings, Path(folder) / "md"))
        times = np.array([one.time for one in moments])
        slope = np.polyfit(times, [one.conserved for one in moments], 1)[0]
        worst = max(worst, 1e3 * abs(float(slope)) / len(atoms))
    return within({"meV/atom/ps": 0.01}, {"meV/atom/ps": worst})


def order_of_the_error() -> Outcome:
    """Exponent p of the spread of the total energy ∝ dt^p, dt = 0.5, 1 and 2 fs over 200 fs."""
    spreads, steps = [], np.array([0.5, 1.0, 2.0])
    for step in steps:
        atoms = crystal("Si")
        dynamics = VelocityVerlet(atoms, step * units.fs)
        totals = []
        for _ in range(int(200 / step)):
            dynamics.run(1)
            totals.append(atoms.get_total_energy())
        spreads.append(np.std(totals))
    exponent = float(np.polyfit(np.log(steps), np.log(spreads), 1)[0])
    return Outcome(f"{exponent:.2f}", abs(exponent - 2) <= 0.1)


def reversibility(steps: int = 1000) -> Outcome:
    """Largest distance from the start after as many steps forth and back, Å."""
    atoms = crystal("Si")
    start = atoms.positions.copy()
    dynamics = VelocityVerlet(atoms, STEP * units.fs)
    dynamics.run(steps)
    atoms.set_momenta(-atoms.get_momenta())
    dynamics = VelocityVerlet(atoms, STEP * units.fs)
    dynamics.run(steps)
    return within({"Å": 1e-6}, {"Å": float(np.abs(atoms.positions - start).max())})


def leak(steps: int = 10_000) -> Outcome:
    """Growth of the process by step of dynamics, kB, after a fifth of the steps has warmed it."""
    atoms = crystal("Si")
    dynamics = VelocityVerlet(atoms, STEP * units.fs)
    dynamics.run(steps // 5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    dynamics.run(steps - steps // 5)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return within({"kB/step": 0.1}, {"kB/step": grown / (steps - steps // 5)})
