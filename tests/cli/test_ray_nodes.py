"""Ray on two nodes, of which one is lost in the middle: the run goes on, and gives what one process gives."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk

pytest.importorskip("ray", reason="needs ray")
pytestmark = pytest.mark.long


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two raylets of this machine, of one CPU each."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made
    made.shutdown()


@pytest.mark.parametrize("command", ["relax", "predict"])
def test_a_node_is_lost_in_the_middle(command: str, mlanet, model, cluster) -> None:
    """The second node is killed once the first results are there."""
    found = [bulk("Cu", cubic=True, a=3.5 + 0.002 * k) * (2, 2, 1) for k in range(24 if command == "relax" else 600)]
    for seed, atoms in enumerate(found):
        atoms.rattle(0.05, seed=seed)
    ase.io.write("set.extxyz", found)
    words = [command, "set.extxyz", "-m", str(model), *(["--index", ":", "--steps", "20"] * (command == "relax"))]
    alone = mlanet(*words, "-o", "alone.extxyz")
    code = "from mlanet.cli.main import main; raise SystemExit(main())"
    run = subprocess.Popen(
        [sys.executable, "-c", code, *words, "-o", "many.extxyz", "--ray", cluster.address],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    partial = Path("many.partial.extxyz")
    while run.poll() is None and not (partial.exists() and partial.stat().st_size):
        time.sleep(0.02)
    assert run.poll() is None, "it ended before the node was lost"
    (second,) = cluster.worker_nodes
    cluster.remove_node(second, allow_graceful=False)
    said = run.communicate(timeout=300)[0]
    assert run.returncode == alone.status, said
    one, other = (ase.io.read(name, ":") for name in ("alone.extxyz", "many.extxyz"))
    assert len(one) == len(other) == len(found)
    for left, right in zip(one, other, strict=True):
        assert np.allclose(left.positions, right.positions, atol=1e-8)
        assert np.allclose(left.get_forces(), right.get_forces(), atol=1e-5)
