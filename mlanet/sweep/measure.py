"""What a point costs, and on what: peak memory of its process, time per atom of a prediction, the commit."""

from __future__ import annotations

import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import mlanet
from mlanet.data.samples import Sample
from mlanet.graph import AtomicGraph, batch_graphs
from mlanet.potential import Potential

MIB = 2**20
ROUNDS, WARM_UP = 7, 2
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Highest memory since this object was made, less what was held then, in MiB.

    On a CPU the resident memory of the process (VmHWM, whose mark is set back here; without /proc the largest ever),
    on a GPU what PyTorch allocated.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = float(torch.cuda.memory_allocated(device))
            return
        try:
            _CLEAR.write_text("5")
        except OSError:
            self._before = _resident("VmHWM")
        else:
            self._before = _resident("VmRSS")

    def mebibytes(self) -> float:
        """MiB."""
        if self._device.type == "cuda":
            return (torch.cuda.max_memory_allocated(self._device) - self._before) / MIB
        return max(0.0, _resident("VmHWM") - self._before) / MIB


def _resident(name: str) -> float:
    """Bytes: a field of /proc/self/status, or the largest ever where there is none."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(), flags=re.M)
    except OSError:
        found = None
    if found:
        return 1024.0 * int(found[1])
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def microseconds_per_atom(potential: Potential, samples: Sequence[Sample], max_edges: int) -> float:
    """Energy, forces and stress of one batch: median time over its atoms, µs.

    Args:
        potential: in evaluation mode.
        samples: the first ones, as many as fit, are the batch.
        max_edges: of the batch; the first structure is taken in any case.
    """
    graph = batch_graphs([sample.graph for sample in _first(samples, max_edges)])
    graph = graph.to(potential.device, potential.dtype)
    times = [_seconds(potential, graph) for _ in range(WARM_UP + ROUNDS)]
    return 1e6 * statistics.median(times[WARM_UP:]) / graph.n_atoms


def _first(samples: Sequence[Sample], max_edges: int) -> list[Sample]:
    chosen, edges = list(samples[:1]), samples[0].graph.n_edges
    for sample in samples[1:]:
        edges += sample.graph.n_edges
        if edges > max_edges:
            break
        chosen.append(sample)
    return chosen


def _seconds(potential: Potential, graph: AtomicGraph) -> float:
    start = time.perf_counter()
    potential(graph)
    if potential.device.type == "cuda":
        torch.cuda.synchronize(potential.device)
    return time.perf_counter() - start


def commit() -> str:
    """Of the clone that runs, or "unknown" for an installed package."""
    root = Path(mlanet.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return "unknown"
    words = ["git", "-C", str(root), "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"
