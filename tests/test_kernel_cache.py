"""The cache of compiled kernels: nothing that others wrote, that is damaged or half made is ever loaded."""

from __future__ import annotations

import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from compilers import COMPILER, quick_compiler
from forked import Forked

from mlanet.errors import KernelError
from mlanet.ops.cpp import build, cache, library, listeners

LOAD = (
    "import torch; from mlanet.ops.cpp import library; library.load.cache_clear(); "
    "print(library.load(1, torch.float32).mlanet_lanes())"
)

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_compiler(tmp_path_factory.mktemp("compiler") / "quick-g++")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, quick: Path) -> Path:
    """A cache with one library in it."""
    place = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLANET_CACHE", str(place))
        patch.setenv("CXX", str(quick))
        library.load.cache_clear()
        library.load(1, torch.float32)
    library.load.cache_clear()
    return place


@pytest.fixture
def kept(made: Path, quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it, in use."""
    shutil.copytree(made, tmp_path / "cache")
    monkeypatch.setenv("CXX", str(quick))
    monkeypatch.setenv("MLANET_CACHE", str(tmp_path / "cache"))
    library.load.cache_clear()
    yield next((tmp_path / "cache" / "kernels").iterdir())
    library.load.cache_clear()


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch, kept: Path) -> list[Path]:
    """Where the compiler was asked; it gives what the cache held."""
    asked: list[Path] = []
    good = cache.read(kept.parent, kept.stem)
    monkeypatch.setattr(build, "_compiled", lambda _found, _source, _macros, folder: asked.append(folder) or good)
    return asked


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[random.Random(0).randrange(len(data))] ^= 4
    path.write_bytes(data)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _foreign(path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")
    os.chown(path, 12345, -1)


def _writable(path: Path) -> None:
    path.chmod(0o666)


def _linked(path: Path) -> None:
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


def _renamed(path: Path) -> None:
    """The library of another degree or precision, under this name."""
    good = cache.read(path.parent, path.stem)
    assert good is not None
    cache.write(path.parent, "0" * len(path.stem), good)
    path.with_name("0" * len(path.stem) + ".so").rename(path)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _bare(path: Path) -> None:
    """As an earlier version wrote it, or an attacker."""
    good = cache.read(path.parent, path.stem)
    assert good is not None
    path.write_bytes(good)


MISHAPS = (_cut, _flip, _empty, _foreign, _writable, _linked, _renamed, _pipe, _bare)


def test_what_is_whole_and_ours_is_not_compiled_again(kept: Path, compilations: list[Path]) -> None:
    assert library.load(1, torch.float32).mlanet_lanes() > 0
    assert not compilations and stat.S_IMODE(kept.stat().st_mode) == 0o600


@pytest.mark.parametrize("mishap", MISHAPS, ids=lambda one: one.__name__)
def test_anything_else_is_made_anew(
    kept: Path, compilations: list[Path], mishap: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut, changed, somebody else's, writable, a link, another library: rebuilt, which is told, then whole and ours."""
    lines: list[str] = []
    monkeypatch.setattr(listeners, "LISTENERS", [lines.append])
    mishap(kept)
    assert cache.read(kept.parent, kept.stem) is None
    assert library.load(1, torch.float32).mlanet_lanes() > 0
    assert len(compilations) == 1 and cache.read(kept.parent, kept.stem) is not None
    assert len(lines) == 1 and lines[0].startswith("compiling kernels for this processor with /")
    assert not kept.is_symlink() and kept.stat().st_uid == os.geteuid()
    assert not [one for one in kept.parent.iterdir() if one.name.startswith(".")]


def test_a_folder_in_which_others_can_write_is_closed_and_emptied(kept: Path, compilations: list[Path]) -> None:
    kept.parent.chmod(0o777)
    library.load(1, torch.float32)
    assert len(compilations) == 1 and not kept.parent.stat().st_mode & 0o022


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_of_somebody_else_is_left_alone(kept: Path, compilations: list[Path]) -> None:
    """Nothing is loaded from there or written there; the process compiles for itself, and says so."""
    os.chown(kept.parent, 12345, -1)
    before = kept.stat()
    with pytest.warns(UserWarning, match="belongs to another user"):
        library.load(1, torch.float32)
    assert len(compilations) == 1 and kept.parent not in compilations[0].parents
    assert kept.stat() == before and not compilations[0].exists()


def test_a_library_cut_while_in_use_does_no_harm(kept: Path) -> None:
    """A file cut under a running process would end it with SIGBUS; what is loaded is a copy."""
    code = f"{LOAD}; import os; os.truncate({str(kept)!r}, 0); print(library.load(1, torch.float32).mlanet_lanes())"
    process = Forked([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    out, _ = process.communicate()
    assert process.returncode == 0 and len(out.split()) == 2 and len(set(out.split())) == 1


def slow_compiler(folder: Path, before: str) -> Path:
    """A compiler that does something else first; it writes a line for each compilation."""
    return quick_compiler(folder / "slow-g++", f"echo $$ >> {folder}/compiled\n{before}")


def start(folder: Path, compiler: Path) -> Forked:
    environment = os.environ | {"MLANET_CACHE": str(folder / "cache"), "CXX": str(compiler), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return Forked([sys.executable, "-c", LOAD], env=environment, text=True, **pipes)


def test_first_compiles_side_by_side(tmp_path: Path) -> None:
    """Three processes that need the same kernels at once: one compiles, all compute, one file is left."""
    compiler = slow_compiler(tmp_path, "sleep 1")
    running = [start(tmp_path, compiler) for _ in range(3)]
    answers = [one.communicate(timeout=300) for one in running]
    assert len({out for out, _ in answers}) == 1 and all(one.returncode == 0 for one in running), answers
    assert len((tmp_path / "compiled").read_text().split()) == 1
    assert [one.suffix for one in (tmp_path / "cache" / "kernels").iterdir()] == [".so"]


def test_a_killed_compilation_leaves_nothing_that_stays_or_blocks(tmp_path: Path) -> None:
    """SIGKILL while the compiler runs: no library; the next process is not held up, and clears away what was left."""
    process = start(tmp_path, slow_compiler(tmp_path, "sleep 30"))
    while not (tmp_path / "compiled").exists():
        time.sleep(0.05)
    process.kill()
    process.communicate()
    os.killpg(int((tmp_path / "compiled").read_text()), signal.SIGKILL)  # the sleeping compiler itself
    place = tmp_path / "cache" / "kernels"
    assert not list(place.glob("*.so"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLANET_CACHE", str(tmp_path / "cache"))
        library.load.cache_clear()
        patch.setattr(build, "_compiled", lambda *_: b"not a library")
        with pytest.raises(KernelError, match="cannot be loaded"):
            library.load(1, torch.float32)
    assert [one.suffix for one in place.iterdir()] == [".so"]


@pytest.mark.parametrize(("work", "ends"), [("while :; do :; done", False), ("sleep 3", True)], ids=["busy", "waiting"])
def test_the_limit_counts_processor_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str, ends: bool
) -> None:
    """A compiler that computes for longer is stopped and named; one that waits for its turn is not."""
    compiler = tmp_path / "compiler"
    compiler.write_text(f"#!/bin/sh\n{work}\n")
    compiler.chmod(0o755)
    monkeypatch.setattr(build, "TIME_LIMIT", 1)
    if ends:
        with pytest.raises(KernelError, match="could not compile"):  # it wrote nothing
            build._compiled((str(compiler),), tmp_path / "none.cpp", (), tmp_path)
    else:
        with pytest.raises(KernelError, match="more than 1 s of processor time"):
            build._compiled((str(compiler),), tmp_path / "none.cpp", (), tmp_path)
