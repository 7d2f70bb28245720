"""`mlanet check`: the laws, on a user's model."""

from __future__ import annotations

import ase.io
import pytest
from ase import Atoms
from ase.build import bulk

from mlanet.cli.check import _conclusion
from mlanet.laws import LawResult


@pytest.mark.slow
def test_a_sound_model_keeps_the_laws(mlanet, model) -> None:
    """Every law on a given structure, float32 weights taken to float64, exit status 0."""
    ase.io.write("al.extxyz", bulk("Al", cubic=True))
    result = mlanet("check", "-m", model, "al.extxyz", "--json")
    laws = {one["law"] for one in result.document["laws"]}
    assert result.status == 0 and result.document["broken"] == 0
    assert {"rotation", "forces", "stress", "supercell", "last neighbour"} <= laws


def test_the_last_line_says_what_holds() -> None:
    """A law is named once, however many structures break it, and apart where it is not promised."""

    def measured(law: str, deviation: float, promised: bool = True) -> LawResult:
        return LawResult(law, deviation < 1e-6, deviation, 1e-6, "crystal", promised)

    kept = [measured("rotation", 0.0), measured("forces", 1e-9), measured("forces", 0.0)]
    assert _conclusion(kept) == "all that this model promises holds: 2 laws measured"
    given_up = [*kept, measured("reciprocity", 1.0, promised=False)]
    assert _conclusion(given_up).endswith("3 laws measured; broken, and not promised: reciprocity")
    broken = [*given_up, measured("stress", 1.0), measured("stress", 2.0)]
    assert _conclusion(broken) == "BROKEN: stress; broken, and not promised: reciprocity"


@pytest.mark.parametrize(
    ("atoms", "said"),
    [
        (bulk("Fe"), "the model was not trained on Fe (first at atom 0)"),
        (Atoms("Al2", [[0, 0, 0], [0, 0, 0.01]]), "atoms 0 and 1 overlap"),
    ],
)
def test_a_structure_of_which_nothing_can_be_said_is_named(mlanet, model, atoms: Atoms, said: str) -> None:
    """File and frame, before a law is measured."""
    ase.io.write("wrong.extxyz", atoms)
    result = mlanet("check", "-m", model, "wrong.extxyz")
    assert result.status == 2 and f"error: wrong.extxyz, frame 0: {said}" in result.err


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
    assert result.document["files"] == ["curves/Li-Si.csv"]
    assert result.document["pictures"] == ["curves/diatomics.png"]
    assert "not trained on Au" in mlanet("check", "-m", "elemental", "--pairs", "Au").err
    assert mlanet("check", "-m", "elemental", "-o", "curves").status == 2
