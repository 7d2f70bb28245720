"""The packaged model for all elements: it answers for the examples, keeps to the laws, and crystals keep their size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.data import chemical_symbols
from ase.io import read

import mlanet
from mlanet.checkpoint import load_model, model_path, packaged_models, read_model_header
from mlanet.laws import LAWS, promised, run_laws
from mlanet.laws.law import ask, ask_all
from mlanet.potential import Potential

EXAMPLES = sorted((Path(mlanet.__file__).parent / "examples").iterdir())

LATTICE = {
    "Cu": 3.63,
    "Al": 4.04,
    "Si": 5.47,
    "MgO": 4.25,
    "NaCl": 5.69,
    "GaAs": 5.75,
    "Fe": 2.84,
    "W": 3.19,
    "TiC": 4.34,
}
"""Å, cubic, as PBE has them."""


@pytest.fixture(scope="module")
def potential() -> Potential:
    """In float64."""
    return load_model(model_path(mlanet.DEFAULT_MODEL), dtype=torch.float64)


def crystal(name: str, size: float) -> Atoms:
    """One of `LATTICE`."""
    kind = {"MgO": "rocksalt", "NaCl": "rocksalt", "TiC": "rocksalt", "GaAs": "zincblende"}.get(name)
    return bulk(name, kind, a=size) if kind else bulk(name, a=size)


def test_it_is_the_default_and_small(potential: Potential) -> None:
    """In the calculator too; 80 elements or more; a card that says what it is of; at most 6 MB."""
    assert mlanet.DEFAULT_MODEL in packaged_models() and len(potential.species) >= 80
    assert mlanet.MLANetCalculator().potential.species == potential.species
    header = read_model_header(model_path(mlanet.DEFAULT_MODEL))
    assert {"name", "teacher", "data", "data licence", "not for"} <= set(header.card)
    assert model_path(mlanet.DEFAULT_MODEL).stat().st_size < 6e6
    assert potential.conservative and header.statistics.lone_atoms is None


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_bound(potential: Potential, path: Path) -> None:
    """By some eV per atom, and not far from rest."""
    answer = ask(potential, read(path))
    references = dict(zip(potential.species, potential.statistics.references, strict=True))
    atoms = read(path)
    cohesion = (answer.energy - sum(references[z] for z in atoms.numbers)) / len(atoms)
    assert -10 < cohesion < -1
    assert np.abs(answer.forces).max() < 2


@pytest.mark.parametrize("name", LATTICE)
def test_crystals_have_their_size(potential: Potential, name: str) -> None:
    """The lowest energy lies within 2.5 % of the lattice constant."""
    factors = np.linspace(0.95, 1.05, 11)
    energies = [one.energy for one in ask_all(potential, [crystal(name, f * LATTICE[name]) for f in factors])]
    least = int(np.argmin(energies))
    assert 0 < least < 10
    a, b, _ = np.polyfit(factors[least - 1 : least + 2], energies[least - 1 : least + 2], 2)
    assert -b / (2 * a) == pytest.approx(1.0, abs=0.025)


@pytest.mark.parametrize("name", ["Cu", "TiC", *(pytest.param(name, marks=pytest.mark.slow) for name in ("Si", "MgO"))])
def test_laws_hold(potential: Potential, name: str) -> None:
    """All promised ones, the wall and compression among them."""
    results = list(run_laws(potential, {name: crystal(name, LATTICE[name])}))
    assert not [one for one in results if one.promised and not one.holds]
    assert {"wall", "compression"} <= promised(potential) <= {law.name for law in LAWS}


def test_no_dimer_falls_together(potential: Potential) -> None:
    """Any element with itself, at half the sum of its covalent radii and nearer."""
    from ase.data import covalent_radii

    dimers = [
        Atoms([z, z], [[0, 0, 0], [factor * 2 * covalent_radii[z], 0, 0]])
        for z in potential.species
        for factor in (0.3, 0.4, 0.5)
    ]
    pulled = [one for one, a in zip(dimers, ask_all(potential, dimers), strict=True) if a.forces[1, 0] <= 0]
    assert not pulled, [chemical_symbols[one.numbers[0]] for one in pulled]


def test_a_lone_atom_has_its_reference(potential: Potential) -> None:
    """Free atoms as PBE has them."""
    for z, reference in zip(potential.species, potential.statistics.references, strict=True):
        assert ask(potential, Atoms([z])).energy == pytest.approx(reference, abs=1e-9)
