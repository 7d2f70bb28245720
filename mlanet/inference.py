"""Predictions for any number of structures: batched for speed, streaming so that memory holds one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from torch import Tensor

from mlanet.graph import AtomicGraph, Prediction, batch_graphs
from mlanet.potential import Potential


def predict(
    potential: Potential,
    graphs: Iterable[AtomicGraph],
    *,
    max_edges: int = 20_000,
    memory_share: Callable[[AtomicGraph], float] | None = None,
) -> Iterator[Prediction]:
    """One `Prediction` per structure, in order, on the CPU and without history.

    Graphs are taken as they come and joined until the next one would bring the batch above `max_edges`; a single graph
    above it makes a batch of its own. What a structure is batched with changes its numbers by rounding only.

    Args:
        potential: answers in evaluation mode, and is left in the mode in which it was found.
        graphs: of one structure each, usually; those of a graph with several come one after another.
        max_edges: bounds memory, which grows with edges; an atom without neighbours counts as one edge.
        memory_share: what part of the memory for a batch a graph takes (`mlanet.forecast`); None: edges alone count.
    Raises:
        UnsupportedElementError, GeometryError: as `Potential`; predictions already yielded stay valid.
    """
    if max_edges < 1:
        raise ValueError(f"max_edges must be positive, got {max_edges}")
    waiting: list[AtomicGraph] = []
    load, share = 0, 0.0
    for graph in graphs:
        size = max(graph.n_edges, graph.n_atoms)
        part = 0.0 if memory_share is None else memory_share(graph)
        if waiting and (load + size > max_edges or share + part > 1):
            yield from _answer(potential, waiting)
            waiting, load, share = [], 0, 0.0
        waiting.append(graph)
        load, share = load + size, share + part
    if waiting:
        yield from _answer(potential, waiting)


def split(prediction: Prediction, graph: AtomicGraph) -> list[Prediction]:
    """The prediction of a batch as one prediction per structure (views, no copies).

    - prediction: of S structures with N atoms together · graph: the batch it was made for
    """
    counts = graph.atoms_per_structure().tolist()
    forces = prediction.forces.split(counts)
    atomic = prediction.atomic_energies.split(counts)
    charges = [None] * len(counts) if prediction.charges is None else prediction.charges.split(counts)
    return [
        Prediction(prediction.energy[i : i + 1], forces[i], prediction.stress[i : i + 1], atomic[i], charges[i])
        for i in range(graph.n_structures)
    ]


def _answer(potential: Potential, graphs: list[AtomicGraph]) -> list[Prediction]:
    """Evaluate one batch; one transfer to the CPU per batch, not per structure."""
    batch = batch_graphs(graphs)
    training = potential.training
    potential.eval()
    try:
        prediction = potential(batch)
    finally:
        potential.train(training)
    return split(prediction.detach().map(Tensor.cpu), batch)
