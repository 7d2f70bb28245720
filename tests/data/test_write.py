"""What is written is what the calculator said, on lines that every reader takes for one frame."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import (
    FixAtoms,
    FixBondLengths,
    FixCartesian,
    FixCom,
    FixedLine,
    FixedPlane,
    FixScaled,
    FixSymmetry,
    Hookean,
)

from mlanet.data.atoms import to_labels
from mlanet.data.constrained_forces import without_projected
from mlanet.data.read import read_frames
from mlanet.data.write import frame_text, true_results
from mlanet.errors import DataError

CONSTRAINTS: dict[str, Callable[[Atoms], object]] = {
    "atoms": lambda _: FixAtoms([0, 2]),
    "Cartesian": lambda _: FixCartesian([1], mask=[True, False, True]),
    "scaled": lambda _: FixScaled([1], mask=[False, True, False]),
    "plane": lambda _: FixedPlane(0, [1, 1, 0]),
    "line": lambda _: FixedLine([0, 3], [1, 0, 0]),
    "centre": lambda _: FixCom(),
    "bonds": lambda _: FixBondLengths([[0, 1]]),
    "symmetry": lambda atoms: FixSymmetry(atoms),
    "spring": lambda _: Hookean(0, 1, k=5.0, rt=1.0),
}
HOLDING = ("atoms", "Cartesian", "scaled", "plane", "line")


def copper() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_constraints_change_nothing_that_is_stored(tmp_path: Path, name: str) -> None:
    """Energy, forces and stress under any constraint are those without it, in memory and after writing and reading."""
    free, held = copper(), copper()
    free.calc, held.calc = EMT(), EMT()
    held.set_constraint(CONSTRAINTS[name](bulk("Cu", cubic=True) if name == "symmetry" else held))
    wanted, said = true_results(free), true_results(held)
    held.get_stress()
    path = tmp_path / "a.extxyz"
    path.write_text(frame_text(held))
    (frame,) = read_frames(path)
    labels = to_labels(frame.atoms)
    for quantity, value in wanted.items():
        assert said[quantity] == pytest.approx(value, abs=1e-12)
        stored = getattr(labels, quantity)[0] if quantity != "forces" else labels.forces
        stored = stored[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] if quantity == "stress" else stored
        assert stored.numpy() == pytest.approx(value, abs=1e-7)


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_forces_that_were_projected_are_no_labels(name: str) -> None:
    """Zeros that a constraint has put there are left out, and said; true forces never are, nor are forces all zero."""
    atoms = copper()
    atoms.calc = EMT()
    true = atoms.get_forces()
    atoms.set_constraint(CONSTRAINTS[name](bulk("Cu", cubic=True) if name == "symmetry" else atoms))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert np.array_equal(without_projected(true, atoms, "a.extxyz, frame 0"), true)
        assert np.array_equal(without_projected(0 * true, atoms, "a.extxyz, frame 0"), 0 * true)
        assert not caught
        found = without_projected(atoms.get_forces(), atoms, "a.extxyz, frame 7")
    assert np.isnan(found).any() == (name in HOLDING) == bool(caught)
    known = np.isfinite(found)
    if name in HOLDING:
        assert found[known] == pytest.approx(true[known])
        assert "a.extxyz: forces on atoms that a constraint holds" in str(caught[0].message)


def test_projected_forces_of_a_file_are_not_compared(tmp_path: Path) -> None:
    """As ASE users write them, with `get_forces()` under another name, and as frames with a move_mask bring them."""
    atoms = copper()
    atoms.set_constraint(FixAtoms([0]))
    atoms.calc = EMT()
    plain = atoms.copy()
    plain.arrays["REF_forces"] = atoms.get_forces()
    ase.io.write(tmp_path / "a.extxyz", plain)
    (frame,) = read_frames(tmp_path / "a.extxyz")
    with pytest.warns(UserWarning, match="held|holds"):
        labels = to_labels(frame.atoms)
    assert labels.forces.isnan().any(1).tolist() == [True, False, False, False]


def test_a_frame_is_as_many_lines_as_it_says() -> None:
    """Line breaks of any kind in info become spaces; the file is read back by ASE and by us."""
    atoms = copper()
    atoms.info |= {f"note{k}": f"a{mark}b" for k, mark in enumerate("\n\r\x0b\x0c\x1c\x85\u2028\u2029")}
    text = frame_text(atoms)
    assert len(text.splitlines()) == text.count("\n") == len(atoms) + 2
    assert "a b" in text


def test_what_a_database_nests_is_not_lost(tmp_path: Path) -> None:
    """Arrays in a row's data, which ASE's writer drops with a warning, are written and found as labels."""
    with ase.db.connect(tmp_path / "set.db") as database:
        database.write(copper(), REF_energy=-14.0, data={"REF_forces": np.full((4, 3), 0.25)})
    (frame,) = read_frames(tmp_path / "set.db")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (tmp_path / "a.extxyz").write_text(frame_text(frame.atoms))
    (again,) = read_frames(tmp_path / "a.extxyz")
    labels = to_labels(again.atoms)
    assert float(labels.energy) == -14.0 and labels.forces.eq(0.25).all()


def test_what_extxyz_cannot_hold_is_refused() -> None:
    """Two energies, and text that would tear a row, name the frame; equal values and large arrays are written."""
    atoms = copper()
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    atoms.info["energy"] = -1.0
    atoms.arrays["tensor"] = np.arange(36.0).reshape(4, 3, 3)
    assert "tensor:R:9" in frame_text(atoms) and "energy=-1.0" in frame_text(atoms)
    atoms.info["energy"] = -2.0
    with pytest.raises(DataError, match="here: 'energy' stands there twice"):
        frame_text(atoms, "here")
    atoms.info.clear()
    atoms.arrays["site"] = np.array(["a", "b c", "d", "e"])
    with pytest.raises(DataError, match="here: 'site' of the atoms"):
        frame_text(atoms, "here")
