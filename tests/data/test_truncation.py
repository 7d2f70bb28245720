"""Files cut short, of every format that can be written: none is read as another structure without a word, but those
whose text announces nothing."""

from __future__ import annotations

import warnings
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from mlanet.data.read import read_frames
from mlanet.errors import DataError, MLANetError

FORMATS = {
    "a.extxyz": "extxyz",
    "a.cif": "cif",
    "POSCAR": "vasp",
    "XDATCAR": "vasp-xdatcar",
    "a.res": "res",
    "a.cell": "castep-cell",
    "a.xsf": "xsf",
    "a.cube": "cube",
    "a.traj": "traj",
    "a.json": "json",
    "a.pdb": "proteindatabank",
    "a.gen": "gen",
    "a.gro": "gromacs",
    "a.mol": "mol",
    "a.sdf": "sdf",
    "a.nwi": "nwchem-in",
}
"""All but geometry.in of FHI-aims, where each line may be the last."""


def crystal() -> Atoms:
    """Eight atoms, no two alike."""
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


def read(place: Path) -> tuple[list[Atoms], bool]:
    """What is read, and whether there was a warning."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found = [frame.atoms for frame in read_frames(place)]
    return found, any("cut short" in str(one.message) for one in heard)


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_missing_is_told(name: str, tmp_path: Path) -> None:
    """After any line the same atoms, within a line as many, an error that names the file, or of a CIF a warning."""
    place = tmp_path / name
    ase.io.write(place, crystal(), format=FORMATS[name])
    (whole,), warned = read(place)
    assert not warned and len(whole) == 8
    data = place.read_bytes()
    lines = [] if b"\0" in data else [k + 1 for k, one in enumerate(data[:-1]) if one == 10]
    for end in {*lines, *(len(data) * k // 9 for k in range(1, 9))}:
        place.write_bytes(data[:end])
        try:
            found, warned = read(place)
        except MLANetError as error:
            assert str(place) in str(error)
            continue
        assert [len(one) for one in found] == [8] or warned, f"cut after {end} of {len(data)} bytes"
        if end in lines and not warned:  # within the last line a number may have lost its last digits
            apart = [one.get_distances(0, range(8), mic=True) for one in (whole, found[0])]
            assert np.allclose(*apart)


def test_others_are_read(tmp_path: Path) -> None:
    """Molecules with bonds, files with more behind the end, or CIFs whose formula leaves hydrogen to its atoms."""
    for name in ("a.mol", "a.pdb"):
        ase.io.write(tmp_path / name, molecule("CH3CH2OH"), format=FORMATS[name])
        place = tmp_path / name
        place.write_text(place.read_text() + "\n")
        assert len(read(place)[0][0]) == 9
    place = tmp_path / "a.cif"
    ase.io.write(place, crystal())
    for formula, known in (("Na1 Cl1", True), ("Cl Na", True), ("H4 Na2 Cl2", True), ("Na2 Cl1", False)):
        text = place.read_text()
        at = text.index("_chemical_formula_sum")
        place.write_text(text[:at] + f"_chemical_formula_sum '{formula}'" + text[text.index("\n", at) :])
        assert read(place)[1] is not known


def test_the_reason_is_said(tmp_path: Path) -> None:
    """A search of AIRSS that was stopped while it wrote."""
    place = tmp_path / "a.res"
    ase.io.write(place, crystal())
    place.write_text(place.read_text().replace("END\n", ""))
    with pytest.raises(DataError, match=r"a\.res: cut short: its last line is no END"):
        list(read_frames(place))
