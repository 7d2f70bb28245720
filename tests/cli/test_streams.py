"""Standard streams that are closed, full or nobody's: one sentence and a status, and no file of somebody else's."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk

FULL = Path("/dev/full")
WORDS = {
    "a table": ("predict", "si.cif", "--model", "elemental"),
    "a document": ("predict", "si.cif", "--model", "elemental", "--json"),
    "a document with pictures": ("trajectory", "run.extxyz", "--interval", "5", "--output", "out", "--json"),
    "names and values": ("info", "elemental"),
    "text": ("presets", "leignn"),
    "the version": ("--version",),
    "help": ("predict", "--help"),
}


@pytest.fixture(autouse=True)
def inputs(tmp_path: Path) -> None:
    """A crystal, and a few frames of it."""
    crystal = bulk("Si", a=5.45)
    ase.io.write(tmp_path / "si.cif", crystal)
    frames = [crystal.copy() for _ in range(4)]
    for k, frame in enumerate(frames):
        frame.rattle(0.01, seed=k)
    ase.io.write(tmp_path / "run.extxyz", frames)


@pytest.mark.parametrize("what", WORDS)
def test_a_full_disk_under_stdout_is_one_sentence(mlanet, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Status 3, as for any other file that cannot be written."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys.stdout, "write", full)
    done = mlanet(*WORDS[what])
    assert done.status == 3, done.err
    assert done.err.endswith("error: standard output: cannot be written: No space left on device\n")


def test_progress_that_cannot_be_told_costs_no_run(mlanet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk under stderr: the run goes on, and errors keep their status."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys.stderr, "write", full)
    done = mlanet("eos", "si.cif", "--model", "elemental", "--points", 5, "--as-given", "--output", "out")
    assert done.status == 0 and "bulk modulus" in done.out and Path("out/results.csv").exists()
    assert mlanet("eos", "nowhere.cif").status == 2


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")
def test_closed_and_full_streams_of_a_process(tmp_path: Path) -> None:
    """With numbers 0 to 2 closed, what is written into a file is that file alone; /dev/full is a full disk."""
    predict = ("-m", "mlanet", "predict", "si.cif", "--model", "elemental")
    closed = 'exec "$0" "$@" <&- >&- 2>&-'
    words = ("/bin/sh", "-c", closed, sys.executable, *predict, "--output", "out.extxyz", "--csv", "out.csv")
    assert subprocess.run(words, cwd=tmp_path, check=False).returncode == 0
    assert len(ase.io.read(tmp_path / "out.extxyz", ":")) == 1
    assert (tmp_path / "out.csv").read_text().count("\n") == 2
    assert set(os.listdir(tmp_path)) == {"si.cif", "run.extxyz", "out.extxyz", "out.csv"}
    with FULL.open("w") as full:
        done = subprocess.run(
            (sys.executable, *predict), cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 3 and done.stderr.count("\n") == 1 and "No space left" in done.stderr
