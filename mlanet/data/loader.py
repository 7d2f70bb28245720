"""Batches under an edge budget: seeded, resumable at any batch, shared out over processes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import TypeVar

import numpy as np

from mlanet.data.samples import Sample
from mlanet.errors import DataError
from mlanet.graph import AtomicGraph, Labels, Size, batch_graphs, batch_labels


class Loader:
    """Deterministic batches of samples; edges, not structures, are what time and memory follow.

    A batch is filled until the next structure would exceed `max_edges`; one structure alone may exceed it. A
    structure counts max(edges, atoms), so that isolated atoms are not free. The plan of an epoch depends on `seed`
    and `epoch` only, so a run resumes at any batch without replaying the ones before.

    Args:
        samples: what to batch; every one stands exactly once in an epoch.
        replay: old samples; each epoch draws so many of them anew that they are `replay_share` of it, or takes all.
        max_edges: budget of directed pairs in a batch.
        seed: of the shuffle.
        shuffle: a new order in every epoch, or always the given order.
        max_structures: at most so many structures in a batch, or no such limit.
        fits: whether a batch of a size is safe (`mlanet.forecast`), or None: then only edges count.
    Raises:
        DataError: no samples, or a budget below one.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        max_edges: int,
        seed: int = 0,
        shuffle: bool = True,
        max_structures: int | None = None,
        fits: Callable[[Size], bool] | None = None,
        replay: Sequence[Sample] = (),
        replay_share: float = 0.5,
    ) -> None:
        if not samples:
            raise DataError("there is nothing to load: no samples")
        if max_edges < 1 or (max_structures is not None and max_structures < 1):
            raise DataError(f"a batch needs room: max_edges={max_edges}, max_structures={max_structures}")
        self.samples = [*samples, *replay]
        self.new = len(samples)
        self.drawn = min(len(replay), max(1, round(len(samples) * replay_share / (1 - replay_share))))
        self.max_edges = max_edges
        self.seed = seed
        self.shuffle = shuffle
        self.max_structures = max_structures
        graphs = [sample.graph for sample in self.samples]
        self._costs = [max(graph.n_edges, graph.n_atoms) for graph in graphs]
        self._fits = fits
        self._sizes = [] if fits is None else [graph.size() for graph in graphs]

    def plan(self, epoch: int) -> list[list[int]]:
        """Indices of the samples of every batch of an epoch."""
        order = range(self.new + self.drawn)
        if self.shuffle:
            rng = np.random.default_rng([self.seed, epoch])
            chosen = rng.permutation(self.new)
            if self.drawn:
                old = self.new + rng.permutation(len(self.samples) - self.new)[: self.drawn]
                chosen = rng.permutation(np.concatenate([chosen, old]))
            order = chosen.tolist()
        limit = self.max_structures or len(self.samples)
        batches: list[list[int]] = []
        cost = 0
        for index in order:
            within = bool(batches) and cost + self._costs[index] <= self.max_edges and len(batches[-1]) < limit
            if not (within and self._is_safe([*batches[-1], index])):
                batches.append([])
                cost = 0
            batches[-1].append(index)
            cost += self._costs[index]
        return batches

    def _is_safe(self, batch: list[int]) -> bool:
        """Whether memory suffices."""
        return self._fits is None or self._fits(reduce(Size.with_, [self._sizes[index] for index in batch]))

    def len_epoch(self, epoch: int, world: int = 1) -> int:
        """Steps of an epoch when `world` processes take one batch each per step, rounded up."""
        return -(-len(self.plan(epoch)) // world)

    def batches(
        self, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[AtomicGraph, Labels]]:
        """The batches of one process: at step k, rank r of `world` gets batch k · world + r of `plan(epoch)`.

        Every batch goes to exactly one rank. When the number of batches is not a multiple of `world`, the highest
        ranks have no batch in the last step and their iterator ends one short of `len_epoch(epoch, world)`; a
        training loop gives them an empty step.

        Args:
            epoch: from 0.
            start: steps of this epoch that are done already.
            rank: of this process, from 0.
            world: how many processes there are.
        """
        if not 0 <= rank < world or start < 0:
            raise ValueError(f"rank {rank} of {world} and start {start} are impossible")
        for indices in self.plan(epoch)[start * world + rank :: world]:
            chosen = [self.samples[index] for index in indices]
            yield batch_graphs([sample.graph for sample in chosen]), batch_labels([sample.labels for sample in chosen])


T = TypeVar("T")


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """The same items, each made by a thread of its own while the one before is worked on.

    An error in making one is raised in its place. Never more than one item waits.

    >>> list(ahead(iter("abc")))
    ['a', 'b', 'c']
    """
    with ThreadPoolExecutor(1, thread_name_prefix="loader") as maker:
        coming = maker.submit(next, items)
        while True:
            try:
                item = coming.result()
            except StopIteration:
                return
            coming = maker.submit(next, items)
            yield item
