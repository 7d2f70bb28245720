"""What a simulation needs to be told."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

Ensemble = Literal["nve", "langevin", "bussi", "nose-hoover", "npt"]

CELLS = ("isotropic", "full", "a", "b", "c", "ab", "ac", "bc", "abc")
"""What constant pressure may move."""


class DynamicsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One simulation; every key with its unit."""

    ensemble: Ensemble
    """nve: constant energy (needs forces that are a gradient) · langevin: stochastic · bussi: stochastic velocity
    rescaling · nose-hoover: chain of three · npt: constant pressure of Martyna, Tobias and Klein (needs them too)."""
    temperature: float = 300.0
    """K; of the thermostat, and of the velocities drawn at the start."""
    timestep: float = 1.0
    """fs; 0.5 with hydrogen."""
    steps: int = 1000
    """Steps in all, counted from the first start."""
    friction: float = 10.0
    """1/ps, of `langevin`; its inverse is the time after which a velocity is forgotten."""
    relaxation: float = 100.0
    """fs, of `bussi`, `nose-hoover` and `npt`."""
    pressure: float = 0.0
    """GPa, of `npt`."""
    pressure_relaxation: float = 1000.0
    """fs, of `npt`."""
    cell: str = "isotropic"
    """What pressure moves in `npt`: isotropic (the size) · full (size and shape) · or the lattice vectors that change
    their lengths, such as abc or c, which stand at right angles to the others."""
    every: int = 10
    """Steps between frames of the trajectory and lines of the log."""
    checkpoint_every: int = 200
    """Steps between checkpoints; what was computed since the last one is computed again after a crash."""
    seed: int = 0
    """Of initial velocities and of the thermostat."""
    keep_velocities: bool = False
    """Start from the velocities in the file instead of drawing them."""

    def __post_init__(self) -> None:
        for name in ("timestep", "steps", "relaxation", "pressure_relaxation", "every", "checkpoint_every"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        for name in ("temperature", "friction"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be zero or positive, got {getattr(self, name)}")
        if self.temperature == 0 and self.ensemble not in ("nve", "langevin"):
            raise ValueError(f"temperature must be positive for {self.ensemble}")
        if self.cell not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(CELLS)}, got {self.cell}")
        if not math.isfinite(self.pressure):
            raise ValueError(f"pressure must be finite, got {self.pressure}")
