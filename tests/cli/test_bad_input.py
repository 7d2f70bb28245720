"""Bad input gives one clear message on stderr and an exit status; nothing is computed wrongly, nothing is lost."""

from __future__ import annotations

import errno
import os
import re
import resource
import stat
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

GOOD = '2\nLattice="3.6 0 0 0 3.6 0 0 0 3.6" Properties=species:S:1:pos:R:3 energy=-1.5 pbc="T T T"'
GOOD += "\nCu 0 0 0\nCu 1.8 1.8 0\n"

BAD_FILES = {
    "empty file": ("", "empty"),
    "truncated frame": (GOOD + GOOD[: GOOD.rindex("Cu")], "frame 1"),
    "NaN position": (GOOD + GOOD.replace("1.8 1.8 0", "nan 1.8 0"), "frame 1, atom 1"),
    "text instead of a number": (GOOD.replace("1.8 1.8 0", "1.8 abc 0"), "frame 0"),
    "zero cell with pbc": (GOOD.replace("3.6", "0"), "periodic"),
    "coplanar cell": (GOOD.replace("0 0 3.6", "3.6 0 0"), "dependent"),
    "overlapping atoms": (GOOD.replace("1.8 1.8 0", "0 0 0.01"), "atoms 0 and 1"),
    "no atoms": ("0\n\n", "no atoms"),
    "symbol that is no element": (GOOD.replace("Cu 1", "Xx 1"), "Xx"),
    "element that the model does not know": (GOOD.replace("Cu 1", "Fe 1"), "Fe (first at atom 1)"),
    "not a structure": ("hello\nworld\n", "bad.extxyz"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_structures_name_file_and_place(mlanet, model, case: str) -> None:
    """Status 2, one line that names file and place, and no output file; a good frame before it is kept apart."""
    text, part = BAD_FILES[case]
    Path("bad.extxyz").write_text(text)
    Path("out.extxyz").write_text("former result")
    outcome = mlanet("predict", "bad.extxyz", "-m", model, "-o", "out.extxyz", "--json")
    assert outcome.status == 2
    assert outcome.err.splitlines()[-1].startswith("error: ")
    assert sum("compiling kernels" not in line for line in outcome.err.splitlines()) == 1
    assert "bad.extxyz" in outcome.err and part in outcome.err
    assert outcome.out == ""
    assert Path("out.extxyz").read_text() == "former result"
    kept = [] if "frame 1" not in part else ["out.partial.extxyz"]
    beside = [f"{name}.jsonl" for name in kept]  # with which --resume goes on
    assert sorted(os.listdir()) == sorted(["bad.extxyz", "out.extxyz", *kept, *beside])
    for name in kept:
        assert len(ase.io.read(name, ":")) == 1 and f"the structure finished before is in {name}" in outcome.err


def test_unknown_element_lists_the_known_ones(mlanet, model) -> None:
    """The message names what the model knows."""
    ase.io.write("iron.extxyz", bulk("Fe"))
    outcome = mlanet("predict", "iron.extxyz", "-m", model)
    assert outcome.status == 2 and "Fe" in outcome.err and "Al Cu" in outcome.err


STARTS = {
    "md": ("md", "copper.extxyz", "--steps", "1"),
    "neb": ("neb", "copper.extxyz", "--vacancy", "0", "--images", "3", "--steps", "1"),
    "neb, the second end": ("neb", "lithium.extxyz", "copper.extxyz", "--images", "3", "--steps", "1"),
    "diffusion": ("diffusion", "copper.extxyz", "--temperatures", "300", "--time", "0.01"),
    "exfoliate": ("exfoliate", "copper.extxyz", "--distances", "3.6:10:5"),
}


@pytest.mark.parametrize("case", STARTS)
def test_an_unknown_element_is_one_of_a_file(mlanet, case: str) -> None:
    """Also where one structure is moved step by step; nothing is begun."""
    stack = Atoms("Cu2", [[0, 0, 0.1], [0, 0, 4.5]], cell=[2.6, 2.6, 8.8], pbc=True).repeat((3, 3, 1))
    ase.io.write("copper.extxyz", stack)
    stack.symbols[:] = "Li"
    ase.io.write("lithium.extxyz", stack)
    outcome = mlanet(*STARTS[case], "--model", "elemental", "--output", "out")
    assert outcome.status == 2 and outcome.out == "" and not Path("out").exists()
    assert outcome.err.splitlines()[-1].startswith("error: copper.extxyz"), outcome.err
    assert "not trained on Cu (first at atom 0); it knows: Li Si Mo" in outcome.err


MOVED = {
    "relax": ("--steps", "1"),
    "eos": ("--as-given",),
    "elastic": ("--as-given",),
    "phonon": ("--as-given",),
    "md": ("--steps", "1"),
    "neb": ("--vacancy", "0", "--repeat", "2x2x2"),
    "diffusion": ("--temperatures", "300"),
    "exfoliate": (),
}


@pytest.mark.parametrize("command", MOVED)
@pytest.mark.parametrize("case", ["overlapping atoms", "NaN position", "zero cell with pbc"])
def test_whatever_moves_a_structure_names_file_frame_and_atom(mlanet, command: str, case: str) -> None:
    """Once, before anything is written, and in no words of the program."""
    text, part = BAD_FILES[case]
    Path("bad.extxyz").write_text(text.replace("Cu", "Si"))
    output = "out.extxyz" if command == "relax" else "out"
    given = mlanet(command, "bad.extxyz", *MOVED[command], "--model", "elemental", "--output", output)
    said = given.err.splitlines()[-1]
    assert given.status == 2 and given.out == "" and not list(Path().glob("out*/*.*"))
    frame = part if part.startswith("frame") else "frame 0"
    assert said.startswith(f"error: bad.extxyz, {frame}"), said
    assert "structure:" not in said and said.count("bad.extxyz") == 1
    if "atoms" in part:
        assert re.search(r"atoms \d+.* and \d+.*(0\.01|1\.00e-02) Å apart", said), said


ALONE = {
    "md": (("--ensemble", "npt", "--steps", "1"), "12.0 Å or more along a, b, c are empty"),
    "md, pressed": (("--ensemble", "npt", "--steps", "1", "--pressure", "1"), "12.0 Å along a"),
    "exfoliate": ((), "no layers found: empty space"),
    "diffusion": (("--temperatures", "300", "--element", "Li"), "no Li in Si"),
    "diffusion, short": (("--temperatures", "300", "--time", "0.1"), "needs at least 32"),
    "phonon": (("--as-given",), "no crystal"),
}


@pytest.mark.parametrize("case", ALONE)
def test_a_lone_atom_in_a_box_is_refused_by_name(mlanet, case: str) -> None:
    """By what has no meaning for it, before anything is computed or written."""
    ase.io.write("lone.extxyz", Atoms("Si", cell=[12, 12, 12], pbc=True))
    words, reason = ALONE[case]
    given = mlanet(case.split(",")[0], "lone.extxyz", *words, "--model", "elemental", "--output", "out")
    said = given.err.splitlines()[-1]
    assert given.status == 2 and said.startswith("error: lone.extxyz, frame 0: ") and reason in said, given.err
    assert not list(Path().glob("out/*.*"))


def test_fortran_exponent_is_not_read_as_text(mlanet, model) -> None:
    """`energy=-1.5D0` is an error of the data, wherever labels are read."""
    Path("fortran.extxyz").write_text(GOOD.replace("-1.5", "-1.5D0"))
    for words in (
        ["evaluate", "fortran.extxyz", "-m", model],
        ["data", "check", "fortran.extxyz", "--require", "energy"],
    ):
        outcome = mlanet(*words)
        assert outcome.status == 2
        assert "fortran.extxyz, frame 0" in outcome.err and "-1.5D0" in outcome.err


def test_missing_label(mlanet, model) -> None:
    """A requested label that is nowhere is an error that lists what is there."""
    Path("energy_only.extxyz").write_text(GOOD)
    outcome = mlanet("data", "check", "energy_only.extxyz")
    assert outcome.status == 2 and "forces" in outcome.err
    outcome = mlanet("data", "check", "energy_only.extxyz", "--key", "energy=dft_energy", "--require", "energy")
    assert outcome.status == 2 and "dft_energy" in outcome.err
    Path("bare.extxyz").write_text(GOOD.replace("energy=-1.5 ", ""))
    outcome = mlanet("evaluate", "bare.extxyz", "-m", model)
    assert outcome.status == 2 and "--key" in outcome.err


@pytest.mark.parametrize("word", ["energy", "energy=", "=x", "enrgy=x"])
def test_wrong_key_words(mlanet, labelled, word: str) -> None:
    """A `--key` that cannot be meant is an error."""
    outcome = mlanet("data", "check", labelled, "--key", word)
    assert outcome.status == 2 and outcome.err.splitlines()[-1].startswith("error: ")


def test_missing_file_and_folder(mlanet, model) -> None:
    """A file that is not there is named."""
    Path("folder").mkdir()
    for name in ("nowhere.cif", "folder"):
        outcome = mlanet("predict", name, "-m", model)
        assert outcome.status == 2 and name in outcome.err and "Traceback" not in outcome.err


def test_unknown_model_suggests(mlanet, labelled) -> None:
    """A name that is neither packaged nor a file says what there is."""
    outcome = mlanet("predict", labelled, "-m", "elementl")
    assert outcome.status == 3 and "elemental" in outcome.err


def test_corrupted_models_are_refused(mlanet, model, labelled) -> None:
    """Truncated, flipped, empty and foreign model files are status 3, and stay as they are."""
    whole = model.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for data in (whole[:-1], whole[:100], bytes(flipped), b"", b"\x80\x04\x95 a pickle", b"PK\x03\x04 a zip"):
        Path("model.safetensors").write_bytes(data)
        for words in (["predict", labelled, "-m", "model.safetensors"], ["info", "model.safetensors"]):
            outcome = mlanet(*words)
            assert outcome.status == 3 and "model.safetensors" in outcome.err and outcome.err.startswith("error: ")
        assert Path("model.safetensors").read_bytes() == data


def test_unwritable_outputs(mlanet, model, labelled) -> None:
    """A folder, a file in the way of a folder, and an unknown suffix are status 3 with the reason."""
    Path("folder.extxyz").mkdir()
    Path("file").write_text("x")
    for output in ("folder.extxyz", "file/out.extxyz", "out.vasp"):
        outcome = mlanet("predict", labelled, "-m", model, "-o", output)
        assert outcome.status == 3 and output in outcome.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(mlanet, model, labelled) -> None:
    """No permission is status 3."""
    Path("locked").mkdir()
    Path("locked").chmod(stat.S_IRUSR | stat.S_IXUSR)
    outcome = mlanet("predict", labelled, "-m", model, "-o", "locked/out.extxyz")
    assert outcome.status == 3 and "locked/out.extxyz" in outcome.err


def test_disk_full(mlanet, model, labelled, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space left: status 3, the former result stays whole, and what was computed is whole frames beside it."""
    Path("out.extxyz").write_text("former result")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    outcome = mlanet("predict", labelled, "-m", model, "-o", "out.extxyz")
    assert outcome.status == 3 and "No space left" in outcome.err
    assert sorted(os.listdir()) == ["out.extxyz", "out.partial.extxyz"]
    assert Path("out.extxyz").read_text() == "former result" and len(ase.io.read("out.partial.extxyz", ":")) == 1


def test_file_size_limit_of_the_system(mlanet, labelled) -> None:
    """The same where the operating system itself refuses to write on."""
    Path("out.extxyz").write_text("former result")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        outcome = mlanet("data", "convert", labelled, "-o", "out.extxyz")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert outcome.status == 3 and "cannot be written" in outcome.err
    assert os.listdir() == ["out.extxyz"] and Path("out.extxyz").read_text() == "former result"


def test_output_through_a_link_keeps_the_link(mlanet, labelled) -> None:
    """A link stays a link; what it points to is replaced. A device is not a place for a result."""
    Path("far").mkdir()
    Path("out.extxyz").symlink_to("far/real.extxyz")
    assert mlanet("data", "convert", labelled, "-o", "out.extxyz").status == 0
    assert Path("out.extxyz").is_symlink() and len(ase.io.read("far/real.extxyz", ":")) == 6
    Path("null.extxyz").symlink_to("/dev/null")
    assert mlanet("data", "convert", labelled, "-o", "null.extxyz").status == 3


def test_unknown_device(mlanet, model, labelled) -> None:
    """A device that this machine does not have is named."""
    for device in ("cuda:99", "toaster"):
        outcome = mlanet("predict", labelled, "-m", model, "--device", device)
        assert outcome.status == 2 and device in outcome.err


def test_good_frames_before_a_bad_one_are_not_published(mlanet, model) -> None:
    """A file that is bad at its end leaves no result that looks complete."""
    atoms = Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.2]])
    wrong = atoms.copy()
    wrong.positions[1] = np.inf
    ase.io.write("late.xyz", [atoms] * 20 + [wrong], format="extxyz")
    outcome = mlanet("predict", "late.xyz", "-m", model, "-o", "out.extxyz", "--max-edges", 1)
    assert outcome.status == 2 and "frame 20" in outcome.err and not Path("out.extxyz").exists()
    assert len(ase.io.read("out.partial.extxyz", ":")) == 20
    assert "the 20 structures finished before are in out.partial.extxyz" in outcome.err
