"""Simulations keep what they should, stop when they must, and go on to the bit."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.io import read

from mlanet.calculator import MLANetCalculator
from mlanet.dynamics import DynamicsSettings, Moment, simulate
from mlanet.dynamics.integrators import per_ps
from mlanet.dynamics.summary import read_log, summarize
from mlanet.errors import CheckpointError, ConfigError, DivergedError, GeometryError, NotConservativeError

ENSEMBLES = ("nve", "langevin", "bussi", "nose-hoover", "npt")


def copper(copies: int = 2) -> Atoms:
    atoms = bulk("Cu", cubic=True) * copies
    atoms.calc = EMT()
    return atoms


def silicon() -> Atoms:
    """With our calculator and its skin: pairs come in the same order whenever they were looked up."""
    atoms = bulk("Si", cubic=True)
    atoms.calc = MLANetCalculator("elemental", skin=0.5)
    return atoms


def settings(**changes: object) -> DynamicsSettings:
    base = DynamicsSettings(ensemble="nve", temperature=300.0, timestep=2.0, steps=40, every=5, checkpoint_every=10)
    return msgspec.structs.replace(base, **changes)


def run(atoms: Atoms, folder: Path, wanted: DynamicsSettings, **more: object) -> list[Moment]:
    return list(simulate(atoms, wanted, folder, **more))  # type: ignore[arg-type]


def test_constant_energy(tmp_path: Path) -> None:
    """NVE: the total energy fluctuates by far less than the kinetic one, and less with half the time step, squared."""
    spreads = []
    for step in (4.0, 2.0):
        moments = run(copper(), tmp_path / str(step), settings(timestep=step, steps=int(400 / step), every=1))
        total = np.array([one.potential + one.kinetic for one in moments])
        kinetic = np.array([one.kinetic for one in moments])
        assert total.std() < 0.02 * kinetic.std()
        spreads.append(total.std())
    assert 3.0 < spreads[0] / spreads[1] < 5.0


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", ["langevin", "bussi", "nose-hoover"])
def test_thermostats_reach_their_temperature(ensemble: str, tmp_path: Path) -> None:
    """From a relaxed crystal at 300 K, half the heat flows into the springs and the thermostat brings it back."""
    wanted = settings(ensemble=ensemble, steps=600, every=2, timestep=4.0, friction=20.0, relaxation=50.0)
    moments = run(copper(), tmp_path / "a", wanted)
    late = np.array([one.temperature for one in moments[150:]])
    # 96 degrees of freedom: σ(T) = T √(2/96) = 43 K, a few dozen of the 150 frames are independent.
    assert abs(late.mean() - 300) < 40
    assert 20 < late.std() < 80


def test_friction_is_per_picosecond(tmp_path: Path) -> None:
    """Langevin at 0 K: the velocity of a free atom decays as e^{−γt}."""
    atoms = Atoms("Ar", [[0, 0, 0]], momenta=[[1.0, 0, 0]])
    atoms.calc = LennardJones()
    wanted = settings(
        ensemble="langevin", temperature=0.0, timestep=1.0, steps=100, friction=10.0, keep_velocities=True
    )
    run(atoms, tmp_path / "a", wanted)
    assert atoms.get_momenta()[0, 0] == pytest.approx(np.exp(-10.0 * 0.1), rel=1e-5)
    assert per_ps(10.0) == pytest.approx(0.01 / units.fs)


@pytest.mark.slow
def test_pressure_is_reached(tmp_path: Path) -> None:
    """NPT at 10 GPa compresses the crystal to where its own pressure, with that of the motion, averages to 10 GPa."""
    wanted = settings(
        ensemble="npt", pressure=10.0, steps=500, timestep=4.0, relaxation=50.0, pressure_relaxation=200.0
    )
    moments = run(copper(), tmp_path / "a", wanted)
    late = moments[len(moments) // 2 :]
    assert np.mean([one.pressure for one in late]) == pytest.approx(10.0, abs=1.5)
    assert late[-1].volume < 0.96 * moments[0].volume
    # Integrated with a long time step: kept far better than the work of compression, some 3 eV.
    assert abs(late[-1].conserved - moments[0].conserved) < 0.3


@pytest.mark.parametrize("cell", ["isotropic", "full", "abc"])
def test_constant_pressure_conserves_and_pushes(cell: str, tmp_path: Path) -> None:
    """The conserved quantity errs less with half the time step, squared, and far less than energy goes in."""
    spreads = []
    for step in (4.0, 2.0):
        wanted = settings(ensemble="npt", cell=cell, pressure=10.0, timestep=step, steps=int(160 / step), every=1)
        wanted = msgspec.structs.replace(wanted, relaxation=50.0, pressure_relaxation=200.0)
        atoms = bulk("Cu", cubic=True)
        atoms.calc = EMT()
        moments = run(atoms, tmp_path / f"{step}", wanted)
        kept = np.array([one.conserved for one in moments])
        spreads.append(np.abs(kept - kept[0]).max())
        assert moments[-1].volume < moments[0].volume
        assert spreads[-1] < 0.05 * np.ptp([one.potential + one.kinetic for one in moments])
    assert 2.5 < spreads[0] / spreads[1] < 6


@pytest.mark.parametrize("cell", ["isotropic", "full", "c"])
def test_pressure_moves_what_it_is_told_to(cell: str, tmp_path: Path) -> None:
    """Lengths and angles of a crystal that is not cubic: all in proportion, any, or the lengths that are named."""
    atoms = bulk("Ti", "hcp", a=2.95, c=4.68).repeat((2, 2, 1))
    atoms.numbers[:] = 29
    atoms.calc = EMT()
    before = atoms.cell.cellpar()
    wanted = settings(ensemble="npt", cell=cell, pressure=5.0, pressure_relaxation=200.0, steps=20)
    run(atoms, tmp_path / "a", wanted)
    moved = np.abs(atoms.cell.cellpar() / before - 1) > 1e-9
    if cell == "isotropic":
        assert np.ptp(atoms.cell.lengths() / before[:3]) < 1e-9 and moved[:3].all()
    elif cell == "full":
        assert moved.all() and np.ptp(atoms.cell.lengths() / before[:3]) > 1e-6
    else:
        assert moved.tolist() == [axis in cell for axis in "abc"] + [False] * 3


@pytest.mark.parametrize(
    "words", [{"ensemble": one} for one in ENSEMBLES] + [{"ensemble": "npt", "cell": one} for one in ("full", "ab")]
)
def test_resume_is_exact(words: dict[str, str], tmp_path: Path) -> None:
    """Left at step 15 with the last checkpoint at 10: frames, log and end equal those of one run, to the bit."""
    wanted = settings(**words)
    whole = silicon()
    run(whole, tmp_path / "whole", wanted)
    part = silicon()
    for moment in (moments := simulate(part, wanted, tmp_path / "part")):
        if moment.step == 15:
            moments.close()
            break
    with open(tmp_path / "part" / "trajectory.extxyz", "a") as file:
        file.write("8\ntorn frame")
    rest = silicon()
    run(rest, tmp_path / "part", wanted, resume=True)
    assert np.array_equal(whole.positions, rest.positions)
    assert np.array_equal(whole.get_momenta(), rest.get_momenta())
    for name in ("trajectory.extxyz", "log.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "part" / name).read_bytes()


def test_longer_after_the_end(tmp_path: Path) -> None:
    """A finished run goes on when it is asked for more steps."""
    run(silicon(), tmp_path / "a", settings(steps=10))
    run(silicon(), tmp_path / "a", settings(steps=20), resume=True)
    run(silicon(), tmp_path / "b", settings(steps=20))
    assert (tmp_path / "a" / "trajectory.extxyz").read_bytes() == (tmp_path / "b" / "trajectory.extxyz").read_bytes()


def test_trajectory_is_complete_and_read_back(tmp_path: Path) -> None:
    """Every frame has step, time, energy, forces, stress and momenta; the last is where the atoms are."""
    atoms = copper()
    run(atoms, tmp_path / "a", settings())
    frames = read(tmp_path / "a" / "trajectory.extxyz", ":")
    assert [frame.info["step"] for frame in frames] == list(range(0, 41, 5))
    assert [frame.info["time_ps"] for frame in frames] == pytest.approx([0.002 * k for k in range(0, 41, 5)])
    last = frames[-1]
    assert last.positions == pytest.approx(atoms.positions, abs=1e-7)
    assert last.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-7)
    assert last.get_forces() == pytest.approx(atoms.get_forces(), abs=1e-7)
    assert last.get_momenta() == pytest.approx(atoms.get_momenta(), abs=1e-7)
    assert last.get_stress() == pytest.approx(atoms.get_stress(), abs=1e-7)


def test_velocities_of_the_start(tmp_path: Path) -> None:
    """Drawn at the temperature by seed without drift or spin, or kept."""
    one, same, other, kept = (molecule("C60") for _ in range(4))
    for atoms in (one, same, other, kept):
        atoms.calc = LennardJones(sigma=1.2, epsilon=0.1)
    kept.set_momenta(np.ones((60, 3)))
    runs = [(one, 0, False), (same, 0, False), (other, 1, False), (kept, 0, True)]
    for index, (atoms, seed, keep) in enumerate(runs):
        wanted = settings(steps=1, timestep=1e-9, seed=seed, keep_velocities=keep)
        run(atoms, tmp_path / str(index), wanted)
    assert np.array_equal(one.get_momenta(), same.get_momenta())
    assert not np.allclose(one.get_momenta(), other.get_momenta())
    assert np.abs(one.get_momenta().sum(axis=0)).max() < 1e-9
    assert np.abs(one.get_angular_momentum()).max() < 1e-6
    assert one.get_temperature() == pytest.approx(300, rel=0.3)
    assert kept.get_momenta() == pytest.approx(np.ones((60, 3)), abs=1e-6)


def test_explosion_is_said_and_loses_nothing(tmp_path: Path) -> None:
    """Two atoms thrown at each other: a typed error with step and time, frames and checkpoint readable."""
    atoms = Atoms("Ar2", [[0, 0, 0], [0.3, 0, 0]])
    atoms.calc = LennardJones()
    with pytest.raises(DivergedError, match=r"step \d+ .* ps\).*exploded"):
        run(atoms, tmp_path / "a", settings(timestep=10.0, every=1))
    assert len(read(tmp_path / "a" / "trajectory.extxyz", ":")) >= 1
    assert (tmp_path / "a" / "checkpoint.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"timestep": -1.0}, "timestep must be positive"),
        ({"steps": 0}, "steps must be positive"),
        ({"every": 0}, "every must be positive"),
        ({"temperature": -5.0}, "temperature must be zero or positive"),
        ({"ensemble": "bussi", "temperature": 0.0}, "temperature must be positive for bussi"),
        ({"pressure": float("nan")}, "pressure must be finite"),
    ],
)
def test_impossible_settings(changes: dict[str, object], message: str) -> None:
    """Each names its key."""
    words: dict[str, object] = {"ensemble": "nve", **changes}
    with pytest.raises(ValueError, match=message):
        DynamicsSettings(**words)  # type: ignore[arg-type]


def test_refusals(tmp_path: Path) -> None:
    """Before the first step, with what can be done instead."""
    with pytest.raises(NotConservativeError, match="direct head.*langevin"):
        run(copper(), tmp_path / "a", settings(), conservative=False)
    ethanol = molecule("CH3CH2OH")
    ethanol.calc = EMT()
    slab = bulk("Cu", cubic=True)
    slab.calc, slab.pbc = EMT(), [True, True, False]
    with pytest.raises(GeometryError, match="not along c: let only periodic vectors change, as cell ab"):
        run(slab, tmp_path / "a", settings(ensemble="npt"))
    with pytest.raises(GeometryError, match="empty space"):
        run(slab, tmp_path / "a", settings(ensemble="npt", cell="ab", pressure=1.0))
    boxed = Atoms("Cu", cell=[12, 12, 12], pbc=True)
    thick = bulk("Cu", cubic=True)
    thick.center(vacuum=6.0, axis=2)
    for alone in (boxed, thick):
        alone.calc = EMT()
        with pytest.raises(GeometryError, match=r"empty space: 1\d\.\d Å along [ac]"):
            run(alone, tmp_path / "a", settings(ensemble="npt", pressure=1.0))
    with pytest.raises(GeometryError, match="nothing fills the cell .*: 12.0 Å or more along a, b, c"):
        run(boxed, tmp_path / "a", settings(ensemble="npt"))
    skewed = bulk("Cu")
    skewed.calc = EMT()
    with pytest.raises(GeometryError, match="cell abc .* right angles"):
        run(skewed, tmp_path / "a", settings(ensemble="npt", cell="abc"))
    with pytest.raises(NotConservativeError, match="npt.*direct heads"):
        run(copper(), tmp_path / "a", settings(ensemble="npt"), conservative=False)
    with pytest.raises(GeometryError, match="npt.*periodic"):
        run(ethanol, tmp_path / "a", settings(ensemble="npt"))
    with pytest.raises(ConfigError, match="has no velocities"):
        run(copper(), tmp_path / "a", settings(keep_velocities=True))
    with pytest.raises(CheckpointError, match="no checkpoint"):
        run(copper(), tmp_path / "a", settings(), resume=True)
    run(copper(), tmp_path / "a", settings(steps=10))
    with pytest.raises(ConfigError, match="holds a simulation already"):
        run(copper(), tmp_path / "a", settings())
    with pytest.raises(ConfigError, match=r"temperature \(was 300.0, now 400.0\)"):
        run(copper(), tmp_path / "a", settings(temperature=400.0), resume=True)
    with pytest.raises(ConfigError, match="other atoms"):
        run(copper(1), tmp_path / "a", settings(), resume=True)
    with pytest.raises(ConfigError, match="was run with .*, not other"):
        run(copper(), tmp_path / "a", settings(), resume=True, potential="other")
    (tmp_path / "a" / "checkpoint.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="not a checkpoint of a simulation"):
        run(copper(), tmp_path / "a", settings(), resume=True)


def test_summary_finds_a_drift() -> None:
    """A log with a known slope and temperature."""
    time = np.linspace(0, 10, 501)
    wave = np.sin(20 * time)
    log = {"step": 2 * np.arange(501.0), "time_ps": time, "conserved_eV": 0.03 * time, "kinetic_eV": 1 + 0.1 * wave}
    log |= {"temperature_K": 300 + 5 * wave, "potential_eV": -8 + 0 * time, "pressure_GPa": np.full(501, 2.0)}
    found = summarize(log, 10)
    assert found["drift_meV_per_atom_per_ps"] == pytest.approx(3.0, rel=1e-9)
    assert found["drift_over_kinetic_spread"] == pytest.approx(0.03 * 8 / (0.1 / np.sqrt(2)), rel=0.02)
    assert found["temperature_K"] == pytest.approx(300, abs=0.5)
    assert found["pressure_GPa"] == pytest.approx(2.0)
    assert found["potential_eV_per_atom"] == pytest.approx(-0.8)
    assert "drift_meV_per_atom_per_ps" not in summarize(log, 10, conserved=False)


def test_log_is_read_back(tmp_path: Path) -> None:
    """The columns of a run without a cell: pressure and volume are NaN."""
    atoms = molecule("CO")
    atoms.calc = EMT()
    moments = run(atoms, tmp_path / "a", settings(timestep=0.5, steps=10))
    log = read_log(tmp_path / "a")
    assert log["potential_eV"].tolist() == [one.potential for one in moments]
    assert np.isnan(log["pressure_GPa"]).all()


def test_a_conservative_model_conserves_energy(tmp_path: Path) -> None:
    """NVE with a network's forces: the total energy wanders with the square of the time step, and does not drift."""
    spreads = []
    for step in (4.0, 2.0):
        atoms = bulk("Si", cubic=True)
        atoms.rattle(0.1, seed=0)
        atoms.calc = MLANetCalculator("elemental", dtype="float64", skin=0.5)
        moments = run(atoms, tmp_path / str(step), settings(timestep=step, steps=int(200 / step), every=1))
        total = np.array([one.potential + one.kinetic for one in moments])
        spreads.append(total.std())
        assert total.std() < 0.05 * np.std([one.kinetic for one in moments])
    assert 3.0 < spreads[0] / spreads[1] < 5.0
