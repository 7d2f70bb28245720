"""One owner of a folder at a time, named to the second, and never in the way of anybody once it has ended."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlanet.errors import ConfigError, OutputError
from mlanet.ownership import LOCK, owned

OWNER = """
import os, sys, time
from pathlib import Path
from mlanet.ownership import owned
with owned(Path(sys.argv[1]), "mlanet md"):
    if sys.argv[2] == "fork" and os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


def owner(folder: Path, fork: str = "") -> subprocess.Popen[str]:
    """Another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(folder), fork], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline()
    return process


def test_a_second_owner_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    """By command, process, host and time, whatever the second wants; a killed owner blocks nobody."""
    process = owner(tmp_path)
    before = sorted(tmp_path.iterdir())
    named = rf"{tmp_path}: mlanet md \(process {process.pid} on {platform.node()}, since \d{{4}}-.* UTC\) is writing"
    with pytest.raises(ConfigError, match=named), owned(tmp_path, "mlanet train"):
        pass
    assert sorted(tmp_path.iterdir()) == before
    process.kill()
    process.wait()
    with owned(tmp_path, "mlanet train"):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_does_not_hold_the_folder_beyond_its_owner(tmp_path: Path) -> None:
    """A worker that outlives the run that forked it is no owner."""
    process = owner(tmp_path, "fork")
    worker = None
    try:
        process.kill()
        process.wait()
        with owned(tmp_path, "mlanet train", wait=2.0):
            worker = True
    finally:
        if process.stdout is not None:
            process.stdout.close()
    assert worker


def test_this_very_process_is_named_too(tmp_path: Path) -> None:
    with owned(tmp_path, "mlanet md"), pytest.raises(ConfigError, match="this very process"), owned(tmp_path, "x"):
        pass


def test_waiting_for_the_owner(tmp_path: Path) -> None:
    process = owner(tmp_path)
    started = time.monotonic()
    with pytest.raises(ConfigError), owned(tmp_path, "x", wait=0.2):
        pass
    assert time.monotonic() - started >= 0.2
    process.kill()
    process.wait()
    with owned(tmp_path, "x", wait=10.0):
        pass


def test_leftovers_go_and_an_empty_folder_too(tmp_path: Path) -> None:
    """What a killed owner was writing is removed; a refused start leaves no trace, a run its files."""
    (tmp_path / ".checkpoint.safetensors.0f.partial").touch()
    with owned(tmp_path, "x"):
        assert [one.name for one in tmp_path.iterdir()] == [LOCK]
    with pytest.raises(ValueError), owned(tmp_path / "a" / "b", "x"):
        raise ValueError
    assert not list(tmp_path.iterdir())
    with owned(tmp_path / "a", "x"):
        (tmp_path / "a" / "result").touch()
    assert [one.name for one in (tmp_path / "a").iterdir()] == ["result"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"), owned(tmp_path / "file" / "a", "x"):
        pass


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the owner wrote decides: one that runs is refused to others, one that has ended is not."""

    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with owned(tmp_path, "mlanet md"), pytest.raises(ConfigError, match="mlanet md"), owned(tmp_path, "x"):
        pass
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    ended = {"process": process.pid, "host": platform.node(), "birth": "1", "command": "mlanet md"}
    (tmp_path / LOCK).write_text(json.dumps(ended))
    with owned(tmp_path, "x"):
        pass
