"""A potential that the native engine answers, from its file alone: what `mlanet.Potential` says, without torch."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlanet.arrays import AnswerArrays, Floats, GraphArrays, Integers
from mlanet.data.structures import to_arrays
from mlanet.domain import Domain, arrays_of
from mlanet.errors import CheckpointError, GeometryError
from mlanet.native.engine import Answer, Engine
from mlanet.native.file import read_arrays
from mlanet.statistics import Statistics
from mlanet.supported import ignored_charge, require_species

TABLES = ("closest", "wall", "crowding")
"""Of the statistics, as tensors of the file; the rest stands in its header."""
_PREFIX = "statistics."


class NativePotential:
    """An interatomic potential: `GraphArrays -> AnswerArrays`, conservative, on the CPU.

    Args:
        model: path or bytes of a native file, written by this version or one that wrote statistics into it.
        precision: "float32" or "float64"; None for that of the file.
    Raises:
        CheckpointError: no such file, a damaged one, one of another kind, or one without statistics.
        KernelError: the engine cannot be compiled here.
    """

    conservative = True
    beyond_cutoff = False
    """No term reaches farther than neighbours do."""
    outputs: tuple[str, ...] = ()
    """Beside energy, forces and stress; the engine knows none."""

    def __init__(self, model: str | os.PathLike[str] | bytes, precision: str | None = None) -> None:
        self.engine = Engine(model, precision=precision)
        name = "" if isinstance(model, bytes) else f"{os.fspath(model)}: "
        try:
            arrays = read_arrays(self.engine.data)
            self.statistics = _statistics(self.engine.header, arrays)
            self.domain = Domain.of_arrays(arrays, len(self.statistics.species))
        except (KeyError, TypeError, ValueError) as error:
            reason = "it has no statistics" if isinstance(error, KeyError) else str(error)
            raise CheckpointError(f"{name}{reason}; write it again with mlanet export native") from None
        self._index = np.full(256, -1)
        self._index[list(self.species)] = np.arange(len(self.species))
        self._spoke_of_charge = False

    graph_of = staticmethod(to_arrays)
    """One structure, as this takes it."""

    @property
    def cutoff(self) -> float:
        """Å; graphs must hold every pair within it."""
        return self.engine.cutoff

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers the potential knows."""
        return self.statistics.species

    @property
    def precision(self) -> str:
        """Of weights and forces."""
        return self.engine.precision

    def require_supported(self, graph: GraphArrays) -> None:
        """Raise a typed error for a graph that this potential cannot answer."""
        if graph.cutoff < self.cutoff:
            raise GeometryError(f"the graph's cutoff {graph.cutoff} Å is below the model's {self.cutoff} Å")
        require_species(graph.numbers, self.species)

    def mention_ignored_charge(self, charge: float, where: str = "a structure") -> None:
        """Warn, once, of a structure with a total charge (e), of which these models know nothing."""
        if charge != 0 and not self._spoke_of_charge:
            self._spoke_of_charge = True
            warnings.warn(ignored_charge(charge, where), stacklevel=3)

    def brought(self, graph: GraphArrays) -> GraphArrays:
        """The graph where this computes."""
        return graph

    def said_of(self, batch: GraphArrays) -> AnswerArrays:
        """Energy, forces and stress of a batch, and features where there is a domain; raises as `require_supported`."""
        self.require_supported(batch)
        self.mention_ignored_charge(float(batch.charge[np.abs(batch.charge).argmax()]))
        self.engine.threads = _threads(self.engine)
        return answered(self.engine, self._index, batch, features=self.domain is not None)

    def atomic_virials(self, batch: GraphArrays) -> Floats:
        """(N, 3, 3) eV, Σ_j r_ij ⊗ ∂E/∂r_ij of the pairs of each atom."""
        self.engine.threads = _threads(self.engine)
        return virials_of(self.engine, self._index, batch)


def answered(engine: Engine, index: Integers, graph: GraphArrays, features: bool) -> AnswerArrays:
    """What an engine says of a batch, forces and stress in its precision.

    Args:
        index: (256,), species of each atomic number, as the engine counts them.
        features: whether what the last linear layer sees of each atom is among it.
    """
    answer = _computed(engine, index, graph)
    virial = graph.summed(answer.atomic_virials)
    stress = _stress(0.5 * (virial + virial.transpose(0, 2, 1)), graph)
    return AnswerArrays(
        energy=graph.summed(answer.atomic_energies),
        forces=answer.forces.astype(engine.precision),
        stress=stress.astype(engine.precision),
        atomic_energies=answer.atomic_energies,
        features=answer.features.astype(engine.precision) if features else None,
        atomic_virials=answer.atomic_virials,
    )


def virials_of(engine: Engine, index: Integers, graph: GraphArrays) -> Floats:
    """(N, 3, 3) eV of single atoms, not symmetric."""
    return _computed(engine, index, graph).atomic_virials


def _computed(engine: Engine, index: Integers, graph: GraphArrays) -> Answer:
    start = np.searchsorted(graph.center, np.arange(graph.n_atoms + 1))
    return engine.compute(index[graph.numbers], start, graph.neighbor, graph.vectors)


def of_statistics(statistics: Statistics, domain: Domain | None) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What a native file holds for people and programs beside the engine: an entry of its header, and tensors."""
    header = {
        "references": list(map(float, statistics.references)),
        "scale": list(map(float, statistics.scale)),
        "mean_neighbors": float(statistics.mean_neighbors),
        "stress_scale": float(statistics.stress_scale),
        "references_from": statistics.references_from,
        "energy_key": statistics.energy_key,
    }
    tables = {_PREFIX + name: np.array(getattr(statistics, name), dtype=np.float64) for name in TABLES}
    return {"statistics": header}, {name: one for name, one in tables.items() if one.size} | arrays_of(domain)


def _statistics(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Statistics:
    """Those of the model, number by number."""
    told = header["statistics"]
    lists: dict[str, Any] = {name: arrays[_PREFIX + name].tolist() for name in TABLES if _PREFIX + name in arrays}
    pairs = {name: tuple(map(tuple, lists[name])) for name in ("closest", "wall") if name in lists}
    statistics = Statistics(
        species=tuple(header["species"]),
        references=tuple(told["references"]),
        scale=tuple(told["scale"]),
        mean_neighbors=told["mean_neighbors"],
        stress_scale=told["stress_scale"],
        references_from=told["references_from"],
        energy_key=told.get("energy_key", ""),
        crowding=tuple(lists.get("crowding", ())),
        **pairs,
    )
    if statistics.problem:
        raise ValueError(statistics.problem)
    return statistics


def _stress(virial: Floats, graph: GraphArrays) -> Floats:
    """σ = (1/V) ∂E/∂ε, (S, 3, 3) eV/Å³, with V of the cell as given; NaN without a periodic direction or a volume."""
    volume = np.where(graph.volumes > 0, graph.volumes, 1.0)[:, None, None]
    return np.where(graph.has_stress()[:, None, None], virial / volume, np.nan)


def _threads(engine: Engine) -> int:
    """As torch has been told, where it is loaded; else as OpenMP takes by itself."""
    torch = sys.modules.get("torch")
    told = getattr(torch, "get_num_threads", None)
    return engine.usual_threads if told is None else int(told())
