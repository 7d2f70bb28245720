"""How much memory a batch will need, before it is computed: so that none need fail for lack of it.

The peak of one computation is b + a·N + e·E bytes for N atoms and E directed pairs (docs/decisions/0010-forecasts.md).
The three numbers depend on everything else (model, l_max, channels, layers, heads, precision, inference or training,
device), so they are not tabulated but measured: the very model runs on small graphs that differ in atoms and in pairs,
which takes about as long as a few batches. Above the largest of them the law is followed to a few percent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from mlanet.errors import DataError
from mlanet.graph import AtomicGraph, Size
from mlanet.memory import allocated_bytes, free_bytes, peak_bytes
from mlanet.ops.dispatch import tabled
from mlanet.potential import Potential

PROBES = (64, 128)
"""Atoms of the graphs that are computed."""

SMALL_PEAK = 32 * 2**20
"""Bytes; a model that needs less for the first graph is measured on graphs four times as large."""

MARGIN = 1.1
"""Forecasts are trusted to a tenth (benchmarks/results/forecast_cpu.csv), so batches are made for a tenth less."""

SHARE_OF_FREE = 0.9
"""Of the memory that is free, so much is used when the user names no limit: allocators leave gaps."""

OPTIMISER_COPIES = 4
"""Copies of the weights that a training holds besides them: three of AdamW with amsgrad, one of the average."""

STEPS_PER_OCTAVE = 4
"""Numbers of neighbours for which laws are measured: 16, 19, 23, 27, 32, …"""

CROWDED = 0.5
"""Share of atoms with neighbours in the graphs that are arranged as lists."""

ATOMS_PER_VOLUME = 0.05
"""Å⁻³, of the graphs' cells: a typical solid; long-range sums take memory by volume."""

CRYSTAL_SPREAD = 1.15
"""Largest over mean number of neighbours in a crystal at room temperature."""


@dataclass(frozen=True)
class Law:
    """base + per_atom · N + per_row · rows, bytes; a row is a pair of atoms, or its place in a padded table."""

    base: float
    per_atom: float
    per_row: float

    def __call__(self, atoms: float, rows: float) -> float:
        """Bytes."""
        return self.base + self.per_atom * atoms + self.per_row * rows


class Forecast:
    """bytes(batch) = held + a law of its atoms and pairs.

    The layers take different ways for different batches: on a CPU they arrange pairs as a table with equally many
    rows per atom where that wastes little, else as a list (`mlanet.ops.dispatch.pairs`), and sum by center or by
    edge depending on the number of neighbours. So there is one law for each arrangement and number of neighbours (in
    steps of a fifth), measured when it is first asked for, which takes about as long as three small batches.

    - held: weights, and in training the optimiser's and the average's copies of them

    Args:
        potential: where it will compute, in its precision.
        training: of a training step; otherwise of energy, forces and stress alone.
    """

    def __init__(self, potential: Potential, training: bool) -> None:
        self.potential, self.training = potential, training
        weights = sum(parameter.numel() * parameter.element_size() for parameter in potential.parameters())
        self.held = float(weights * (1 + OPTIMISER_COPIES * training))
        self._laws: dict[tuple[bool, int], Law] = {}

    def bytes(self, size: Size) -> float:
        """Peak of a batch, everything included."""
        return self.held + self.computing(size)

    def computing(self, size: Size) -> float:
        """The same above the weights and what is held beside them."""
        tabled = self._is_tabled(size)
        return self.law(tabled, size.degree)(size.atoms, size.degree * size.atoms if tabled else size.edges)

    def fits(self, size: Size, limit: float) -> bool:
        """Whether a batch is safe under a limit, bytes."""
        return MARGIN * self.bytes(size) <= limit

    def largest(self, limit: float, neighbours: float) -> int:
        """Atoms of the largest crystal with so many neighbours per atom that fits under a limit."""
        degree = round(CRYSTAL_SPREAD * neighbours)
        low, high = 0, 1
        while self.fits(Size(high, round(neighbours * high), degree), limit):
            low, high = high, 2 * high
        while high - low > max(1, low // 1000):
            middle = (low + high) // 2
            fits = self.fits(Size(middle, round(neighbours * middle), degree), limit)
            low, high = (middle, high) if fits else (low, middle)
        return low

    def law(self, tabled: bool, degree: int) -> Law:
        """Of batches in which no atom has more than `degree` neighbours, arranged as table or as list."""
        step = round(STEPS_PER_OCTAVE * math.log2(max(degree, 2)))
        if (tabled, step) not in self._laws:
            self._laws[tabled, step] = self._measured(tabled, round(2 ** (step / STEPS_PER_OCTAVE)))
        return self._laws[tabled, step]

    def _measured(self, tabled: bool, degree: int) -> Law:
        """Least squares over three graphs, no term negative, every graph weighing alike."""
        from scipy.optimize import nnls

        small, large = (max(atoms, degree + 1) for atoms in PROBES)
        large = max(large, 2 * small)
        share = 1.0 if tabled or self.potential.device.type != "cpu" else CROWDED
        if peak(self.potential, probe(self.potential, small, degree, share), self.training) < SMALL_PEAK:
            small, large = 4 * small, 4 * large
        shapes = [(small, degree, share), (large, degree, share)]
        shapes += [] if tabled else [(large, degree, share / 2)]
        graphs = [probe(self.potential, *shape) for shape in shapes]
        peaks = np.array([peak(self.potential, graph, self.training) for graph in graphs], dtype=np.float64)
        rows = [graph.n_atoms * degree if tabled else graph.n_edges for graph in graphs]
        atoms = [0.0 if tabled else graph.n_atoms for graph in graphs]
        terms = np.array([np.ones(len(graphs)), atoms, rows], dtype=np.float64).T
        size = np.maximum(terms.max(axis=0), 1.0)
        coefficients, _ = nnls(terms / size / peaks[:, None], np.ones(len(graphs)))
        return Law(*(float(value) for value in coefficients / size))

    def _is_tabled(self, size: Size) -> bool:
        sample = next(self.potential.model.parameters())
        return tabled(self.potential.model.kernels, sample, size.atoms, size.degree, size.edges)


def probe(potential: Potential, atoms: int, degree: int, share: float = 1.0) -> AtomicGraph:
    """A made-up graph: a share of the atoms has exactly `degree` neighbours, all within the cutoff, the rest has none.

    What is computed is no physics, but it takes the memory of a batch of that size.
    """
    crowded = max(1, round(share * atoms))
    center = torch.arange(crowded).repeat_interleave(degree)
    neighbor = (center + 1 + torch.arange(degree).repeat(crowded)) % atoms
    side = math.ceil(atoms ** (1 / 3))
    grid = torch.cartesian_prod(*[torch.arange(side, dtype=torch.float64)] * 3)[:atoms]
    edge = (atoms / ATOMS_PER_VOLUME) ** (1 / 3)
    graph = AtomicGraph(
        positions=grid * (0.5 * potential.cutoff / side),
        numbers=torch.tensor(potential.species)[torch.arange(atoms) % len(potential.species)],
        cell=edge * torch.eye(3, dtype=torch.float64)[None],
        pbc=torch.ones(1, 3, dtype=torch.bool),
        center=center,
        neighbor=neighbor,
        shift=torch.zeros(len(center), 3, dtype=torch.int64),
        structure=torch.zeros(atoms, dtype=torch.int64),
        n_structures=1,
        cutoff=potential.cutoff,
        charge=torch.zeros(1, dtype=torch.float64),
        atomic_charges=torch.zeros(atoms, dtype=torch.float64),
    )
    return graph.to(potential.device, potential.dtype)


@dataclass(frozen=True)
class MemoryLimit:
    """Which batches may be computed, for `Loader` and `predict`: `fits(size)`.

    - forecast: of the potential · limit: bytes, everything included
    """

    forecast: Forecast
    limit: float

    def __call__(self, size: Size) -> bool:
        """Whether a batch of this size is safe."""
        return self.forecast.fits(size, self.limit)

    def require(self, graph: AtomicGraph, where: str) -> None:
        """Refuse a structure that cannot fit even alone, before anything is computed.

        Raises:
            DataError: names the structure, what it needs, and what can be done.
        """
        if not self(graph.size()):
            need = MARGIN * self.forecast.bytes(graph.size()) / 2**30
            raise DataError(
                f"{where}: {graph.n_atoms} atoms with {graph.n_edges} pairs need about {need:.3g} GiB, more than the "
                f"{self.limit / 2**30:.3g} GiB there are; allow more with max_memory, or use a smaller model, float32 "
                "or a shorter cutoff"
            )


def memory_limit(potential: Potential, gib: float | None) -> MemoryLimit | None:
    """For energy, forces and stress under what the user allows, else under what a GPU has free; None without a limit.

    Args:
        potential: where it will compute, in its precision.
        gib: GiB, or None.
    """
    if gib is not None:
        limit = gib * 2**30
    elif potential.device.type == "cuda":
        limit = SHARE_OF_FREE * free_bytes(potential.device)
    else:
        return None
    return MemoryLimit(Forecast(potential, training=False), limit)


def peak(potential: Potential, graph: AtomicGraph, training: bool) -> int:
    """Bytes at the worst moment, above the weights and the graph; a first call, which fills caches, does not count."""

    def run() -> None:
        prediction = potential(graph)
        if training:
            values = [getattr(prediction, quantity.name).nan_to_num().abs().mean() for quantity in potential.quantities]
            torch.stack([value.double() for value in values]).sum().backward()
        potential.zero_grad(set_to_none=True)

    was_training = potential.training
    potential.train(training)
    try:
        run()
        return allocated_bytes(run, potential.device)[0] if potential.device.type == "cuda" else peak_bytes(run)
    finally:
        potential.train(was_training)
