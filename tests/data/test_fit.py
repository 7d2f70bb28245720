"""References, scales and neighbour counts are those of the data, and ambiguity is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from mlanet.data.dataset import sample_of
from mlanet.data.fit import crowded_atoms, fit_statistics
from mlanet.data.read import Frame
from mlanet.data.samples import Sample
from mlanet.errors import ConfigError, DataError

TRUE = {"H": -13.6, "C": -1029.4, "O": -2043.25}
NAMES = ("H2O", "CH4", "CO2", "CH3OH", "H2", "C2H6", "O2")


def sample(atoms: Atoms, **results: object) -> Sample:
    """A sample at a cutoff of 3 Å with given labels."""
    atoms = atoms.copy()
    atoms.calc = SinglePointCalculator(atoms, **results)
    return sample_of(Frame(atoms, "here"), 3.0)


def additive(names: tuple[str, ...] = NAMES) -> list[Sample]:
    """Molecules whose energy is exactly the sum of references."""
    return [sample(m, energy=sum(TRUE[s] for s in m.get_chemical_symbols())) for m in map(molecule, names)]


def test_least_squares_recovers_exactly() -> None:
    """Where the energies are sums of references, the references come out to 1e-9 eV, without warnings on them."""
    statistics, warnings = fit_statistics(additive())
    assert statistics.species == (1, 6, 8)
    np.testing.assert_allclose(statistics.references, list(TRUE.values()), atol=1e-9)
    assert not any("determine" in text for text in warnings)


def test_ridge_is_near() -> None:
    """The ridge pulls towards the mean energy per atom, by a few meV here."""
    statistics, _ = fit_statistics(additive(), "ridge")
    np.testing.assert_allclose(statistics.references, list(TRUE.values()), atol=0.05)


@pytest.mark.parametrize("method", ["lstsq", "ridge"])
def test_rank_warning(method: str) -> None:
    """Only water: two references, one equation; a warning says so, and the sum is right all the same."""
    statistics, warnings = fit_statistics(additive(("H2O", "H2O")), method)
    assert any("determine only 1 of 2 reference energies (H O)" in text for text in warnings)
    h, o = statistics.references
    assert 2 * h + o == pytest.approx(2 * TRUE["H"] + TRUE["O"], rel=1e-3 if method == "ridge" else 1e-12)


def test_isolated_atoms() -> None:
    """Single-atom frames give the references; a missing or contradictory one is an error naming the element."""
    isolated = [sample(Atoms(symbol), energy=energy) for symbol, energy in TRUE.items()]
    statistics, _ = fit_statistics([*additive(), *isolated], "isolated")
    np.testing.assert_allclose(statistics.references, list(TRUE.values()), atol=0)
    with pytest.raises(DataError, match="no labelled single-atom frame for C"):
        fit_statistics([*additive(), isolated[0], isolated[2]], "isolated")
    with pytest.raises(DataError, match="second isolated H"):
        fit_statistics([*isolated, sample(Atoms("H"), energy=-12.0)], "isolated")


def test_given_references(tmp_path: Path) -> None:
    """A mapping, a YAML file and a JSON file mean the same; none means zeros."""
    (tmp_path / "e0.yaml").write_text("\n".join(f"{symbol}: {energy}" for symbol, energy in TRUE.items()))
    (tmp_path / "e0.json").write_text(json.dumps(TRUE))
    for given in (TRUE, str(tmp_path / "e0.yaml"), str(tmp_path / "e0.json")):
        statistics, _ = fit_statistics(additive(), given)
        assert statistics.references == tuple(TRUE.values())
    assert fit_statistics(additive(), "none")[0].references == (0.0, 0.0, 0.0)


def test_bad_references(tmp_path: Path) -> None:
    """Unknown methods, files, symbols and values are errors that say what is known; missing elements are named."""
    with pytest.raises(ConfigError, match="'lstsqq'; did you mean 'lstsq'"):
        fit_statistics(additive(), "lstsqq")
    with pytest.raises(ConfigError, match="no such file"):
        fit_statistics(additive(), str(tmp_path / "no.yaml"))
    with pytest.raises(ConfigError, match="'Hh' is no chemical symbol"):
        fit_statistics(additive(), {"Hh": 1.0})
    with pytest.raises(ConfigError, match="reference of H is '-13.6'"):
        fit_statistics(additive(), {"H": "-13.6"})  # type: ignore[dict-item]
    with pytest.raises(DataError, match="no reference energy given for C, O"):
        fit_statistics(additive(), {"H": -13.6})


def test_references_of_another_level_are_told() -> None:
    """References that leave hundreds of eV per atom over cannot belong to the data."""
    _, warnings = fit_statistics(additive(), {"H": -1.0, "C": -5.0, "O": -7.0})
    assert any("another level of theory" in text for text in warnings)


def test_scales_and_neighbours() -> None:
    """scale = RMS of the force components, stress_scale = RMS of the nine components, n̄ = edges per atom."""
    forces = np.array([[3.0, 0, 0], [-3.0, 0, 0]])
    cell = bulk("Cu", cubic=True)
    stress = np.array([0.3, 0.3, 0.3, 0, 0, 0])
    samples = [sample(molecule("H2"), energy=0.0, forces=forces), sample(cell, energy=0.0, stress=stress)]
    statistics, _ = fit_statistics(samples)
    assert statistics.scale == (pytest.approx(3 / 3**0.5),) * 2
    assert statistics.stress_scale == pytest.approx(0.3 / 3**0.5)
    assert statistics.mean_neighbors == pytest.approx((2 * 1 + 4 * 12) / 6)


def test_scale_without_forces() -> None:
    """Without forces the energy per atom that references leave over sets the scale; without anything it is 1."""
    samples = [sample(bulk("Cu"), energy=energy) for energy in (-3.0, -3.2)]
    statistics, warnings = fit_statistics(samples)
    assert statistics.scale == (pytest.approx(0.1),) and any("no forces" in text for text in warnings)
    assert fit_statistics(samples[:1])[0].scale == (1.0,)
    assert fit_statistics([sample(Atoms("H"), energy=1.0)])[0].mean_neighbors == 1.0


def test_species() -> None:
    """More species than the data have is allowed (with a warning), fewer is an error."""
    statistics, warnings = fit_statistics(additive(), species=(1, 6, 7, 8))
    assert statistics.species == (1, 6, 7, 8) and any("no labelled energy with N" in text for text in warnings)
    with pytest.raises(DataError, match="not among the model's species: O"):
        fit_statistics(additive(), species=(1, 6))


def test_no_energies() -> None:
    """References cannot be fitted to forces alone; an empty set is an error."""
    with pytest.raises(DataError, match="no structure has an energy"):
        fit_statistics([sample(molecule("H2"), forces=np.ones((2, 3)))])
    with pytest.raises(DataError, match="no samples"):
        fit_statistics([])


def test_isolated_atoms_are_the_default() -> None:
    """Lone atoms of every element become references by themselves; where one is missing, a fit and a word on it."""
    isolated = [sample(Atoms(symbol), energy=energy) for symbol, energy in TRUE.items()]
    statistics, warnings = fit_statistics([*additive(), *isolated])
    assert statistics.references_from == "isolated" and statistics.lone_atoms is None
    assert statistics.references == tuple(TRUE.values()) and not any("least squares" in text for text in warnings)
    statistics, warnings = fit_statistics([*additive(), *isolated[:2]])
    assert statistics.references_from == "lstsq" and "least squares" in str(statistics.lone_atoms)
    assert any("no isolated atom of O" in text for text in warnings)
    assert fit_statistics(additive(), TRUE)[0].lone_atoms is None


def test_isolated_atom_that_sees_its_images() -> None:
    """In a box narrower than the cutoff an isolated atom is named as that, and is not called missing."""
    crowded = sample(Atoms("H", cell=[2.5] * 3, pbc=True), energy=-13.0)
    others = [sample(Atoms(symbol), energy=TRUE[symbol]) for symbol in "CO"]
    with pytest.raises(DataError, match="isolated H sees its own images at 2.50 Å"):
        fit_statistics([*additive(), crowded, *others], "isolated")
    statistics, warnings = fit_statistics([*additive(), crowded, *others])
    assert statistics.references_from == "lstsq" and any("sees its own images" in text for text in warnings)
    crystal = sample(bulk("Cu"), energy=-3.0)
    assert crowded_atoms([crystal]) == [] and len(crowded_atoms([crowded])) == 1
