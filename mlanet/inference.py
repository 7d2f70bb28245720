"""Predictions for any number of structures: batched for speed, streaming so that memory holds one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from mlanet.errors import NotFiniteError
from mlanet.graph import AtomicGraph, Prediction, Size, batch_graphs
from mlanet.potential import Potential, defined, has_stress
from mlanet.quantities import QUANTITIES

OF_ATOMS = {"atomic_energies", "charges", "features", *(one.name for one in QUANTITIES if one.per_atom)}
"""Fields of a prediction with an entry for each atom; the others have one for each structure."""

NOTHING = Size(0, 0, 0)


def predict(
    potential: Potential,
    graphs: Iterable[AtomicGraph],
    *,
    max_edges: int = 20_000,
    fits: Callable[[Size], bool] | None = None,
) -> Iterator[Prediction]:
    """One `Prediction` per structure, in order, on the CPU and without history.

    Graphs are taken as they come and joined until the next one would bring the batch above `max_edges`; a single graph
    above it makes a batch of its own. What a structure is batched with changes its numbers by rounding only: a batch
    whose answer is not finite is computed again, each structure by itself, because in padded sums 0 · NaN is NaN.

    Args:
        potential: answers in evaluation mode, and is left in the mode in which it was found.
        graphs: of one structure each, usually; those of a graph with several come one after another.
        max_edges: bounds memory, which grows with edges; an atom without neighbours counts as one edge.
        fits: whether a batch of a size is safe (`mlanet.forecast`), or None: then only edges count.
    Raises:
        UnsupportedElementError, GeometryError: as `Potential`; predictions already yielded stay valid.
    """
    for batch in batches(graphs, max_edges=max_edges, fits=fits):
        yield from _answer(potential, batch)


def batches(
    graphs: Iterable[AtomicGraph], *, max_edges: int, fits: Callable[[Size], bool] | None = None
) -> Iterator[list[AtomicGraph]]:
    """Graphs joined in order until the next one would be too much; see `predict`."""
    if max_edges < 1:
        raise ValueError(f"max_edges must be positive, got {max_edges}")
    waiting: list[AtomicGraph] = []
    load, together = 0, NOTHING
    for graph in graphs:
        size = max(graph.n_edges, graph.n_atoms)
        alone = NOTHING if fits is None else graph.size()
        safe = fits is None or not waiting or fits(together.with_(alone))
        if waiting and (load + size > max_edges or not safe):
            yield waiting
            waiting, load, together = [], 0, NOTHING
        waiting.append(graph)
        load, together = load + size, together.with_(alone)
    if waiting:
        yield waiting


def split(prediction: Prediction, graph: AtomicGraph) -> list[Prediction]:
    """The prediction of a batch as one prediction per structure (views, no copies).

    - prediction: of S structures with N atoms together · graph: the batch it was made for
    """
    counts = graph.atoms_per_structure().tolist()
    named = prediction.tensors()
    parts = {name: value.split(counts if name in OF_ATOMS else 1) for name, value in named.items()}
    return [Prediction(**{name: part[i] for name, part in parts.items()}) for i in range(graph.n_structures)]


def require_finite(prediction: Prediction, graph: AtomicGraph, where: str) -> None:
    """Raise `NotFiniteError`, naming `where` and the atom, unless all that is said are numbers.

    Stress may be NaN where it is not defined, and where a model has none.
    """
    atomic = {"forces": prediction.forces, "atomic energies": prediction.atomic_energies}
    if prediction.charges is not None:
        atomic["charges"] = prediction.charges
    for name, values in atomic.items():
        bad = ~torch.isfinite(values.reshape(len(values), -1)).all(dim=1)
        if bool(bad.any()):
            atom = int(bad.nonzero()[0])
            found = values[atom].tolist()
            raise NotFiniteError(f"{where}, atom {atom}: the model gives {name} of {found}, which are not finite")
    if not bool(torch.isfinite(prediction.energy).all()):
        raise NotFiniteError(f"{where}: the model gives an energy of {prediction.energy.tolist()}, which is not finite")
    stress = prediction.stress[has_stress(graph).to(prediction.stress.device)]
    if not (bool(torch.isfinite(stress).all()) or bool(stress.isnan().all())):
        raise NotFiniteError(f"{where}: the model gives a stress that is not finite: {stress.tolist()}")
    for quantity in (one for one in QUANTITIES if one.optional):
        if (value := getattr(prediction, quantity.name)) is not None:
            value = value[defined(quantity, graph).to(value.device)]
            if not bool(torch.isfinite(value).all()):
                raise NotFiniteError(f"{where}: the model gives a {quantity.name} that is not finite: {value.tolist()}")


def _answer(potential: Potential, graphs: list[AtomicGraph]) -> list[Prediction]:
    """One batch; structure by structure where its answer is not finite, so that none touches another."""
    found = _evaluated(potential, graphs)
    if len(graphs) > 1 and not all(_is_finite(one) for one in found):
        found = [one for graph in graphs for one in _evaluated(potential, [graph])]
    return found


def _is_finite(prediction: Prediction) -> bool:
    return bool(torch.isfinite(prediction.energy).all() and torch.isfinite(prediction.forces).all())


def _evaluated(potential: Potential, graphs: list[AtomicGraph]) -> list[Prediction]:
    """Evaluate one batch; one transfer to the CPU per batch, not per structure."""
    batch = batch_graphs(graphs)
    training = potential.training
    potential.eval()
    try:
        prediction = potential(batch)
    finally:
        potential.train(training)
    return split(prediction.detach().map(Tensor.cpu), batch)
