"""`mlanet check`: the laws, on a user's model."""

from __future__ import annotations

import ase.io
import pytest
from ase.build import bulk


@pytest.mark.slow
def test_a_sound_model_keeps_the_laws(mlanet, model) -> None:
    """Every law on a given structure, float32 weights taken to float64, exit status 0."""
    ase.io.write("al.extxyz", bulk("Al", cubic=True))
    result = mlanet("check", "-m", model, "al.extxyz", "--json")
    laws = {one["law"] for one in result.document["laws"]}
    assert result.status == 0 and result.document["broken"] == 0
    assert {"rotation", "forces", "stress", "supercell", "last neighbour"} <= laws


def test_a_structure_too_large_is_refused(mlanet, model) -> None:
    """Finite differences of a thousand atoms would take hours: said at once."""
    ase.io.write("many.extxyz", bulk("Al", cubic=True) * (4, 4, 4))
    result = mlanet("check", "-m", model, "many.extxyz")
    assert result.status == 2 and "256 atoms" in result.err


def test_curves_of_two_atoms(mlanet) -> None:
    """A line, a table and a picture; what is asked wrongly is said."""
    result = mlanet("check", "-m", "elemental", "--pairs", "Li-Si", "-o", "curves", "--json")
    (pair,) = result.document["pairs"]
    assert result.status == 0 and pair["pair"] == "Li-Si" and pair["conservation_deviation_eV_per_A"] < 1e-3
    assert result.document["files"] == ["curves/Li-Si.csv", "curves/diatomics.png"]
    assert "not trained on Au" in mlanet("check", "-m", "elemental", "--pairs", "Au").err
    assert mlanet("check", "-m", "elemental", "-o", "curves").status == 2
