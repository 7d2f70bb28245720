"""How near MLANet's attention layers come to what the machine can do at best.

The floor of a layer's forward pass is the larger of two times: that of the bytes which no implementation can avoid, at
the bandwidth of a large copy, and that of its floating-point operations, at the speed of a large matrix product.
Nothing that belongs to an edge is counted as written: a fused kernel recomputes it. Both ceilings are measured on the
spot. On a GPU the operations that the kernels really do, padding included, are given too.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from ase import Atoms
from triton_work import work

from mlanet.nn.dual_path import DualPathAttention
from mlanet.ops.dispatch import PLAIN
from mlanet.ops.message.gpu.sizes import Sizes
from mlanet.profiling.ceilings import Ceilings
from mlanet.profiling.clock import WARM_UP, Sample, Stopwatch
from mlanet.profiling.compare import neighbours_of, species_of
from mlanet.profiling.fleet import Settings
from mlanet.profiling.ours import own
from mlanet.profiling.subject import Request

ROUNDS = 5


@dataclass(frozen=True)
class Cost:
    """bytes that must move and flops that must be done, at least."""

    bytes: float
    flops: float

    def floor_ms(self, best: Ceilings) -> float:
        """Milliseconds."""
        return 1e3 * max(self.bytes / (1e9 * best.gb_per_s), self.flops / (1e9 * best.gflop_per_s))


def cost(layer: DualPathAttention, atoms: int, edges: int, itemsize: int) -> Cost:
    """Of one forward pass of a light layer with `tp_dot`; two operations for each multiplication with addition.

    C channels, L highest degree, M = (L+1)² rows, HK widths of query and key, R of z, B radial functions.
    Node: features in, message out; value, query, key and the two halves of z written once and read once.
    Edge: neighbour (8 bytes), envelope, B and M numbers read; z, gates, logits, φ, ψ, dot products and sums computed.
    """
    shape, channels, degrees = layer.shape, layer.channels, layer.n_degrees
    rows, width = degrees**2, shape.heads * shape.key_dim
    sizes = (shape.radial_functions, *shape.radial_hidden, 2 * degrees * channels)
    networks = sum(a * b for a, b in pairwise(sizes))
    of_z = degrees * channels // shape.gate_channels + 2 * degrees * shape.heads
    networks += shape.hidden * (shape.radial_functions + of_z)
    dots = rows * (width + shape.heads)
    sums = 2 * degrees * channels + 2 * rows * channels
    node = rows * channels * (channels + 2 * width) + 2 * channels * shape.hidden
    numbers_of_node = 2 * rows * channels + 2 * (rows * (channels + 2 * width) + 2 * shape.hidden)
    numbers_of_edge = 1 + shape.radial_functions + rows
    moved = itemsize * (atoms * numbers_of_node + edges * numbers_of_edge) + 8 * edges
    return Cost(float(moved), 2.0 * (atoms * node + edges * (networks + dots + sums)))


def flops_in_triton(layer: DualPathAttention, edges: int) -> float:
    """What the kernels for GPUs do with the edges in a forward pass, padding included (`triton_work`)."""
    features = torch.empty(1, layer.n_degrees**2, layer.channels)
    sizes = Sizes.of(layer.message_shape(), (features,), layer.message_weights(), tile=16, precision="ieee")
    return float(edges * work(sizes)["message"].flops)


def floors(name: str, where: str, atoms: Atoms, settings: Settings, best: Ceilings) -> list[dict[str, Any]]:
    """Medians of the forward pass of every attention layer of one of our models, beside its floor.

    Args:
        name: as in `mlanet profile`; a model with light messages.
        where: name of the system.
    """
    request = Request(species_of([atoms]), neighbours_of([atoms]), settings.execution)
    torch.set_num_threads(settings.threads)
    subject = own(name, request)
    graph = subject.prepare([atoms])
    layers = {key: one for key, one in subject.module.named_modules() if isinstance(one, DualPathAttention)}
    for _ in range(WARM_UP):
        subject.evaluate(graph, False)
    times = _times(lambda: subject.evaluate(graph, False), layers, torch.device(settings.execution.device))
    rows = []
    for key, layer in layers.items():
        least = cost(layer, graph.n_atoms, graph.n_edges, subject.module.dtype.itemsize)
        ms, floor = Sample(times[key]).quantile(0.5), least.floor_ms(best)
        figures = {"ms": ms, "floor_ms": floor, "of_floor": ms / floor}
        figures |= {"GB_per_s": 1e-6 * least.bytes / ms, "GFLOP_per_s": 1e-6 * least.flops / ms}
        if settings.execution.device.startswith("cuda") and subject.module.model.kernels != PLAIN:
            figures |= {"GFLOP_per_s_in_kernels": 1e-6 * flops_in_triton(layer, graph.n_edges) / ms}
        sizes = {"atoms": graph.n_atoms, "edges": graph.n_edges}
        row = {"model": name, "system": where, "layer": key, **sizes}
        rows.append(row | {one: round(value, 4) for one, value in figures.items()})
    return rows


def _times(run: Any, layers: dict[str, DualPathAttention], device: torch.device) -> dict[str, list[float]]:
    """Milliseconds of each layer's forward pass in some calls of `run`."""
    watch = Stopwatch(device)
    times: dict[str, list[float]] = {key: [] for key in layers}
    originals = {key: layer.forward for key, layer in layers.items()}

    def timed(key: str) -> Any:
        def forward(*given: Any) -> Any:
            answer: list[Any] = []
            times[key].append(watch.time(lambda: answer.append(originals[key](*given))))
            return answer[0]

        return forward

    try:
        for key, layer in layers.items():
            layer.forward = timed(key)  # type: ignore[method-assign]
        for _ in range(ROUNDS):
            run()
    finally:
        for layer in layers.values():
            del layer.forward
    return times
