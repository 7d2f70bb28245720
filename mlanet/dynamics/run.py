"""One simulation from the first step to the last, over any number of interruptions."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.md import MolecularDynamics

from mlanet.data.empty_space import empty_axes
from mlanet.data.write import frame_text, true_results
from mlanet.dynamics import state
from mlanet.dynamics.integrators import draw_velocities, integrator, memory, remind
from mlanet.dynamics.settings import DynamicsSettings
from mlanet.dynamics.state import State
from mlanet.errors import ConfigError, DivergedError, GeometryError, NotConservativeError, named
from mlanet.files import append_whole, cut_back, sync, writing
from mlanet.interruption import Signals
from mlanet.ownership import owned

TRAJECTORY, LOG, CHECKPOINT = "trajectory.extxyz", "log.csv", "checkpoint.safetensors"
COLUMNS = "step,time_ps,potential_eV,kinetic_eV,total_eV,conserved_eV,temperature_K,pressure_GPa,volume_A3"
HOTTEST = 10_000.0
"""K; with ten times the target, a sign that the simulation has exploded."""


@dataclass(frozen=True)
class Moment:
    """One line of the log: energies eV, time ps, pressure GPa and volume Å³ (NaN without a cell).

    conserved: the quantity that the ensemble keeps constant, for `langevin` just the total energy.
    """

    step: int
    time: float
    potential: float
    kinetic: float
    conserved: float
    temperature: float
    pressure: float
    volume: float


def simulate(
    atoms: Atoms,
    settings: DynamicsSettings,
    folder: Path,
    *,
    potential: str = "",
    resume: bool = False,
    conservative: bool = True,
) -> Generator[Moment]:
    """Run a simulation and yield a `Moment` for every frame, the first included, as they are written.

    In the folder grow `trajectory.extxyz` (positions, momenta, forces, energy, stress; readable at any time) and
    `log.csv`; `checkpoint.safetensors` stands there before either, and is replaced now and then. A resumed run cuts the
    two back to the checkpoint and goes on as if never interrupted: on a CPU its frames are the same to the last bit.
    SIGTERM: checkpoint, then the iteration ends early; Ctrl-C: the same, then KeyboardInterrupt. SIGUSR1: checkpoint
    and go on. The folder is held until the iteration ends or is closed. Frames stand `every` steps apart, and one at
    the end; that one goes when the run is prolonged, so that the grid is that of the first run.

    Args:
        atoms: a structure with a calculator; it is moved.
        settings: ensemble, time step, length.
        folder: for the results; one with a run in it is never overwritten.
        potential: name of the model, kept with the checkpoint.
        resume: go on from the folder's checkpoint.
        conservative: False where the forces are no gradient; `nve` and `npt` then refuse.
    Raises:
        ConfigError: a folder with a run in it or with another owner, or a checkpoint of another run.
        NotConservativeError: constant energy or pressure asked of forces that are no gradient.
        GeometryError: constant pressure along a direction that is not periodic.
        DivergedError: the simulation has exploded; frames and checkpoint up to there stay.
    """
    _require_possible(atoms, settings, conservative)
    run = _Run(atoms, settings, folder, potential)
    with owned(folder, "mlanet md"), Signals() as signals, signals.keyboard():
        if resume:
            run.resume()
        else:
            run.start()
        if run.blank:
            yield run.record()
            run.save()
        while run.step < settings.steps:
            run.advance()
            if run.on_grid or run.step == settings.steps:
                yield run.record()
            if run.step % settings.checkpoint_every == 0 or run.step == settings.steps or signals.take_save():
                run.save()
            if signals.take_stop():
                run.save()
                if signals.interrupted:
                    raise KeyboardInterrupt
                return


class _Run:
    """Atoms, integrator and files of one simulation."""

    def __init__(self, atoms: Atoms, settings: DynamicsSettings, folder: Path, potential: str) -> None:
        self.atoms, self.settings, self.folder, self.potential = atoms, settings, folder, potential
        self.rng = np.random.default_rng(settings.seed)
        self.step = 0
        self.sizes: dict[str, int] = {}
        self.dynamics: MolecularDynamics

    @property
    def blank(self) -> bool:
        """Whether no frame has been kept yet."""
        return not self.sizes

    @property
    def on_grid(self) -> bool:
        """Whether this step has its frame; the last one of a run has one too, which goes when the run is prolonged."""
        return self.step % self.settings.every == 0

    def start(self) -> None:
        """Velocities, integrator, and the checkpoint, so that there is no instant at which the run cannot go on."""
        there = [name for name in (TRAJECTORY, LOG, CHECKPOINT) if (self.folder / name).exists()]
        if CHECKPOINT in there:
            raise ConfigError(
                f"{self.folder} holds a simulation already; go on with --resume, or choose another folder"
            )
        if there:
            raise ConfigError(f"{self.folder} holds {' and '.join(there)} of another run; choose another folder")
        if not self.settings.keep_velocities:
            draw_velocities(self.atoms, self.settings, self.rng)
        self.dynamics = integrator(self.atoms, self.settings, self.rng)
        self.atoms.get_forces()  # a structure that the calculator refuses is no run yet
        self.save()

    def resume(self) -> None:
        """Back to the checkpoint, and the files with it."""
        kept = state.read(self.folder / CHECKPOINT, self.settings, self.potential, self.atoms)
        kept.restore(self.atoms)
        self.rng.bit_generator.state = kept.rng
        self.dynamics = integrator(self.atoms, self.settings, self.rng)
        remind(self.dynamics, kept.arrays)
        self.step, self.sizes = kept.step, kept.sizes
        if self.step >= self.settings.steps and not self.on_grid:
            return  # it ended before, with a frame of its own
        for name in (TRAJECTORY, LOG):
            path, size = self.folder / name, kept.sizes.get(name, 0)
            if size and (not path.is_file() or path.stat().st_size < size):
                raise ConfigError(f"{path}: is shorter than when the checkpoint was written; the run cannot go on")
            with writing(path):
                cut_back(path, size)

    def advance(self) -> None:
        """One step, with a look at whether it made sense."""
        try:
            self.dynamics.step()  # type: ignore[attr-defined]  # every integrator has it, their base does not
        except GeometryError as error:
            self._exploded(error)
        self.step += 1
        if not np.isfinite(self.atoms.positions).all():
            self._exploded(GeometryError("positions are not finite"))
        temperature = self.atoms.get_temperature()
        if not temperature <= max(HOTTEST, 10 * self.settings.temperature):
            self._exploded(GeometryError(f"the temperature is {temperature:.0f} K"))

    def record(self) -> Moment:
        """A frame and a line, flushed."""
        atoms, moment = self.atoms, self._moment()
        frame = atoms.copy()
        frame.calc = SinglePointCalculator(atoms, **true_results(atoms))
        frame.info |= {"step": self.step, "time_ps": moment.time}
        self._append(TRAJECTORY, frame_text(frame, f"step {self.step}"))
        if self.blank:
            self._append(LOG, COLUMNS + "\n")
        numbers = (moment.potential, moment.kinetic, moment.potential + moment.kinetic, moment.conserved)
        cells = [str(self.step), repr(moment.time), *map(repr, numbers), repr(moment.temperature)]
        cells += ["" if math.isnan(value) else repr(value) for value in (moment.pressure, moment.volume)]
        self._append(LOG, ",".join(cells) + "\n")
        if self.on_grid:
            self.sizes = {name: (self.folder / name).stat().st_size for name in (TRAJECTORY, LOG)}
        return moment

    def save(self) -> None:
        """The checkpoint, after the frames that it relies on."""
        for name in self.sizes:
            with writing(self.folder / name):
                sync(self.folder / name)
        atoms = self.atoms
        arrays = {"positions": atoms.positions, "momenta": atoms.get_momenta(), "cell": atoms.cell.array}
        arrays |= {"numbers": atoms.numbers, **memory(self.dynamics)}
        now = State(arrays, self.step, dict(self.rng.bit_generator.state), self.sizes)
        state.write(self.folder / CHECKPOINT, now, self.settings, self.potential)

    def _moment(self) -> Moment:
        atoms = self.atoms
        potential, kinetic = float(atoms.get_potential_energy()), float(atoms.get_kinetic_energy())
        conserved = potential + kinetic - float(getattr(self.dynamics, "transferred_energy", 0.0))
        if hasattr(self.dynamics, "get_conserved_energy"):
            conserved = float(self.dynamics.get_conserved_energy())
        volume, pressure = math.nan, math.nan
        if atoms.pbc.any() and abs(np.linalg.det(atoms.cell.array)) > 0:
            volume = float(atoms.get_volume())
            with contextlib.suppress(PropertyNotImplementedError):
                pressure = -float(atoms.get_stress(include_ideal_gas=True)[:3].mean()) / units.GPa
        time_ps = self.step * self.settings.timestep / 1000
        return Moment(
            self.step, time_ps, potential, kinetic, conserved, float(atoms.get_temperature()), pressure, volume
        )

    def _append(self, name: str, text: str) -> None:
        """All of it, or an error and the file as it was."""
        with writing(self.folder / name):
            append_whole(self.folder / name, text.encode())

    def _exploded(self, reason: GeometryError) -> None:
        time_ps = self.step * self.settings.timestep / 1000
        said = named(reason, f"step {self.step} ({time_ps:.3f} ps)")
        raise DivergedError(
            f"{said}; the simulation has exploded. Frames up to here are in "
            f"{self.folder / TRAJECTORY}. Try a smaller timestep, a relaxed start, or a model trained near such states"
        )


def _require_possible(atoms: Atoms, settings: DynamicsSettings, conservative: bool) -> None:
    """Refuse before the first step."""
    if settings.ensemble == "nve" and not conservative:
        raise NotConservativeError(
            "nve: the forces of this model are a direct head, not the gradient of its energy, so no energy is "
            "conserved; use a thermostat (langevin, bussi), or a model with `forces: gradient`"
        )
    if settings.ensemble == "npt":
        _require_pressure(atoms, settings, conservative)
    if settings.keep_velocities and not atoms.has("momenta"):
        raise ConfigError("keep_velocities: the structure has no velocities")
    if settings.ensemble == "bussi" and settings.keep_velocities and not atoms.get_kinetic_energy() > 0:
        raise ConfigError("bussi rescales velocities, and those of the structure are all zero")


def _require_pressure(atoms: Atoms, settings: DynamicsSettings, conservative: bool) -> None:
    """Constant pressure needs periods along what may move, and a stress that is the gradient of an energy."""
    named = [axis in settings.cell for axis in "abc"]
    moves = np.array(named if settings.cell not in ("isotropic", "full") else [True] * 3)
    if not (atoms.pbc[moves].all() and abs(np.linalg.det(atoms.cell.array)) > 0):
        free = ", ".join("abc"[k] for k in range(3) if not atoms.pbc[k])
        raise GeometryError(
            "npt: constant pressure needs a cell that is periodic in three directions"
            + (f"; this one is not along {free}: let only periodic vectors change, as cell ab" if free else "")
        )
    lengths = atoms.cell.lengths()
    cosines = np.abs(atoms.cell.array @ atoms.cell.array.T) / np.outer(lengths, lengths) - np.eye(3)
    if moves.sum() and settings.cell not in ("isotropic", "full") and cosines[moves].max() > 1e-6:
        raise GeometryError(
            f"npt: cell {settings.cell} changes lengths of vectors at right angles to all others, which they are not "
            "here; use full or isotropic"
        )
    empty = {axis: gap for axis, gap in empty_axes(atoms).items() if moves["abc".index(axis)]}
    if settings.pressure and (empty or not atoms.pbc.all()):
        along = "".join(f": {gap:.1f} Å along {axis}" for axis, gap in [*empty.items()][:1])
        raise GeometryError(f"npt: a pressure other than 0 has no meaning where there is empty space{along}")
    if len(empty) == moves.sum():
        gap = f"{min(empty.values()):.1f} Å or more along {', '.join(empty)}"
        raise GeometryError(f"npt: nothing fills the cell that pressure is to act on: {gap} are empty; use nose-hoover")
    if not conservative:
        raise NotConservativeError(
            "npt: forces and stress of this model are direct heads, not the gradient of its energy, so its pressure is "
            "not that of its energy and the cell drifts; use nose-hoover or bussi, or a model with `forces: gradient`"
        )


def throughput(started: float, steps: int, timestep: float) -> tuple[float, float]:
    """(ms per step, ns per day) of `steps` since `started` (time.monotonic)."""
    seconds = max(time.monotonic() - started, 1e-9)
    per_step = seconds / max(steps, 1)
    return 1e3 * per_step, timestep * 1e-6 / per_step * 86400
