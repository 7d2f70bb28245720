"""Any file that ASE reads, any number of frames; damaged ones say which file, frame and atom."""

from __future__ import annotations

import gzip
import itertools
import lzma
import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlanet.data.atoms import to_graph, to_labels
from mlanet.data.read import read_frames
from mlanet.errors import DataError, GeometryError, MLANetError, UnsupportedElementError

WATER = """3
Properties=species:S:1:pos:R:3:forces:R:3 energy=-14.2 pbc="F F F"
O 0.0 0.0 0.119 0.0 0.0 0.1
H 0.0 0.763 -0.477 0.0 0.0 -0.05
H 0.0 -0.763 -0.477 0.0 0.0 -0.05
"""


def test_extxyz_round_trip(copper: list[Atoms], write: Callable[..., Path]) -> None:
    """Frames come back in order with their place in the file, positions, cell and labels."""
    frames = list(read_frames(write(copper)))
    assert [frame.where.rpartition(", ")[2] for frame in frames] == [f"frame {k}" for k in range(60)]
    for frame, atoms in zip(frames, copper, strict=True):
        np.testing.assert_allclose(frame.atoms.positions, atoms.positions, atol=1e-8)
        np.testing.assert_allclose(frame.atoms.cell.array, atoms.cell.array, atol=1e-8)
        np.testing.assert_allclose(to_labels(frame.atoms).stress, to_labels(atoms).stress, atol=1e-8)


@pytest.mark.parametrize(
    ("index", "expected"),
    [(":", range(60)), ("0", [0]), ("-1", [59]), ("::20", [0, 20, 40]), ("-2:", [58, 59]), ("2:4", [2, 3])],
)
def test_index(copper: list[Atoms], write: Callable[..., Path], index: str, expected: object) -> None:
    """ASE's index syntax, and frame numbers that stay those of the file."""
    frames = list(read_frames(write(copper), index=index))
    assert [int(frame.where.split()[-1]) for frame in frames] == list(expected)  # type: ignore[call-overload]


@pytest.mark.parametrize("index", ["60", "70:", "x"])
def test_index_of_nothing(copper: list[Atoms], write: Callable[..., Path], index: str) -> None:
    """An index that selects nothing is an error, not an empty result."""
    with pytest.raises(DataError, match=f"index '?{index}"):
        list(read_frames(write(copper), index=index))


@pytest.mark.parametrize("suffix", [".xz", ".gz"])
def test_compressed_in_linear_time(tmp_path: Path, suffix: str) -> None:
    """600 compressed frames take little more than 300: reading never seeks backwards."""
    opener = {".xz": lzma.open, ".gz": gzip.open}[suffix]
    seconds = {}
    for n in (300, 600):
        path = tmp_path / f"{n}.extxyz{suffix}"
        with opener(path, "wt") as stream:
            stream.write(WATER * n)
        start = time.process_time()
        assert sum(1 for _ in read_frames(path)) == n
        seconds[n] = time.process_time() - start
    assert seconds[600] < 3.5 * seconds[300] and seconds[600] < 5.0


def test_streaming_stops_early(tmp_path: Path) -> None:
    """The first frames of a file are there before the rest is looked at, even where the rest is damaged."""
    path = tmp_path / "a.xyz"
    path.write_text(WATER * 3 + "garbage\n")
    assert len(list(itertools.islice(read_frames(path), 3))) == 3
    with pytest.raises(DataError, match="frame 3: expected the number of atoms, found 'garbage'"):
        list(read_frames(path))


def test_other_formats(tmp_path: Path) -> None:
    """CIF, POSCAR, plain xyz, trajectories and compressed versions of them give the same crystal."""
    crystal = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    for name, kind in (("a.cif", "cif"), ("POSCAR", "vasp"), ("b.vasp", "vasp"), ("c.traj", "traj"), ("d.xyz", None)):
        path = tmp_path / name
        ase.io.write(path, crystal, format=kind)
        (frame,) = read_frames(path)
        assert sorted(frame.atoms.numbers) == sorted(crystal.numbers)
        assert frame.where == f"{path}, frame 0"
        if kind in ("cif", "vasp"):
            packed = tmp_path / f"{name}.gz"
            packed.write_bytes(gzip.compress(path.read_bytes()))
            (again,) = read_frames(packed)
            assert to_graph(again.atoms, 4.0).n_edges == to_graph(crystal, 4.0).n_edges


def test_ase_database(tmp_path: Path) -> None:
    """Rows of an sqlite database bring their labels: from the calculator, and from nested data and key-value pairs."""
    path = tmp_path / "set.db"
    with ase.db.connect(path) as database:
        for k in range(5):
            database.write(
                molecule("H2O"), REF_energy=-14.0 - k, data={"REF_forces": np.full((3, 3), 0.1 * k)}, traj=f"t{k}"
            )
    frames = list(read_frames(path))
    assert len(frames) == 5 and frames[3].where == f"{path}, frame 3"
    labels = to_labels(frames[3].atoms)
    assert float(labels.energy) == -17.0 and float(labels.forces[2, 2]) == pytest.approx(0.3)
    assert [frame.where[-1] for frame in read_frames(path, index="1:3")] == ["1", "2"]
    for index, energies in (("-1", [-18.0]), ("2", [-16.0]), ("-2:", [-17.0, -18.0])):
        found = [float(to_labels(frame.atoms).energy) for frame in read_frames(path, index=index)]
        assert found == energies
    with pytest.raises(DataError, match="no frames at index 7"):
        list(read_frames(path, index="7"))


DAMAGED = {
    "text energy": (WATER + WATER.replace("-14.2", "-1.5D0"), DataError, r"frame 1: 'energy' is the text '-1.5D0'"),
    "text force": (WATER.replace("0.0 0.0 0.1\n", "0.0 0.0 0.1D0\n"), DataError, "frame 0"),
    "stars": (WATER.replace("0.763", "*****"), DataError, "frame 0"),
    "truncated": (WATER + WATER[: WATER.rindex("H")], DataError, "frame 1: truncated: 2 of 3 atom lines"),
    "cut in a line": (WATER + WATER[:-12], DataError, "frame 1, atom 2: 5 columns instead of 7"),
    "header only": (WATER + "3\n", DataError, "frame 1: truncated: 0 of 3"),
    "NaN position": (WATER * 2 + WATER.replace("0.119", "nan"), GeometryError, r"frame 2, atom 0 \(O\)"),
    "unknown symbol": (WATER + WATER.replace("\nO ", "\nXx "), UnsupportedElementError, "frame 1, atom 0.*'Xx'"),
    "dummy": (WATER.replace("\nO ", "\nX "), UnsupportedElementError, "frame 0, atom 0: atomic number 0"),
    "no atoms": (WATER + "0\nenergy=1\n", GeometryError, "frame 1: no atoms"),
    "negative": ("-3\n" + WATER, DataError, "frame 0: -3 atoms"),
    "zero cell": (
        WATER.replace('pbc="F F F"', 'pbc="T T T" Lattice="0 0 0 0 0 0 0 0 0"'),
        GeometryError,
        "frame 0: periodic along abc",
    ),
    "blank": ("\n\n", DataError, "no frames"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_frames(tmp_path: Path, name: str) -> None:
    """Every kind of damage is a typed error that names file, frame and where possible the atom."""
    text, error, message = DAMAGED[name]
    path = tmp_path / "broken.extxyz"
    path.write_text(text)
    with pytest.raises(error, match=message) as caught:
        list(read_frames(path))
    assert str(caught.value).startswith(str(path))


def test_damaged_files(tmp_path: Path) -> None:
    """Missing, empty, unknown, binary and corrupted files are errors that name the file."""
    good = lzma.compress(WATER.encode() * 50)
    cases = {
        "missing.xyz": (None, "no such file"),
        "empty.extxyz": (b"", "empty"),
        "empty.cif": (b"", "empty"),
        "what.unknown": (b"hello", "format"),
        "binary.extxyz": (bytes(range(128, 256)), "binary.extxyz"),
        "cut.extxyz.xz": (good[: len(good) // 2], "damaged|truncated"),
        "flipped.extxyz.xz": (good[:90] + bytes([good[90] ^ 255]) + good[91:], "damaged|unreadable"),
        "nonsense.cif": (b"data_x\n_cell_length_a abc\n", "nonsense.cif"),
        "prose.cif": (b"hello\n", r"prose\.cif: cannot be read as 'cif': its text does not follow that format"),
        "cut.cif": (b"data_x\n_cell_length_a\n", r"cut\.cif: cannot be read as 'cif': it is cut short"),
        "POSCAR": (b"title\nnot a number\n", "POSCAR"),
        "fake.db": (b"not a database" * 100, "fake.db"),
        "fake.traj": (b"not a trajectory" * 100, "fake.traj"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            list(read_frames(path))


def test_blank_lines_lose_no_frame(tmp_path: Path) -> None:
    """Blank lines between frames, where ASE's own reader stops silently, are passed over."""
    path = tmp_path / "a.extxyz"
    path.write_text(WATER + "\n\n" + WATER + "\n")
    assert len(list(read_frames(path))) == 2


def test_disordered_cif(tmp_path: Path) -> None:
    """Partial occupancies, which ASE would fill up silently, are refused."""
    path = tmp_path / "d.cif"
    ase.io.write(path, bulk("NaCl", "rocksalt", a=5.6), format="cif")
    path.write_text(path.read_text().replace("1.0000", "0.5000"))
    with pytest.raises(DataError, match=r"site 0 is disordered \(Na 0\.5\); .*choose an ordered supercell"):
        list(read_frames(path))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.integers(0, len(WATER) * 2 - 1), st.text(max_size=3), st.integers(0, 4))
def test_fuzzed_files_never_crash(tmp_path: Path, place: int, text: str, cut: int) -> None:
    """Any edit of a file is either read as finite structures or refused with a typed error naming the file."""
    whole = WATER * 2
    path = tmp_path / "fuzz.extxyz"
    path.write_text(whole[:place] + text + whole[place + cut :], encoding="utf-8", errors="replace")
    try:
        for frame in read_frames(path):
            assert np.isfinite(frame.atoms.positions).all() and len(frame.atoms) > 0
            to_labels(frame.atoms, where=frame.where)
    except MLANetError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["a.extxyz", "a.extxyz.gz", "a.cif", "a.xsf", "POSCAR"])
def test_marks_of_editors(tmp_path: Path, name: str, encoding: str) -> None:
    """A byte order mark in front of a text, which Windows editors write, changes nothing."""
    crystal = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    kind = {"a.cif": "cif", "a.xsf": "xsf", "POSCAR": "vasp"}.get(name, "extxyz")
    ase.io.write(tmp_path / "plain", crystal, format=kind)
    data = (tmp_path / "plain").read_text().encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    (frame,) = read_frames(tmp_path / name)
    assert sorted(frame.atoms.numbers) == sorted(crystal.numbers)
    assert frame.atoms.cell.lengths() == pytest.approx([5.6] * 3)


@pytest.mark.parametrize("mark", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_a_comment_ends_with_its_line(tmp_path: Path, mark: str) -> None:
    """What Python's splitlines, but no reader of XYZ, takes for the end of a line is a part of the comment."""
    path = tmp_path / "a.extxyz"
    path.write_text(WATER.replace("energy=-14.2", f'energy=-14.2 note="a{mark}b"') * 2, encoding="utf-8")
    frames = list(read_frames(path))
    assert [len(frame.atoms) for frame in frames] == [3, 3] and frames[0].atoms.info["note"] == f"a{mark}b"


@pytest.mark.parametrize(("share", "said"), [("?", True), (".", False), ("1.0", False), ("1.000(3)", False)])
def test_occupancies_that_are_not_given(tmp_path: Path, share: str, said: bool) -> None:
    """A dot stands for the value by default, 1; a question mark is read as full, and that is said."""
    path = tmp_path / "d.cif"
    ase.io.write(path, bulk("NaCl", "rocksalt", a=5.6), format="cif")
    text = path.read_text()
    path.write_text(text.replace("1.0000", share))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (frame,) = read_frames(path)
    assert len(frame.atoms) == 2
    assert [str(one.message) for one in caught] == [
        f"{path}, frame 0: the occupancy of site 0, 1 is '?', unknown; read as full"
    ] * said
    path.write_text(text.replace("1.0000", "0.9", 1).replace("1.0000", share))
    with pytest.raises(DataError, match="disordered"):
        list(read_frames(path))


def test_what_cannot_be_used_is_passed_over_and_told(tmp_path: Path) -> None:
    """Damage costs its frame only, and the rest of the file where nobody can say where the next frame begins."""
    path = tmp_path / "broken.extxyz"
    for name in (
        "text energy",
        "NaN position",
        "stars",
        "unknown symbol",
        "dummy",
        "zero cell",
        "truncated",
        "negative",
    ):
        text, _, message = DAMAGED[name]
        path.write_text(text if name == "truncated" else text + WATER)
        errors: list[MLANetError] = []
        frames = list(read_frames(path, refused=errors.append))
        assert len(errors) == 1 and re.search(message, str(errors[0]))
        good = {"text energy": 2, "NaN position": 3, "unknown symbol": 2, "negative": 0}.get(name, 1)
        assert len(frames) == good, name
    errors = []
    assert not list(read_frames(tmp_path / "nowhere.cif", refused=errors.append))
    assert "no such file" in str(errors[0])


WHOLE = {
    "a.extxyz": "extxyz",
    "a.cif": "cif",
    "a.vasp": "vasp",
    "XDATCAR": "vasp-xdatcar",
    "a.traj": "traj",
    "a.db": "db",
    "a.xsf": "xsf",
    "a.json": "json",
    "a.gen": "gen",
}
BLANK, PAGE = b"\n \n", b"<!DOCTYPE html>\n<html><body>404 not found</body></html>\n"
PROSE = b"Dear all,\nthis is a letter about crystals.\nYours\n"
INNER = ("pop from", "generator", "broadcast", "inhomogeneous", "unpack", "scaling factors", "index -1 of", "frame -1")


@pytest.mark.parametrize("index", [":", "-1"])
@pytest.mark.parametrize("name", WHOLE)
def test_what_is_no_structure_is_told_in_the_words_of_a_user(tmp_path: Path, name: str, index: str) -> None:
    """Of every format: empty, blank, cut short, prose, a web page, and the content of other formats: the file is named,
    what it holds instead is said, and no variable of a parser is."""
    place = tmp_path / name
    ase.io.write(place, bulk("Si", cubic=True), format=WHOLE[name])
    whole = place.read_bytes()
    assert [len(frame.atoms) for frame in read_frames(place, index=index)] == [8]
    contents = {"": b"", "blank": BLANK, "web page": PAGE, " ": PROSE, "  ": whole[: len(whole) // 2]}
    contents |= {"   ": whole.split(b"\n")[0] + b"\n"}
    for other in ("extxyz", "cif", "vasp"):
        if WHOLE[name].partition("-")[0] != other:
            elsewhere = tmp_path / f"b.{other}"
            ase.io.write(elsewhere, bulk("Si", cubic=True), format=other)
            contents[f"looks like '{other}'"] = elsewhere.read_bytes()
    for word, content in contents.items():
        place.write_bytes(content)
        with pytest.raises(MLANetError) as caught:
            list(read_frames(place, index=index))
        said = str(caught.value)
        assert str(place) in said and word.strip() in said and not any(inner in said for inner in INNER), said


def test_the_last_frame_is_named(tmp_path: Path) -> None:
    """Where a reader does not count, not by a negative number."""
    ase.io.write(tmp_path / "a.cif", [bulk("Si"), bulk("Cu"), bulk("Al")])
    found = [next(iter(read_frames(tmp_path / "a.cif", index=index))) for index in ("-1", "-2")]
    places = [frame.where.removeprefix(f"{tmp_path}/a.cif, ") for frame in found]
    assert places == ["last frame", "frame 2 from the end"]
    assert [str(frame.atoms.symbols) for frame in found] == ["Al", "Cu"]
