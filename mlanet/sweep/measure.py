"""What a point costs, and on what: peak memory of its process, and time per atom of a prediction."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch

from mlanet.data.samples import Sample
from mlanet.graph import batch_graphs
from mlanet.memory import forget_highest_resident, highest_resident, resident
from mlanet.potential import Potential
from mlanet.profiling.clock import Stopwatch

MIB = 2**20
ROUNDS, WARM_UP = 7, 2


class PeakMemory:
    """Highest memory since this object was made, less what was held then, in MiB.

    On a CPU the resident memory of the process, on a GPU what PyTorch allocated.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
        else:
            forget_highest_resident()
            self._before = resident()

    def mebibytes(self) -> float:
        """MiB."""
        on_gpu = self._device.type == "cuda"
        highest = torch.cuda.max_memory_allocated(self._device) if on_gpu else highest_resident()
        return max(0, highest - self._before) / MIB


def microseconds_per_atom(potential: Potential, samples: Sequence[Sample], max_edges: int) -> float:
    """Energy, forces and stress of one batch: median time over its atoms, µs.

    Args:
        potential: in evaluation mode.
        samples: the first ones, as many as fit, are the batch.
        max_edges: of the batch; the first structure is taken in any case.
    """
    graph = batch_graphs([sample.graph for sample in _first(samples, max_edges)])
    graph = graph.to(potential.device, potential.dtype)
    watch = Stopwatch(potential.device)
    times = [watch.time(lambda: potential(graph)) for _ in range(WARM_UP + ROUNDS)]
    return 1e3 * statistics.median(times[WARM_UP:]) / graph.n_atoms


def _first(samples: Sequence[Sample], max_edges: int) -> list[Sample]:
    chosen, edges = list(samples[:1]), samples[0].graph.n_edges
    for sample in samples[1:]:
        edges += sample.graph.n_edges
        if edges > max_edges:
            break
        chosen.append(sample)
    return chosen
