"""How much memory a batch will need, before it is computed: so that none need fail for lack of it.

The peak of one computation is b + a·N + e·E bytes for N atoms and E directed pairs (docs/decisions/0010-forecasts.md).
The three numbers depend on everything else (model, l_max, channels, layers, heads, precision, inference or training,
device), so they are not tabulated but measured: the very model runs on three small crystals that differ in atoms and
in pairs, which takes about as long as a few batches. Above the largest of them the law is followed to a few percent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import nnls

from mlanet.errors import DataError
from mlanet.graph import AtomicGraph, batch_graphs
from mlanet.memory import allocated_bytes, free_bytes, peak_bytes
from mlanet.nn.edges import MAX_PADDING, worth_a_table
from mlanet.potential import Potential

PROBES = ((64, 24.0), (128, 24.0), (64, 48.0))
"""(atoms, neighbours per atom) of the crystals that are computed."""

SMALL_PEAK = 32 * 2**20
"""Bytes; a model that needs less for the first crystal is measured on crystals four times as large."""

MARGIN = 1.1
"""Forecasts are trusted to a tenth (benchmarks/results/forecast_cpu.csv), so batches are made for a tenth less."""

SHARE_OF_FREE = 0.9
"""Of the memory that is free, so much is used when the user names no limit: allocators leave gaps."""

OPTIMISER_COPIES = 4
"""Copies of the weights that a training holds besides them: three of AdamW with amsgrad, one of the average."""

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


@dataclass(frozen=True)
class Forecast:
    """bytes = held + a law of atoms and pairs.

    On a CPU the layers arrange pairs as a table with equally many rows per atom where that wastes little, else as a
    list (`mlanet.nn.edges.pair_layout`); each way has its law. Elsewhere there is the list alone.

    - held: weights, and in training the optimiser's and the average's copies of them
    """

    held: float
    listed: Law
    tabled: Law | None

    def bytes(self, graph: AtomicGraph) -> float:
        """Peak of a batch, everything included."""
        return self.held + self.computing(graph)

    def computing(self, graph: AtomicGraph) -> float:
        """The same above the weights and what is held beside them."""
        degree = int(torch.bincount(graph.center, minlength=1).max())
        if self.tabled is not None and worth_a_table(graph.n_atoms, degree, graph.n_edges):
            return self.tabled(graph.n_atoms, degree * graph.n_atoms)
        return self.listed(graph.n_atoms, graph.n_edges)

    def most(self, atoms: int, edges: int, degree: float) -> float:
        """What a structure can add at most to a batch in which no atom has more than `degree` neighbours."""
        rows = min(degree * atoms, MAX_PADDING * edges)
        return max(law(atoms, count) - law.base for law, count in self._laws(edges, rows))

    def room(self, limit: float) -> float:
        """Bytes under a limit that are left for structures, a margin taken off."""
        return max(0.0, limit / MARGIN - self.held - self.base)

    @property
    def base(self) -> float:
        """What is needed whatever the structures are."""
        return max(law.base for law, _ in self._laws(0, 0))

    def largest(self, limit: float, neighbours: float) -> int:
        """Atoms of the largest crystal with so many neighbours per atom that fits under a limit."""
        return int(1000 * self.room(limit) / self.most(1000, round(1000 * neighbours), CRYSTAL_SPREAD * neighbours))

    def _laws(self, edges: float, rows: float) -> list[tuple[Law, float]]:
        tabled = [] if self.tabled is None else [(self.tabled, rows)]
        return [(self.listed, edges), *tabled]


def forecast(potential: Potential, training: bool) -> Forecast:
    """Measure the laws of a potential where it is, in its precision.

    Args:
        training: of a training step; otherwise of energy, forces and stress alone.
    """
    was_training = potential.training
    potential.train(training)
    try:
        scale = 1 if _peak(potential, probe(potential, *PROBES[0]), training) > SMALL_PEAK else 4
        crystals = [probe(potential, scale * atoms, neighbours) for atoms, neighbours in PROBES]
        tabled = None
        if potential.device.type == "cpu":
            tabled = _law(potential, crystals, training)
            gases = [probe(potential, scale * atoms, neighbours / 8) for atoms, neighbours in PROBES]
            crystals = [batch_graphs(pair) for pair in zip(crystals, gases, strict=True)]
        listed = _law(potential, crystals, training)
    finally:
        potential.train(was_training)
    weights = sum(one.numel() * one.element_size() for one in potential.parameters())
    return Forecast(float(weights * (1 + OPTIMISER_COPIES * training)), listed, tabled)


def _law(potential: Potential, graphs: Sequence[AtomicGraph], training: bool) -> Law:
    """Least squares, no term negative, every probe weighing alike."""
    peaks = np.array([_peak(potential, graph, training) for graph in graphs], dtype=np.float64)
    terms = np.array([[1.0, graph.n_atoms, _rows(graph)] for graph in graphs])
    size = terms.max(axis=0)
    found, _ = nnls(terms / size / peaks[:, None], np.ones(len(graphs)))
    return Law(*(float(one) for one in found / size))


def _rows(graph: AtomicGraph) -> int:
    """Rows in which the layers arrange the pairs of a graph where it is."""
    degree = int(torch.bincount(graph.center, minlength=1).max())
    tabled = graph.center.device.type == "cpu" and worth_a_table(graph.n_atoms, degree, graph.n_edges)
    return degree * graph.n_atoms if tabled else graph.n_edges


def probe(potential: Potential, atoms: int, neighbours: float) -> AtomicGraph:
    """A rattled simple cubic crystal with so many atoms, and about so many neighbours each within the cutoff."""
    from ase import Atoms

    from mlanet.data.atoms import to_graph

    spacing = potential.cutoff * (4 / 3 * math.pi / neighbours) ** (1 / 3)
    shape = _box(atoms)
    places = spacing * np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 3)
    places = places + np.random.default_rng(0).normal(scale=0.03 * spacing, size=places.shape)
    numbers = np.resize(potential.species, len(places))
    crystal = Atoms(numbers=numbers, positions=places, cell=spacing * np.array(shape), pbc=True)
    return to_graph(crystal, potential.cutoff).to(potential.device, potential.dtype)


@dataclass(frozen=True)
class MemoryShare:
    """What part of the memory for structures one structure takes: batches are filled to 1, for `Loader` and `predict`.

    - law: of the potential · limit: bytes, everything included · degree: the most neighbours that any atom will have
    """

    law: Forecast
    limit: float
    degree: float = math.inf

    def __call__(self, graph: AtomicGraph) -> float:
        """The part, never too small."""
        return self.law.most(graph.n_atoms, graph.n_edges, self.degree) / max(self.law.room(self.limit), 1.0)

    def require(self, graph: AtomicGraph, where: str) -> None:
        """Refuse a structure that cannot fit even alone, before anything is computed.

        Raises:
            DataError: names the structure, what it needs, and what can be done.
        """
        need = MARGIN * self.law.bytes(graph)
        if need > self.limit:
            raise DataError(
                f"{where}: {graph.n_atoms} atoms with {graph.n_edges} pairs need about {need / 2**30:.3g} GiB, more "
                f"than the {self.limit / 2**30:.3g} GiB there are; allow more with max_memory, or use a smaller model, "
                "float32 or a shorter cutoff"
            )


def memory_share(potential: Potential, gib: float | None) -> MemoryShare | None:
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
    return MemoryShare(forecast(potential, training=False), limit)


def _peak(potential: Potential, graph: AtomicGraph, training: bool) -> int:
    """Bytes at the worst moment, above the weights and the graph; a first call, which fills caches, does not count."""

    def run() -> None:
        found = potential(graph)
        if training:
            loss = found.energy.abs().mean() + found.forces.abs().mean() + found.stress.nan_to_num().abs().mean()
            loss.backward()
        potential.zero_grad(set_to_none=True)

    run()
    if potential.device.type == "cuda":
        return allocated_bytes(run, potential.device)[0]
    return peak_bytes(run)


def _box(atoms: int) -> tuple[int, int, int]:
    """Three factors, as equal as they can be, of a number of atoms.

    >>> _box(64)
    (4, 4, 4)
    """
    first = max(one for one in range(1, round(atoms ** (1 / 3)) + 1) if atoms % one == 0)
    rest = atoms // first
    second = max(one for one in range(1, math.isqrt(rest) + 1) if rest % one == 0)
    return first, second, rest // second
