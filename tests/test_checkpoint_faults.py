"""Kills, full disks, broken disks and damaged files: a checkpoint is the old one or the new one, whole, or an error."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from disks import mounted
from forked import Forked

from mlanet.checkpoint import load_model, load_state, read_model_header, save_model, save_state
from mlanet.config import parse
from mlanet.errors import CheckpointError
from mlanet.files import LEFTOVER_AGE
from mlanet.models import ModelConfig
from mlanet.potential import Potential
from mlanet.statistics import Statistics

KILLS = 200
FLIPS = 600
CUTS = 400

SAVER = """
import os, sys, torch
from mlanet.checkpoint import save_state

torch.set_num_threads(1)
path = sys.argv[1]
for line in sys.stdin:  # each line asks for one process that saves until it is killed
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        step = int(line)
        while True:
            step += 1
            save_state(path, {"weights": torch.full((100_000,), float(step))}, {"step": step})
            os.write(writer, b"%d\\n" % step)
    os.close(writer)
    print(child, flush=True)
    os.waitpid(child, 0)
    done = os.read(reader, 1 << 16).split()
    os.close(reader)
    print(int(done[-1]) if done else int(line), flush=True)
"""
"""Forks are quick, so that two hundred real processes can die within the time of a test."""


def tiny_potential() -> Potential:
    """A model whose file is small."""
    config = parse(
        {"model": "mlanet", "irreps": "4x0e+4x1o", "layers": 1, "heads": 1, "hidden": 4}, ModelConfig, "test"
    )
    return Potential.build(config, Statistics.unit((1, 8)))


def partial_files(folder: Path) -> list[Path]:
    """What killed processes left behind."""
    return [one for one in folder.iterdir() if one.name.endswith(".partial")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_at_any_instant_leaves_a_whole_file(tmp_path: Path) -> None:
    """SIGKILL at 200 random instants of saving: every file can be read, is whole, and no finished save is lost."""
    path = tmp_path / "state.safetensors"
    save_state(path, {"weights": torch.zeros(100_000)}, {"step": 0})
    chance = random.Random(0)
    command = [sys.executable, "-c", SAVER, str(path)]
    step, interrupted, span = 0, 0, 0.02
    with Forked(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None and server.stdout is not None
        for _ in range(KILLS):
            server.stdin.write(f"{step}\n")
            server.stdin.flush()
            child = int(server.stdout.readline())
            time.sleep(chance.uniform(0.0, span))
            os.kill(child, signal.SIGKILL)
            finished = int(server.stdout.readline())
            tensors, header = load_state(path)
            found = header["step"]
            # The last save may have taken its name just before the kill, without having been reported.
            assert finished <= found <= finished + 1
            assert torch.equal(tensors["weights"], torch.full((100_000,), float(found)))
            interrupted += len(partial_files(tmp_path))
            for leftover in partial_files(tmp_path):
                leftover.unlink()
            # On a loaded machine a save takes longer: aim at about half of them being finished.
            span = min(1.0, 1.2 * span) if found == step else max(0.002, 0.9 * span)
            step = found
        server.stdin.close()
    assert step > KILLS / 4, "the processes were killed before they saved anything"
    assert interrupted > KILLS / 20, "too few kills fell into a save"


def test_leftovers_of_killed_processes_are_removed_later(tmp_path: Path) -> None:
    """A partial file that is old enough to be nobody's goes with the next save; a young one may be another writer's."""
    old, young, other = (
        tmp_path / f".{name}.partial" for name in ("s.safetensors.1", "s.safetensors.2", "x.safetensors.3")
    )
    for one in (old, young, other):
        one.write_bytes(b"part")
    long_ago = time.time() - LEFTOVER_AGE - 60
    os.utime(old, (long_ago, long_ago))
    os.utime(other, (long_ago, long_ago))
    save_state(tmp_path / "s.safetensors", {}, {})
    assert not old.exists() and young.exists() and other.exists()


def assert_previous_intact(path: Path, save: Callable[[], None], message: str) -> None:
    """Saving fails with a `CheckpointError` that names the file, and changes nothing in the folder."""
    before = {one.name: one.read_bytes() for one in path.parent.iterdir() if one.is_file()}
    with pytest.raises(CheckpointError, match=message) as caught:
        save()
    assert str(path) in str(caught.value)
    assert caught.value.exit_status == 3
    assert {one.name: one.read_bytes() for one in path.parent.iterdir() if one.is_file()} == before
    if path.is_file():
        assert load_state(path)[1] == {"step": 1}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte."""
    with mounted(tmp_path / "disk", "1m") as folder:
        yield folder


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mount")
def test_a_full_disk_keeps_the_previous_file(small_disk: Path) -> None:
    """ENOSPC of a real file system: a clear error, the previous checkpoint whole, no partial file eating space."""
    path = small_disk / "s.safetensors"
    save_state(path, {"a": torch.ones(10)}, {"step": 1})
    for size in (300_000, 10_000_000):
        assert_previous_intact(path, lambda size=size: save_state(path, {"a": torch.zeros(size)}, {}), "No space left")
    save_state(path, {"a": torch.ones(10)}, {"step": 2})
    assert load_state(path)[1] == {"step": 2}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mount")
def test_a_read_only_disk_keeps_the_previous_file(small_disk: Path) -> None:
    """EROFS of a real file system is a clear error."""
    path = small_disk / "s.safetensors"
    save_state(path, {}, {"step": 1})
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert_previous_intact(path, lambda: save_state(path, {}, {}), "Read-only file system")


def test_a_folder_without_permission_keeps_the_previous_file(tmp_path: Path) -> None:
    """EACCES is a clear error."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    path = tmp_path / "s.safetensors"
    save_state(path, {}, {"step": 1})
    tmp_path.chmod(0o555)
    try:
        assert_previous_intact(path, lambda: save_state(path, {}, {}), "Permission denied")
    finally:
        tmp_path.chmod(0o755)


def test_a_quota_keeps_the_previous_file(tmp_path: Path) -> None:
    """EFBIG in the middle of a write (a limit on file sizes, as a quota would be) is a clear error."""
    path = tmp_path / "s.safetensors"
    save_state(path, {}, {"step": 1})
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        assert_previous_intact(path, lambda: save_state(path, {"a": torch.zeros(100_000)}, {}), "File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE])
def test_a_failing_disk_keeps_the_previous_file(
    tmp_path: Path, call: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors that network disks report only at fsync or rename are errors of the save, and change nothing."""
    path = tmp_path / "s.safetensors"
    save_state(path, {}, {"step": 1})

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        assert_previous_intact(path, lambda: save_state(path, {"a": torch.zeros(100)}, {}), os.strerror(code))


def test_an_interrupt_leaves_no_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C within a save: the previous file is whole and nothing else is left."""
    path = tmp_path / "s.safetensors"
    save_state(path, {}, {"step": 1})

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save_state(path, {}, {})
    assert [one.name for one in tmp_path.iterdir()] == ["s.safetensors"]
    assert load_state(path)[1] == {"step": 1}


def test_places_that_cannot_hold_a_file(tmp_path: Path) -> None:
    """A folder, a device or a file in the place of a folder are errors that name the place."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "folder", tmp_path / "file" / "s.safetensors", Path("/dev/null")):
        with pytest.raises(CheckpointError, match=str(place)):
            save_model(tiny_potential(), place)
    assert (tmp_path / "file").read_text() == "x"
    assert Path("/dev/null").is_char_device()


def test_missing_folders_are_made_and_links_are_followed(tmp_path: Path) -> None:
    """Saving through a link replaces what it points to, so that `best.safetensors -> run/…` stays a link."""
    real = tmp_path / "run" / "deep" / "s.safetensors"
    save_state(real, {}, {"step": 1})
    link = tmp_path / "best.safetensors"
    link.symlink_to(real)
    save_state(link, {}, {"step": 2})
    assert link.is_symlink() and load_state(real)[1] == {"step": 2}


def test_every_single_flipped_bit_of_a_small_state_is_detected(tmp_path: Path) -> None:
    """Not one bit of length, header, padding, digest or data can change unnoticed."""
    path = tmp_path / "s.safetensors"
    save_state(path, {"a": torch.arange(3.0)}, {"step": 1})
    good = path.read_bytes()
    damaged = tmp_path / "damaged.safetensors"
    for bit in range(8 * len(good)):
        _expect_damage(damaged, _flipped(good, bit), load_state)
    assert load_state(path)[1] == {"step": 1}


def test_damaged_models_are_always_detected(tmp_path: Path) -> None:
    """1 000 truncations and bit flips, half of them in length and header: all typed errors, no large allocation."""
    path = tmp_path / "m.safetensors"
    save_model(tiny_potential(), path, {"data": "none"})
    good = path.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    chance = random.Random(1)
    damaged = tmp_path / "damaged.safetensors"
    flips = [chance.randrange(8 * (header if n % 2 else len(good))) for n in range(FLIPS)] + list(range(64))
    cuts = [chance.randrange(header if n % 2 else len(good)) for n in range(CUTS)]
    contents = [_flipped(good, bit) for bit in flips] + [good[:cut] for cut in cuts]
    contents += [good + b"\0", good + good, good[8:], bytes(len(good)), good[:header] + bytes(len(good) - header)]
    read_model_header(path)
    tracemalloc.start()
    try:
        for n, content in enumerate(contents):
            _expect_damage(damaged, content, load_model if n % 2 else read_model_header)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1e6 + 10 * len(good)
    assert load_model(path).species == (1, 8)


def _expect_damage(path: Path, content: bytes, load: Callable[[Path], object]) -> None:
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=str(path)):
        load(path)


def _flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
