"""The native engine keeps what it took and no more, and its threads do not meet: over many steps, under sanitizers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compilers import COMPILER
from native_systems import potential

from mlanet.native import Engine
from mlanet.native.engine import SOURCES, only_kind
from mlanet.native.export import export_native, native_bytes

TINY: dict[str, dict[str, Any]] = {
    "mlanet_l1": {"irreps": "4x0e+4x1o", "layers": 2, "heads": 2, "key_dim": 2, "hidden": 4, "gate_channels": 1},
    "leignn_64": {"channels": 4, "layers": 2},
}
KINDS = pytest.mark.parametrize("preset", TINY)
TURNED: dict[str, Any] = {"attention": "none", "output_gate": "head"}


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not say how much memory is used")
@KINDS
def test_ten_thousand_steps_take_no_memory(preset: str) -> None:
    """Atoms come and go, with ghosts and without: what a step leaves behind would be a megabyte at a hundred bytes."""
    engine, draw = Engine(native_bytes(potential(preset, **TINY[preset]))), np.random.default_rng(0)

    def step() -> None:
        n, ghosts = int(draw.integers(1, 7)), int(draw.integers(0, 4))
        owner, places = draw.integers(0, n, ghosts), draw.random((n, 3)) + np.arange(n)[:, None]
        every = np.vstack([places, places[owner] + [4.0, 0, 0]])
        vectors = every[None] - places[:, None]
        distance = np.linalg.norm(vectors, axis=2)
        i, j = np.nonzero((distance < engine.cutoff) & (distance > 0))
        kinds = draw.integers(0, 3, n)
        engine.compute(
            np.append(kinds, kinds[owner]),
            np.searchsorted(i, np.arange(n + 1)),
            j,
            vectors[i, j],
            lambda rows: rows.__setitem__(slice(n, None), rows[owner]),
            lambda rows: np.add.at(rows, owner, rows[n:]),
        )

    for _ in range(2000):
        step()
    before = resident()
    for _ in range(10_000):
        step()
    assert resident() - before < 2**19


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
@pytest.mark.parametrize(("preset", "changes"), [*((preset, {}) for preset in TINY), ("mlanet_l1", TURNED)], ids=str)
@pytest.mark.parametrize(
    "flags",
    [
        ["-fsanitize=address", "-fopenmp"],
        ["-fsanitize=thread", "-DMLANET_STD_THREADS"],
    ],
    ids=["address", "thread"],
)
def test_steps_under_sanitizers(preset: str, changes: dict[str, Any], flags: list[str], tmp_path: Path) -> None:
    """Two engines at once, of two threads each: nothing out of bounds, nothing leaked, no two that write one place."""
    assert COMPILER is not None
    subject = potential(preset, **TINY[preset] | changes)
    export_native(subject, tmp_path / "tiny.mlanet")
    only = only_kind(Engine(tmp_path / "tiny.mlanet").header, "float64")
    words = ["-std=c++17", "-O0", "-g", "-march=native", "-pthread", *flags, f"-DMLANET_ONLY={only}", f"-I{SOURCES}"]
    source, program = Path(__file__).parent / "steps.cpp", tmp_path / "steps"
    done = subprocess.run([COMPILER, *words, source, "-o", program], capture_output=True, text=True, check=False)
    if "cannot find" in done.stderr:
        pytest.skip("the compiler has no such sanitizer")
    assert done.returncode == 0, done.stderr[-2000:]
    done = subprocess.run([program, tmp_path / "tiny.mlanet", "200", "2"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
