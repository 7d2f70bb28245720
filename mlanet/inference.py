"""Predictions for any number of structures: batched for speed, streaming so that memory holds one batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from mlanet.arrays import AnswerArrays, GraphArrays, Size
from mlanet.errors import NotFiniteError
from mlanet.quantities import QUANTITIES

if TYPE_CHECKING:
    from mlanet.graph import AtomicGraph, Prediction

G = TypeVar("G", "AtomicGraph", GraphArrays)
G_contra = TypeVar("G_contra", contravariant=True)
P_co = TypeVar("P_co", covariant=True)
P = TypeVar("P", "Prediction", AnswerArrays)


class Asked(Protocol[G_contra, P_co]):
    """What answers: `Potential` in tensors, or `mlanet.native.NativePotential` in arrays."""

    def said_of(self, batch: G_contra) -> P_co:
        """As in evaluation mode, on the CPU and without history."""
        ...


OF_ATOMS = {
    "atomic_energies",
    "charges",
    "features",
    "atomic_virials",
    *(quantity.name for quantity in QUANTITIES if quantity.per_atom),
}
"""Fields of a prediction with an entry for each atom; the others have one for each structure."""

NOTHING = Size(0, 0, 0)


def predict(
    potential: Asked[G, P],
    graphs: Iterable[G],
    *,
    max_edges: int = 20_000,
    fits: Callable[[Size], bool] | None = None,
) -> Iterator[P]:
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


def batches(graphs: Iterable[G], *, max_edges: int, fits: Callable[[Size], bool] | None = None) -> Iterator[list[G]]:
    """Graphs joined in order until the next one would be too much; see `predict`."""
    if max_edges < 1:
        raise ValueError(f"max_edges must be positive, got {max_edges}")
    waiting: list[G] = []
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


def split(prediction: P, graph: AtomicGraph | GraphArrays) -> list[P]:
    """The prediction of a batch as one prediction per structure (views, no copies).

    - prediction: of S structures with N atoms together · graph: the batch it was made for
    """
    if graph.n_structures == 1:
        return [prediction]
    starts = [0, *itertools.accumulate(graph.atoms_per_structure().tolist())]
    named = {name: value for name, value in vars(prediction).items() if value is not None}

    def part(k: int) -> dict[str, Any]:
        places = slice(starts[k], starts[k + 1]), slice(k, k + 1)
        return {name: value[places[name not in OF_ATOMS]] for name, value in named.items()}

    return [type(prediction)(**part(k)) for k in range(graph.n_structures)]


def require_finite(prediction: Prediction | AnswerArrays, graph: AtomicGraph | GraphArrays, where: str) -> None:
    """Raise `NotFiniteError`, naming `where` and the atom, unless all that is said are numbers.

    Stress may be NaN where it is not defined, and where a model has none.
    """
    said, structures = prediction.arrays(), graph.arrays()
    atomic: dict[str, Any] = {"forces": said.forces, "atomic energies": said.atomic_energies}
    if said.charges is not None:
        atomic["charges"] = said.charges
    for name, values in atomic.items():
        good = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if not good.all():
            atom = int(good.argmin())
            worst = values[atom].tolist()
            raise NotFiniteError(f"{where}, atom {atom}: the model gives {name} of {worst}, which are not finite")
    if not np.isfinite(said.energy).all():
        raise NotFiniteError(f"{where}: the model gives an energy of {said.energy.tolist()}, which is not finite")
    stress = said.stress[structures.has_stress()]
    if not (np.isfinite(stress).all() or np.isnan(stress).all()):
        raise NotFiniteError(f"{where}: the model gives a stress that is not finite: {stress.tolist()}")
    for quantity in (quantity for quantity in QUANTITIES if quantity.optional):
        if (value := getattr(said, quantity.name)) is not None:
            value = value[structures.defined(quantity)]
            if not np.isfinite(value).all():
                raise NotFiniteError(f"{where}: the model gives a {quantity.name} that is not finite: {value.tolist()}")


def _answer(potential: Asked[G, P], graphs: Sequence[G]) -> list[P]:
    """One batch; structure by structure where its answer is not finite, so that none touches another."""
    predictions = _evaluated(potential, graphs)
    if len(graphs) > 1 and not all(_is_finite(prediction) for prediction in predictions):
        predictions = [prediction for graph in graphs for prediction in _evaluated(potential, [graph])]
    return predictions


def _is_finite(prediction: Prediction | AnswerArrays) -> bool:
    said = prediction.arrays()
    return bool(np.isfinite(said.energy).all() and np.isfinite(said.forces).all())


def _evaluated(potential: Asked[G, P], graphs: Sequence[G]) -> list[P]:
    """Evaluate one batch; one transfer to the CPU per batch, not per structure."""
    batch: Any = graphs[0].joined(graphs)
    return split(potential.said_of(batch), batch)
