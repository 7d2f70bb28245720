"""A format is what a file's name says, and a folder is the structure files in it."""

from __future__ import annotations

import gzip
import shutil
import warnings
from pathlib import Path

import ase.io
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io.formats import filetype

from mlanet.data.dataset import load_samples
from mlanet.data.formats import BARE, LABELLED, format_of, mistaken_by_ase, structure_files, written_format
from mlanet.data.read import read_frames
from mlanet.errors import DataError, OutputError

SILICON = bulk("Si", "diamond", a=5.43)


@pytest.mark.parametrize(
    "name", ["POSCAR_si.extxyz", "OUTCAR_si.xyz", "my.CONTCAR.extxyz", "vasprun.xyz", "XDATCAR.xyz"]
)
def test_the_suffix_decides_whatever_else_is_in_a_name(tmp_path: Path, name: str) -> None:
    """ASE takes every one of these names for another format; a file is read as what its suffix says."""
    assert filetype(name, read=False) != "extxyz" or name == "vasprun.xyz"
    ase.io.write(tmp_path / name, SILICON, format="extxyz")
    (frame,) = read_frames(tmp_path / name)
    assert frame.atoms.positions == pytest.approx(SILICON.positions)
    assert (mistaken_by_ase(Path(name)) is None) == (name == "vasprun.xyz")


def test_names_without_a_suffix_and_unknown_ones(tmp_path: Path) -> None:
    """VASP's names stand for its formats; where a name stands for nothing, ASE looks into the file."""
    kinds = {"POSCAR": "vasp", "CONTCAR_2.gz": "vasp", "OUTCAR": "vasp-out", "vasprun.xml": "vasp-xml", "a.txt": None}
    assert {name: format_of(Path(name)) for name in kinds} == kinds
    (tmp_path / "frames").write_text("1\n\nSi 0 0 0\n")
    assert len(list(read_frames(tmp_path / "frames"))) == 1


@pytest.mark.parametrize("name", ["si.foo", "si", "OUTCAR", "vasprun.xml", "si.extxyz.gz", "si.json", ".extxyz"])
def test_an_output_without_a_known_format_is_refused(name: str) -> None:
    """With the suffixes that there are."""
    with pytest.raises(OutputError, match=r"\.extxyz, \.xyz, \.cif, \.vasp.*, \.traj"):
        written_format(Path(name), (*LABELLED, *BARE))
    with pytest.raises(OutputError, match=r"as \.extxyz, \.xyz, \.traj;"):
        written_format(Path("si.cif"), LABELLED)


def test_a_folder_is_the_structure_files_in_it(tmp_path: Path, copper: list[Atoms]) -> None:
    """Sorted by name; what else is there is named once; nothing else may stand for the folder."""
    folder = tmp_path / "set"
    (folder / "deeper").mkdir(parents=True)
    for number, name in enumerate(("b.extxyz", "a.xyz", "c.cif", "POSCAR", "d.traj")):
        ase.io.write(folder / name, copper[number], **({"format": "vasp"} if name == "POSCAR" else {}))
    for name in ("README.md", "run.log", ".hidden.extxyz"):
        (folder / name).write_text("nothing")
    with pytest.warns(UserWarning, match=r"skipped.*README.md, deeper/, run.log$"):
        files = structure_files([folder, "elsewhere.cif"])
    assert [path.name for path in files] == ["POSCAR", "a.xyz", "b.extxyz", "c.cif", "d.traj", "elsewhere.cif"]
    for name in ("README.md", "run.log"):
        (folder / name).unlink()
    shutil.rmtree(folder / "deeper")
    assert [len(list(read_frames(folder, index=index))) for index in (":", "-1")] == [5, 5]
    assert len(load_samples(folder, 3.0)) == 5
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.pdf").write_text("x")
    with pytest.raises(DataError, match=r"no structure files in this folder; it holds a\.pdf"):
        list(read_frames(tmp_path / "empty"))


SILICON_XML = """<crystal><varray name="basis"><v>0 2.7 2.7</v><v>2.7 0 2.7</v><v>2.7 2.7 0</v></varray></crystal>
<varray name="positions"><v>0 0 0</v><v>0.25 0.25 0.25</v></varray></structure>"""
ENERGY_XML = '<energy><i name="e_fr_energy">-10.5</i><i name="e_0_energy">-10.4</i></energy>'
STEP_XML = f"""<calculation><scstep>{ENERGY_XML}</scstep><structure>{SILICON_XML}
<varray name="forces"><v>0 0 0.1</v><v>0 0 -0.1</v></varray>
<varray name="stress"><v>1 0 0</v><v>0 1 0</v><v>0 0 1</v></varray>{ENERGY_XML}</calculation>"""
VASPRUN = f"""<?xml version="1.0" encoding="ISO-8859-1"?><modeling><kpoints><generation></generation>
<varray name="kpointlist"><v>0 0 0</v></varray><varray name="weights"><v>1</v></varray></kpoints>
<atominfo><array name="atoms"><set><rc><c>Si</c><c>1</c></rc><rc><c>Si</c><c>1</c></rc></set></array></atominfo>
<structure name="initialpos">{SILICON_XML}{STEP_XML}{STEP_XML}</modeling>"""
"""What ASE reads of a run of two steps."""
RUN = ("POSCAR", "CONTCAR", "XDATCAR", "OUTCAR", "vasprun.xml", "INCAR", "OSZICAR")


@pytest.mark.parametrize(
    ("missing", "read"),
    [((), "vasprun.xml"), (("vasprun.xml",), "OUTCAR"), (("vasprun.xml", "OUTCAR"), "CONTCAR POSCAR XDATCAR")],
)
def test_a_run_of_vasp_is_read_once(tmp_path: Path, missing: tuple[str, ...], read: str) -> None:
    """From the file with all steps and labels; a structure of one's own beside it is read too, and packed ones."""
    for name in set(RUN) - set(missing):
        (tmp_path / name).touch()
    with pytest.warns(UserWarning, match="left aside: .*POSCAR, XDATCAR$" if len(missing) < 2 else "skipped.*INCAR"):
        assert [one.name for one in structure_files([tmp_path])] == read.split()
    (tmp_path / "mine.cif").touch()
    for name in set(RUN) - set(missing):
        (tmp_path / name).rename(tmp_path / f"{name}.gz")
    with pytest.warns(UserWarning):
        names = [one.name.removesuffix(".gz") for one in structure_files([tmp_path])]
    assert sorted(names) == sorted([*read.split(), "mine.cif"])


@pytest.mark.parametrize("packed", [False, True])
def test_a_stopped_run_of_vasp_is_told(tmp_path: Path, packed: bool) -> None:
    """Its whole steps are read, with labels; the same file to its end is read without a word."""
    path = tmp_path / ("vasprun.xml.gz" if packed else "vasprun.xml")
    for text, steps in ((VASPRUN, 2), (VASPRUN[: VASPRUN.rindex("<energy>")], 1)):
        path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            frames = list(read_frames(path))
        assert [frame.atoms.get_potential_energy(force_consistent=True) for frame in frames] == [-10.5] * steps
        assert len([one for one in caught if "vasprun.xml" in str(one.message)]) == (steps == 1)


def test_a_folder_of_folders_is_the_files_in_these(tmp_path: Path) -> None:
    """At any depth, each folder once, also where links lead back; one that cannot be read is an error."""
    for name in ("b/OUTCAR", "a/1/vasprun.xml", "a/1/POSCAR", "a/2/si.cif", "c/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    with pytest.warns(UserWarning, match="a/1: of a run of VASP its vasprun.xml.* left aside: POSCAR$"):
        found = structure_files([tmp_path])
    assert [str(one.relative_to(tmp_path)) for one in found] == ["a/1/vasprun.xml", "a/2/si.cif", "b/OUTCAR"]
    with pytest.raises(DataError, match="c: no structure files in this folder; it holds notes.txt"):
        structure_files([tmp_path / "c"])
