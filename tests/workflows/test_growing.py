"""What was computed stays, in whole records; a result has its name only when it is complete."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlanet.errors import DataError, OutputError
from mlanet.workflows.growing import growing, partial_name


def test_complete(tmp_path: Path) -> None:
    """The name is taken at the end, through a link and into a new folder; nothing else is left."""
    (tmp_path / "far").mkdir()
    link = tmp_path / "out.extxyz"
    link.symlink_to("far/real.extxyz")
    for place, real in ((link, tmp_path / "far" / "real.extxyz"), (tmp_path / "new" / "a.csv",) * 2):
        with growing(place) as file:
            file.add("one\n")
            file.add("two\n")
            assert not real.exists() and partial_name(place).read_text() == "one\ntwo\n"
        assert real.read_text() == "one\ntwo\n" and list(real.parent.iterdir()) == [real]
    assert link.is_symlink()


@pytest.mark.parametrize("mishap", [DataError("bad"), KeyboardInterrupt(), RuntimeError("x"), SystemExit(3)])
def test_an_error_keeps_what_was_computed(tmp_path: Path, mishap: BaseException) -> None:
    """The former result stays, beside it what is new; whoever stops is told where. Without records nothing is left."""
    place, told = tmp_path / "out.extxyz", []
    place.write_text("former")
    with pytest.raises(type(mishap)) as caught, growing(place, told.append) as file:
        file.add("one\n")
        file.add("two\n")
        raise mishap
    said = str(caught.value) if isinstance(mishap, DataError) else told[0]
    assert "the 2 structures finished before are in" in said and "out.partial.extxyz" in said
    assert place.read_text() == "former" and partial_name(place).read_text() == "one\ntwo\n"
    with growing(place) as file:
        assert partial_name(place).read_text() == "one\ntwo\n"  # until there is something newer
        file.add("three\n")
    assert place.read_text() == "three\n" and list(tmp_path.iterdir()) == [place]
    with pytest.raises(type(mishap)), growing(place, told.append):
        raise mishap
    assert list(tmp_path.iterdir()) == [place]


def test_short_writes_are_completed_or_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that takes seven bytes at a time gets all; one that is full after some leaves whole records."""
    place, real = tmp_path / "a.extxyz", os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, bytes(data)[:7]))
    with growing(place) as file:
        file.add("0123456789\n")
    assert place.read_text() == "0123456789\n"
    taken = iter([3, 7, 4, 5])

    def full(file: int, data: bytes) -> int:
        share = next(taken, None)
        if share is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, bytes(data)[:share])

    monkeypatch.setattr(os, "write", full)
    with (
        pytest.raises(OutputError, match=r"a\.extxyz: cannot be written: No space left.*in .*a\.partial"),
        growing(place) as file,
    ):
        file.add("first one\n")
        file.add("second one\n")
    assert place.read_text() == "0123456789\n" and partial_name(place).read_text() == "first one\n"


def test_a_kill_leaves_whole_records(tmp_path: Path) -> None:
    """SIGKILL in the middle of many; the system may have taken a part of the one that was being written."""
    program = f"""
from pathlib import Path
from mlanet.workflows.growing import growing
with growing(Path({str(tmp_path / "a.extxyz")!r})) as file:
    for k in range(10**9):
        file.add(f"{{k:09d}} " * 1000 + "\\n")
        if k == 50:
            print("go", flush=True)
"""
    victim = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert victim.stdout is not None and victim.stdout.readline() == b"go\n"
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    lines = (tmp_path / "a.partial.extxyz").read_text().split("\n")
    assert (f"{len(lines) - 1:09d} " * 1000).startswith(lines.pop()) and len(lines) > 50
    assert all(line == f"{k:09d} " * 1000 for k, line in enumerate(lines))


def test_two_writers_are_refused(tmp_path: Path) -> None:
    """The second one, by name; and a folder or a device is no place for a file."""
    with growing(tmp_path / "a.extxyz") as file:
        file.add("x\n")
        with pytest.raises(OutputError, match="another process is writing"), growing(tmp_path / "a.extxyz"):
            pass
        file.add("y\n")
    assert (tmp_path / "a.extxyz").read_text() == "x\ny\n"
    for place in (tmp_path, Path("/dev/null")):
        with pytest.raises(OutputError, match="is a"), growing(place):
            pass
