"""ASE's integrators, and all they must remember for a restart that is exact to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.md import MolecularDynamics
from ase.md.velocitydistribution import Stationary, ZeroRotation, thermalize_momenta
from numpy.typing import NDArray

from mlanet.dynamics.settings import DynamicsSettings
from mlanet.errors import ConfigError

Arrays = dict[str, NDArray[np.float64]]


def per_ps(friction: float) -> float:
    """A friction in 1/ps in ASE's unit, whose time is Å √(u/eV) = 10.18 fs.

    >>> round(per_ps(10.0), 4)
    0.1018
    """
    return friction / (1000 * units.fs)


def integrator(atoms: Atoms, settings: DynamicsSettings, rng: np.random.Generator) -> MolecularDynamics:
    """The integrator of an ensemble, for atoms that have momenta and a calculator.

    Raises:
        ConfigError: constraints in an ensemble that cannot keep them.
    """
    step = settings.timestep * units.fs
    temperature, damping = settings.temperature, settings.relaxation * units.fs
    if settings.ensemble == "nve":
        from ase.md.verlet import VelocityVerlet

        return VelocityVerlet(atoms, step)
    if settings.ensemble == "langevin":
        from ase.md.langevin import Langevin

        friction = per_ps(settings.friction)
        return Langevin(atoms, step, temperature_K=temperature, friction=friction, rng=rng, fixcm=False)
    if settings.ensemble == "bussi":
        from ase.md.bussi import Bussi

        return Bussi(atoms, step, temperature, taut=damping, rng=rng)
    if atoms.constraints:
        raise ConfigError(f"{settings.ensemble} cannot keep constraints on atoms; use nve, langevin or bussi")
    from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, MaskedMTKNPT, NoseHooverChainNVT

    if settings.ensemble == "nose-hoover":
        return NoseHooverChainNVT(atoms, step, temperature_K=temperature, tdamp=damping)
    pressure, slow = settings.pressure * units.GPa, settings.pressure_relaxation * units.fs
    options: dict[str, Any] = {"temperature_K": temperature, "pressure_au": pressure, "tdamp": damping, "pdamp": slow}
    if settings.cell == "isotropic":
        return IsotropicMTKNPT(atoms, step, **options)
    if settings.cell == "full":
        return MTKNPT(atoms, step, **options)
    options["mask"] = np.array([axis in settings.cell for axis in "abc"])  # a tuple would be taken for three indices
    return MaskedMTKNPT(atoms, step, **options)


def draw_velocities(atoms: Atoms, settings: DynamicsSettings, rng: np.random.Generator) -> None:
    """Maxwell-Boltzmann at the temperature, without drift, and for molecules without rotation."""
    thermalize_momenta(atoms, settings.temperature, rng=rng)
    if len(atoms) > 1 and not atoms.constraints:
        Stationary(atoms)
        if not atoms.pbc.any():
            ZeroRotation(atoms)


def memory(dynamics: MolecularDynamics) -> Arrays:
    """What an integrator knows beyond positions, momenta and cell."""
    arrays: Arrays = {}
    for owner, name in _remembered(dynamics):
        arrays[f"{type(owner).__name__}.{name}"] = np.array(getattr(owner, name), dtype=np.float64)
    return arrays


def remind(dynamics: MolecularDynamics, arrays: Arrays) -> None:
    """Give an integrator its memory back; the inverse of `memory`."""
    for owner, name in _remembered(dynamics):
        value = arrays[f"{type(owner).__name__}.{name}"]
        setattr(owner, name, float(value) if value.ndim == 0 else value.copy())


def _remembered(dynamics: Any) -> list[tuple[Any, str]]:
    """Attributes that change from step to step, or that stem from the first one."""
    names = [(dynamics, name) for name in ("transferred_energy", "_eps", "_p_eps", "_cell0", "_volume0")]
    names += [(dynamics, name) for name in ("_h0_basis", "_p_c" if hasattr(dynamics, "_p_c") else "_p_g")]
    for part in ("_thermostat", "_barostat"):
        owner = getattr(dynamics, part, None)
        names += [(owner, name) for name in ("_eta", "_p_eta", "_xi", "_p_xi")]
    return [(owner, name) for owner, name in names if hasattr(owner, name)]
