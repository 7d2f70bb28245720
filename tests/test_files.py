"""Every write is complete or an error: short writes, full disks, limits and broken disks."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import mounted

from mlanet.files import append_whole, cut_back, end_of_lines, remove_leftovers, whole_file, whole_folder, write_whole


@pytest.fixture
def short_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that takes half of what it is given, as POSIX allows."""
    right = os.write
    monkeypatch.setattr(os, "write", lambda file, data: right(file, data[: max(1, len(data) // 2)]))


def test_a_short_write_is_completed(tmp_path: Path, short_writes: None) -> None:
    append_whole(tmp_path / "a", b"first\n")
    append_whole(tmp_path / "a", bytes(range(256)) * 100)
    assert (tmp_path / "a").read_bytes() == b"first\n" + bytes(range(256)) * 100


def test_a_disk_that_takes_nothing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that says it took nothing, over and over, does not hang us."""
    monkeypatch.setattr(os, "write", lambda file, data: 0)
    with pytest.raises(OSError, match="takes nothing more"):
        append_whole(tmp_path / "a", b"line\n")
    monkeypatch.undo()
    assert (tmp_path / "a").read_bytes() == b""


def test_a_limit_in_the_middle_of_a_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """The system itself takes the first part and refuses the rest, as a quota or a full disk does."""
    append_whole(tmp_path / "a", b"x" * 900)
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(OSError, match="File too large"):
            append_whole(tmp_path / "a", b"y" * 900)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "a").read_bytes() == b"x" * 900


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 kB."""
    with mounted(tmp_path / "disk", "64k") as folder:
        yield folder


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mount")
def test_a_full_disk_and_a_read_only_one(small_disk: Path) -> None:
    """ENOSPC and EROFS of a real file system, for appending, replacing and whole folders: errors; nothing changes."""
    append_whole(small_disk / "log", b"line\n")
    (small_disk / "filler").write_bytes(b"z" * 50_000)
    before = {one.name: one.read_bytes() for one in small_disk.iterdir()}

    def refused(code: int) -> None:
        for call in (append_whole, write_whole):
            with pytest.raises(OSError) as caught:
                call(small_disk / "log", b"y" * 40_000)
            assert caught.value.errno == code
        with pytest.raises(OSError) as caught, whole_folder(small_disk / "parts") as partial:
            (partial / "a").write_bytes(b"y" * 40_000)
        assert caught.value.errno == code
        assert {one.name: one.read_bytes() for one in small_disk.iterdir()} == before

    refused(errno.ENOSPC)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    refused(errno.EROFS)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_errors_that_come_late_are_errors_of_the_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """What a disk says only when it is asked to keep the bytes: no new name, no partial file."""

    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    (tmp_path / "a").write_bytes(b"former")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError), whole_file(tmp_path / "a") as partial:
            partial.write_bytes(b"new")
        with pytest.raises(OSError), whole_folder(tmp_path / "b") as partial:
            (partial / "c").write_bytes(b"new")
    assert [one.name for one in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_bytes() == b"former"


def test_cutting_back(tmp_path: Path) -> None:
    """To the end of the last whole line, or to nothing; never longer than it was."""
    path = tmp_path / "log"
    cut_back(path, 0)
    assert path.read_bytes() == b"" and end_of_lines(path) == end_of_lines(tmp_path / "none") == 0
    path.write_bytes(b"one\ntwo\nthr")
    cut_back(path, end_of_lines(path))
    assert path.read_bytes() == b"one\ntwo\n"
    with pytest.raises(OSError, match="fewer than the 99"):
        cut_back(path, 99)
    assert path.read_bytes() == b"one\ntwo\n"


def test_leftovers_are_only_ours(tmp_path: Path) -> None:
    """Folders and files of killed writers go; what looks similar stays."""
    (tmp_path / ".parts.0123abcd.partial").mkdir()
    for name in (
        ".a.safetensors.0f.partial",
        ".b.extxyz.12.partial.extxyz",
        ".partial",
        "c.0f.partial",
        ".d.partially",
    ):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(one.name for one in tmp_path.iterdir()) == [".d.partially", ".partial", "c.0f.partial"]
