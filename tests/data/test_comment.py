"""Keys of extended XYZ that are almost right are refused with the right spelling; right ones and others are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlanet.data.read import read_frames
from mlanet.errors import DataError, UnsupportedElementError

NINE = '"4 0 0 0 4 0 0 0 4"'
LATTICE = f"Lattice={NINE}"
COLUMNS = "Properties=species:S:1:pos:R:3"


def frame(tmp_path: Path, comment: str, row: str = "Si 1 1 1") -> Path:
    path = tmp_path / "a.extxyz"
    path.write_text(f"1\n{comment}\n{row}\n")
    return path


WRONG = {
    "Lattice=": [
        *(f"{key}={NINE}" for key in ("lattice", "LATTICE", "Latice", "cell", "Cell", "CELL", "unit_cell", "box")),
        *(f"{key}={NINE}" for key in ("lattice_vectors", "cell_vectors", "Lattice_vectors")),
        'cell="4 4 4"',
        'cell="4 4 4 90 90 90"',
        "cell=[[4,0,0],[0,4,0],[0,0,4]]",
        'cell="_JSON [[4, 0, 0], [0, 4, 0], [0, 0, 4]]"',
        "# CELL(abcABC): 4 4 4 90 90 90 Step: 0 positions{angstrom}",
        "# cell{H}: 4 0 0 0 4 0 0 0 4",
    ],
    "Properties=": [
        *(f"{LATTICE} {key}=species:S:1:pos:R:3:forces:R:3" for key in ("properties", "PROPERTIES", "Propertes")),
        f"{LATTICE} columns=species:S:1:pos:R:3",
    ],
    "pbc=": [
        *(f'{LATTICE} {COLUMNS} {key}="T T F"' for key in ("PBC", "Pbc", "periodic", "boundary")),
        *(
            f'{LATTICE} {COLUMNS} pbc="{value}"'
            for value in ("TTT", "FFF", "t t f", "yes no no", "2 0 0", "T T", "p p f")
        ),
    ],
    "'pos'": [f"{LATTICE} Properties=species:S:1:{name}:R:3" for name in ("Pos", "coords", "xyz", "POSITIONS")],
    "'species'": [f"{LATTICE} Properties={name}:S:1:pos:R:3" for name in ("Species", "symbol", "element", "type")],
}


@pytest.mark.parametrize(("right", "comment"), [(right, one) for right, all_ in WRONG.items() for one in all_])
def test_near_misses_are_refused_with_the_right_spelling(tmp_path: Path, right: str, comment: str) -> None:
    """Read as ASE reads them, they are a cluster, another periodicity, or atoms at the origin, without a word."""
    row = "Si 1 1 1 0 0 0"
    with pytest.raises(DataError, match=rf"a\.extxyz, frame 0: .*{right}") as caught:
        list(read_frames(frame(tmp_path, comment, row)))
    assert not isinstance(caught.value, UnsupportedElementError)


@pytest.mark.parametrize(
    ("comment", "periodic"),
    [
        (f'{LATTICE} {COLUMNS} pbc="T F T"', "TFT"),
        (f"{LATTICE} {COLUMNS} pbc=F", "FFF"),
        (f'{LATTICE} {COLUMNS} pbc="1 1 0"', "TTF"),
        (f'{LATTICE} {COLUMNS} pbc="True False True"', "TFT"),
        (f'{LATTICE} cell="1 2 3" lattice=fcc {COLUMNS}', "TTT"),
        (f"{COLUMNS} cell=primitive lattice=fcc box=3 properties=metallic", "FFF"),
        ("supercell(2x2x2) of silicon, cell (relaxed)", "FFF"),
        ("", "FFF"),
        ("Properties=pos:R:3:Z:I:1", "FFF"),
    ],
)
def test_right_keys_and_other_words_are_read(tmp_path: Path, comment: str, periodic: str) -> None:
    """What cannot be a cell or columns is info, and a key beside the right one changes nothing."""
    row = "1 1 1 14" if "Z:I" in comment else "Si 1 1 1"
    (found,) = read_frames(frame(tmp_path, comment, row))
    assert "".join("FT"[int(one)] for one in found.atoms.pbc) == periodic
    assert found.atoms.positions == pytest.approx(1.0) and found.atoms.numbers[0] == 14
