"""`mlanet neb`: from a structure and a hop to a folder, which a second run goes on with."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk, graphene

from mlanet.properties.hops import images_near

HOP = ("neb", "al.cif", "--repeat", "2x2x2", "--vacancy", 0, "--images", 3, "--dtype", "float64")


@pytest.fixture
def metal() -> None:
    ase.io.write("al.cif", bulk("Al", "fcc", 4.04))


def test_a_vacancy_with_the_packaged_model(mlanet, metal) -> None:
    """Stopped, gone on with, and then only read: the barrier is alike both ways, and files say what is printed."""
    early = mlanet(*HOP, "--steps", 1, "--json")
    assert early.status == 1 and not early.document["converged"]
    assert "not converged after 1 steps" in early.err and "go on with: mlanet neb al.cif" in early.err
    whole = mlanet(*HOP, "--json")
    found = whole.document
    assert whole.status == 0 and "going on with the 3 images" in whole.err and found["converged"]
    assert found["barrier_eV"] == pytest.approx(found["barrier_back_eV"], abs=1e-6)
    assert 0 < found["barrier_eV"] < early.document["barrier_eV"]
    assert found["extrapolation"] in ("inside", "edge", "outside")
    images = ase.io.read("neb/path.extxyz", ":")
    energies = np.array([one.get_potential_energy() for one in images])
    assert energies.max() - energies[0] == pytest.approx(found["barrier_eV"], abs=1e-6)
    with open("neb/profile.csv") as file:
        rows = [[float(one) for one in row.values()] for row in csv.DictReader(file)]
    assert np.allclose(rows, found["profile_A_eV"])
    assert json.loads(Path("neb/result.json").read_text())["barrier_eV"] == found["barrier_eV"]
    assert Path("neb/barrier.png").exists()
    again = mlanet(*HOP)
    assert again.status == 0 and again.err.count("eV/Å") == 1 and "barrier, eV" in again.out
    other = mlanet("neb", "al.cif", "--repeat", "2x2x2", "--vacancy", 0, "--to", 3, "--images", 4)
    assert other.status == 2 and "images (was 3, now 4)" in other.err and "--output" in other.err
    other = mlanet("neb", "al.cif", "--repeat", "2x2x2", "--vacancy", 1, "--images", 3)
    assert other.status == 2 and "the structure at the start is another one" in other.err


def test_what_is_asked_wrongly_is_said(mlanet, metal) -> None:
    """Two ends and a hop at once, none, half of one, a place that is none, an atom that is not there, other files."""
    for words, reason in (
        ((), "give one of END, --vacancy and --hop"),
        (("al.cif", "--vacancy", 0), "give one of END"),
        (("--hop", 0), "--into"),
        (("--hop", 0, "--into", "0.5,0.5"), "is not of the form 0.5,0.5,0.25"),
        (("al.cif", "--to", 1), "--vacancy"),
        (("--vacancy", 7), "al.cif, last frame: has no atom 7"),
        (("--vacancy", 0), "only one of its element"),
        (("al.cif",), "same structure"),
    ):
        given = mlanet("neb", "al.cif", *words)
        assert given.status == 2 and reason in given.err.replace("\n", " ").replace("│ ", ""), words
    assert not Path("neb/path.extxyz").exists() and not Path("neb/settings.json").exists()


@pytest.mark.parametrize(
    ("crystal", "copies"),
    [
        (bulk("Al", "fcc", 4.04, cubic=True), "2x2x2"),
        (bulk("Si", "diamond", 5.43), "2x2x2"),
        (bulk("Mg", "hcp", 3.21, 5.21), "3x3x2"),
        (graphene(vacuum=8.0), "3x3x1"),
    ],
    ids=["cubic", "skewed", "hexagonal", "sheet"],
)
def test_a_hop_among_its_own_images_is_refused(mlanet, crystal, copies) -> None:
    """With the supercell that is large enough, in which nothing is said; both ends may be given as they are."""
    ase.io.write("small.extxyz", crystal)
    refused = mlanet("neb", "small.extxyz", "--vacancy", 0, "--steps", 1)
    assert refused.status == 2 and f"--repeat {copies}" in refused.err and not Path("neb").exists()
    numbers = tuple(int(one) for one in copies.split("x"))
    assert images_near(crystal.repeat(numbers), True) == ""
    assert all(
        images_near(crystal.repeat((*numbers[:k], numbers[k] - 1, *numbers[k + 1 :])), False)
        for k in range(3)
        if numbers[k] > 1
    )
    assert "act on each other" in images_near(crystal, False)
