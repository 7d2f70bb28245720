"""Every test starts from the same seeds, one thread and default settings of torch."""

from __future__ import annotations

import base64
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from typing import BinaryIO

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["COLUMNS"] = "200"
os.environ["NO_COLOR"] = "1"

import numpy as np
import pytest
import torch
from compilers import CHEAP, COMPILER
from forked import Forked
from hypothesis import settings

torch.set_num_threads(1)
if COMPILER is not None:
    os.environ.setdefault("CXX", f"{COMPILER} {CHEAP}")
# A shell that starts this in the background has SIGINT ignored, here and in every process that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("mlanet", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("mlanet")


@pytest.fixture(autouse=True)
def same_start() -> Iterator[None]:
    """Seed every generator before a test, and insist that a test leaves torch's global settings alone."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    before = (torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled())
    yield
    assert (torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()) == before


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpreters that the package starts are copies of this process, where nothing depends on their being new."""
    monkeypatch.setattr(subprocess, "Popen", Forked)


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
"""A picture of one dot, as PNG."""


@pytest.fixture
def drawn() -> None:
    """Asked for by tests that look at pictures: one of each kind."""


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands draw what no test looks at, and that is much of their time here: one dot instead."""
    if request.path.parent.name not in ("training", "sweep", "cli", "distill") or "drawn" in request.fixturenames:
        return
    from matplotlib.figure import Figure

    def save(figure: Figure, to: BinaryIO, **options: object) -> None:
        to.write(base64.b64decode(PIXEL))

    monkeypatch.setattr(Figure, "savefig", save)
