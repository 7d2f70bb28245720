"""Diffusion against temperature: laws that are put in come out, errors are as large as they say, doubt is told."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.units import _e, _k, _Nav, kB

from mlanet.dynamics.diffusion import Diffusion
from mlanet.errors import DataError
from mlanet.properties import Mobility, arrhenius, mobilities
from mlanet.properties.transport import Sample
from mlanet.properties.transport_files import Wanted, transport, transport_drawing, write_transport

PREFACTOR, BARRIER = 2e-7, 0.3
"""m²/s and eV."""


def law(temperature: float) -> float:
    return PREFACTOR * np.exp(-BARRIER / (kB * temperature))


def mobility(temperature: float, value: float, error: float, doubt: str = "") -> Mobility:
    return Mobility("Li", temperature, value, error, 1, 9.0, 1.0, 0.02, doubt)


def test_the_fit_finds_the_law_and_knows_its_errors() -> None:
    """Exact points give the law; noisy ones scatter around it by the errors that are given, at any temperature."""
    kelvin = np.array([600.0, 750.0, 900.0, 1200.0])
    exact = arrhenius([mobility(t, law(t), 0.1 * law(t)) for t in kelvin])
    assert exact.energy == pytest.approx(BARRIER, rel=1e-10) and exact.prefactor == pytest.approx(PREFACTOR, rel=1e-9)
    rng, scores = np.random.default_rng(0), []
    for _ in range(300):
        noise = rng.normal(0, 0.1, len(kelvin))
        found = arrhenius(
            [mobility(t, law(t) * np.exp(n), 0.1 * law(t) * np.exp(n)) for t, n in zip(kelvin, noise, strict=True)]
        )
        value, error = found.at(400)
        scores.append(
            ((found.energy - BARRIER) / exact.energy_error, (np.log(value) - np.log(law(400))) / (error / value))
        )
    assert np.std(scores, axis=0)[0] == pytest.approx(1, abs=0.12)
    assert 0.6 < np.std(scores, axis=0)[1] < 1.1  # errors widen where a line does not fit, and never shrink
    assert np.allclose(np.mean(scores, axis=0), 0, atol=0.25)


def test_points_in_doubt_are_left_out_and_too_few_are_no_fit() -> None:
    good = [mobility(t, law(t), 0.1 * law(t)) for t in (800.0, 1000.0)]
    doubtful = mobility(600.0, 1e-7, 1e-8, "too short to tell")
    found = arrhenius([doubtful, *good])
    assert found.points == 2 and found.energy == pytest.approx(BARRIER) and found.numbers["misfit"] is None
    with pytest.raises(DataError, match="Li: D is known at 1 of 2 temperatures"):
        arrhenius([doubtful, good[0]])


def test_conductivity_is_that_of_nernst_and_einstein() -> None:
    """σ = F² c z² D/(R T), with moles and faradays."""
    one = mobility(700.0, 3e-10, 3e-11)
    value, error = one.conductivity(2.0)
    concentration = 0.02e30 / _Nav
    assert value == pytest.approx((_Nav * _e) ** 2 * concentration * 4 * 3e-10 / (_Nav * _k * 700), rel=1e-6)
    assert error == pytest.approx(0.1 * value)


def sample(lag: np.ndarray, msd: np.ndarray, value: float, error: float, temperature: float = 800.0) -> Sample:
    return Sample(Diffusion("Li", value, error, lag, msd, (0.1 * lag[-1], 0.5 * lag[-1])), temperature, 0.02)


def test_what_is_too_short_or_too_small_is_said() -> None:
    """Vibration, subdiffusion, flight, a D within its error; a straight line well above all that is none of them."""
    lag = np.linspace(0.1, 20, 200)
    for msd, value, error, words in (
        (np.full(200, 0.05), 1e-12, 1e-13, "too small to tell: in 10 ps atoms move by 0.22 Å"),
        (3 * lag**0.3, 1e-9, 1e-11, "grow as t^0.30"),
        (lag**2, 1e-8, 1e-10, "grow as t^2.00"),
        (lag, 1e-10, 1e-10, "D is below 3.0e-10 m²/s"),
        (lag, 1e-9, 1e-10, ""),
    ):
        (found,) = mobilities([sample(lag, msd, value, error)])
        assert words in found.doubt and bool(found.doubt) == bool(words)


def test_runs_at_one_temperature_are_averaged() -> None:
    """Near temperatures are one, others not; three that scatter have the error of their scatter."""
    lag = np.linspace(0.1, 20, 200)
    values = (1e-9, 2e-9, 3e-9)
    runs = [sample(lag, lag, v, 1e-10, 800 + k) for k, v in enumerate(values)] + [sample(lag, lag, 5e-9, 1e-10, 900)]
    first, second = mobilities(runs)
    assert first.runs == 3 and first.coefficient == pytest.approx(2e-9) and first.temperature == pytest.approx(801)
    assert first.error == pytest.approx(np.std(values, ddof=1) / np.sqrt(3))
    assert second.runs == 1 and second.temperature == 900


def walk(path, temperature: float, seed: int, frames: int = 120, walkers: int = 40) -> None:  # type: ignore[no-untyped-def]
    """Random walkers among heavy atoms that stay, in a periodic box, with velocities of the temperature."""
    from ase.io import write
    from ase.md.velocitydistribution import thermalize_momenta

    rng, spacing = np.random.default_rng(seed), 0.1
    step = np.sqrt(2 * law(temperature) * 1e8 * spacing)  # Å along each axis in 0.1 ps
    atoms = Atoms(f"Li{walkers}W20", rng.uniform(0, 20, (walkers + 20, 3)), cell=[20, 20, 20], pbc=True)
    written = []
    for k in range(frames):
        atoms.positions[:walkers] += rng.normal(0, step, (walkers, 3))
        thermalize_momenta(atoms, temperature, rng=rng)
        frame = atoms.copy()
        frame.wrap()
        frame.info["time_ps"] = k * spacing
        written.append(frame)
    write(path, written)


def test_random_walks_from_files(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """D, activation energy and prefactor of walks that have them, within a few errors; what stays is in doubt."""
    runs = []
    for k, kelvin in enumerate((600.0, 800.0, 1100.0)):
        runs.append(tmp_path / f"{kelvin:.0f}.extxyz")
        walk(runs[-1], kelvin, seed=k)
    found = transport(runs, Wanted(charges={"Li": 1.0}, at=(300.0,), discard=0.0))
    lithium = [one for one in found.points if one.element == "Li"]
    for point in lithium:
        assert not point.doubt, point
        assert abs(point.coefficient - law(point.temperature)) < 5 * point.error + 0.1 * point.coefficient
        assert point.error < 0.5 * point.coefficient
    (fit,) = found.fits
    assert fit.element == "Li" and abs(fit.energy - BARRIER) < 3 * fit.energy_error + 0.01 and fit.energy_error < 0.1
    assert all(one.doubt for one in found.points if one.element == "W") and any(
        "W at" in text for text in found.remarks
    )
    cold = found.document["arrhenius"][0]["extrapolated"][0]
    assert cold["temperature_K"] == 300 and cold["conductivity_S_per_m"] > 0
    names = [path.name for path in write_transport(tmp_path / "out", found)]
    assert names == ["diffusion.csv", "result.json"]
    transport_drawing(tmp_path / "out", found).draw()
    assert (tmp_path / "out" / "diffusion.png").exists()
    with pytest.raises(DataError, match=r"600\.extxyz: no Na in"):
        transport(runs, Wanted(elements=("Na",)))
    messages: list[str] = []
    (tmp_path / "broken.extxyz").write_text("3\n")
    rest = transport([tmp_path / "broken.extxyz", runs[0]], Wanted(), lambda error: messages.append(str(error)))
    assert len(messages) == 1 and "broken.extxyz" in messages[0] and len(rest.points) == 2
