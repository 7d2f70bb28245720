"""No false alarm on real sets and random parts of them; skipped where MLANET_REFERENCE_DATA names no folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mlanet.data.dataset import load_samples
from mlanet.data.suspicions import suspicions

FOLDER = os.environ.get("MLANET_REFERENCE_DATA", "")
SETS = sorted(Path(FOLDER).rglob("*.extxyz.xz")) if FOLDER else []
PARTS = int(os.environ.get("MLANET_REFERENCE_PARTS", "3"))


@pytest.mark.slow
@pytest.mark.skipif(not SETS, reason="MLANET_REFERENCE_DATA names no folder of extxyz.xz files")
@pytest.mark.parametrize("path", SETS, ids=lambda path: path.name)
def test_no_false_alarm(path: Path) -> None:
    """Neither the set nor any part of fifty frames or more is accused of anything."""
    samples = load_samples([path], 5.0, require=())
    if not any(bool(sample.labels.energy.isfinite().all()) for sample in samples):
        pytest.skip("no energies")
    generator = np.random.default_rng(17)
    for _ in range(PARTS if len(samples) > 50 else 1):
        size = int(generator.integers(50, min(len(samples), 120) + 1)) if len(samples) > 50 else len(samples)
        part = [samples[k] for k in sorted(generator.choice(len(samples), size, replace=False))]
        assert suspicions(part) == []
