"""One model for many structures at a time: what each of them is told is what it would be told alone, to rounding.

A step of a cell of eight atoms takes 45 ms on one core, of which some 30 are spent on calls; in a batch of fifty a
structure's share is 11 ms (docs/high_throughput.md). Structures keep their neighbour lists from one step to the next.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from mlanet.arrays import AnswerArrays, GraphArrays, Size
from mlanet.data.structures import ase_results, require_apart
from mlanet.errors import DataError, MLANetError
from mlanet.inference import batches, require_finite, split
from mlanet.limits import UNKNOWN, Assessment, Exporting, assessed_results, of_joined
from mlanet.supported import lone_atoms
from mlanet.verlet import SKIN, Neighbors, changes, remembered

if TYPE_CHECKING:
    from mlanet.execution import Answering
    from mlanet.forecast import MemoryLimit

Graph = Any
"""An `AtomicGraph` of a potential with torch, `GraphArrays` of one without."""


class BatchedPotential:
    """Energy, forces and stress of any number of structures, in as few batches as memory allows.

    Args:
        potential: answers in evaluation mode.
        max_edges: pairs of atoms that a batch may have, those in the skin included.
        fits: whether a batch of a size is safe (`mlanet.forecast.memory_limit`), or None: only pairs count.
        skin: Å.

    >>> from ase.build import bulk
    >>> import mlanet
    >>> potential = BatchedPotential(mlanet.MLANetCalculator().potential)
    >>> crystals = [bulk("Si", a=a) for a in (5.4, 5.5)]
    >>> errors = potential(crystals)
    >>> [atoms.get_forces().shape for atoms in crystals], errors
    ([(2, 3), (2, 3)], [None, None])
    """

    def __init__(
        self,
        potential: Answering,
        *,
        max_edges: int = 20_000,
        fits: MemoryLimit | None = None,
        skin: float = SKIN,
    ) -> None:
        self.potential, self.max_edges, self.fits, self.skin = potential, max_edges, fits, skin
        self._mentioned = False

    def __call__(self, structures: Sequence[Atoms]) -> list[MLANetError | None]:
        """Give every structure a calculator that holds what the model says of it as it is now.

        A structure of which nothing can be said costs no other anything.

        Args:
            structures: changed in their `calc` alone. One that has been asked about before keeps its calculator.
        Returns:
            Of each structure the error, if there is one: what `to_graph` and `Potential` raise, `NotFiniteError`, or a
            `DataError` of one that does not fit into memory.
        """
        errors: list[MLANetError | None] = [None] * len(structures)
        asked: dict[int, int] = {}
        graphs: list[Graph] = []
        for index, atoms in enumerate(structures):
            try:
                wide = self.prepared(atoms)
            except MLANetError as refused:
                errors[index] = refused
                continue
            asked[id(wide)] = index
            graphs.append(wide)
        for batch in batches(graphs, max_edges=self.max_edges, fits=self.fits):
            places = [asked[id(graph)] for graph in batch]
            for place, error in zip(places, self._answered(batch, [structures[k] for k in places]), strict=True):
                errors[place] = error
        return errors

    def prepared(self, atoms: Atoms) -> Graph:
        """The graph of a structure, skin included, with a list that serves; it gets a calculator if it has none here.

        Raises:
            MLANetError: as `__call__`.
        """
        if not isinstance(atoms.calc, BatchedCalculator) or atoms.calc.batched_potential is not self:
            atoms.calc = BatchedCalculator(self)
        neighbors = atoms.calc.neighbors
        if neighbors is None or not neighbors.serves(atoms):
            atoms.calc.neighbors = None
            bare = atoms.copy()  # whose calculator holds results of a step before
            wide: Graph = self.potential.graph_of(bare, self.potential.cutoff + self.skin)
            self.potential.require_supported(wide)
            if self.fits is not None:
                self.fits.require(wide, "structure")
            neighbors = atoms.calc.neighbors = Neighbors(wide, atoms, self.potential.cutoff)
        return neighbors.now(atoms)

    def size(self, atoms: Atoms) -> Size:
        """Of a structure in a batch; raises as `prepared`."""
        self.prepared(atoms)
        size: Size = atoms.calc.neighbors.size
        return size

    def _answered(self, wide: list[Graph], structures: list[Atoms]) -> list[MLANetError | None]:
        """One batch; in halves where memory does not suffice, one by one where that fails otherwise."""
        try:
            self._compute(wide, structures)
        except MLANetError as error:
            if len(wide) == 1:
                return [error]
            parts = [slice(k, k + 1) for k in range(len(wide))]
        except (RuntimeError, MemoryError) as error:
            from mlanet.memory import is_out_of_memory

            if len(wide) == 1 or not is_out_of_memory(error):
                raise
            parts = [slice(0, len(wide) // 2), slice(len(wide) // 2, None)]
        else:
            return [None] * len(wide)
        return [error for part in parts for error in self._answered(wide[part], structures[part])]

    def _compute(self, wide: list[Graph], structures: list[Atoms]) -> None:
        """Answers of one batch to its structures; raises if one has none."""
        potential: Any = self.potential
        there = potential.brought(wide[0].joined(wide)).within(potential.cutoff)
        require_apart(there, "structure")
        joined, graph = potential.said_of(there).arrays(), there.arrays()
        require_finite(joined, graph, "structure")
        self._mention_lone_atoms(graph)
        for atoms, prediction, judged in zip(
            structures, split(joined, graph), self._assessed(graph, joined), strict=True
        ):
            atoms.calc.hold(atoms, ase_results(prediction), judged)

    def _assessed(self, graph: GraphArrays, joined: AnswerArrays) -> list[Assessment]:
        domain = self.potential.domain
        if domain is None or joined.features is None:
            return [Assessment(UNKNOWN)] * graph.n_structures
        return of_joined(domain, self.potential.statistics, graph, joined.features, joined.forces, joined.stress)

    def _mention_lone_atoms(self, graph: GraphArrays) -> None:
        """Once, where the energy of an atom without a neighbour is no free atom's."""
        if not self._mentioned and (remark := lone_atoms(graph, self.potential.statistics)) is not None:
            self._mentioned = True
            warnings.warn(remark, stacklevel=4)


class BatchedCalculator(Exporting, Calculator):
    """Holds what was last said of one structure; of another geometry it asks, for this structure alone.

    - results: as those of `MLANetCalculator` · assessment: how far they can be believed
    """

    name = "mlanet"
    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress", "charges"]  # noqa: RUF012 - as in ASE

    def __init__(self, batched_potential: BatchedPotential) -> None:
        super().__init__()
        self.batched_potential, self.answering = batched_potential, batched_potential.potential
        self.implemented_properties = [*self.implemented_properties, *self.answering.outputs]
        self.assessment = Assessment(UNKNOWN)
        self.neighbors: Neighbors | None = None

    def hold(self, atoms: Atoms, results: dict[str, Any], assessment: Assessment) -> None:
        """Keep an answer for this geometry."""
        self.atoms, self.assessment = remembered(self.atoms, atoms), assessment
        self.results = results | assessed_results(assessment)

    def rest(self) -> None:
        """Let go of the neighbour list: the structure has arrived."""
        self.neighbors = None

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the answer; quickly, since every step asks several times."""
        return changes(self.atoms, atoms)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Ask for one structure; called by ASE. Raises as `BatchedPotential` says."""
        if self.results:  # of this geometry, and without what is asked for
            return
        asked = self.atoms if atoms is None else atoms
        if asked is None:
            raise DataError("the calculator has no structure yet; call atoms.get_potential_energy()")
        alone = asked.copy()
        alone.calc = self
        (error,) = self.batched_potential([alone])
        if error is not None:
            raise error
