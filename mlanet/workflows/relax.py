"""Relaxation: atoms, and if wanted the cell, to where the forces vanish; sheets and wires keep their empty space."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.optimize.fire import FIRE
from numpy.typing import NDArray

from mlanet.data.empty_space import empty_axes
from mlanet.data.structures import to_arrays
from mlanet.data.write import true_results
from mlanet.errors import GeometryError, MLANetError, named
from mlanet.units import EV_PER_CUBIC_ANGSTROM_IN_GPA
from mlanet.workflows.cell import held_vectors, keep_symmetry, strain_mask
from mlanet.workflows.lbfgs import LBFGS, usual_inverse, usual_longest

if TYPE_CHECKING:
    from mlanet.workflows.cell_filter import CellFilter

CELLS = ("fixed", "full", "shape", "volume")
"""What of the cell may change: nothing; everything periodic; its shape at constant volume; its size only."""
FELT = 0.98
"""Of the cutoff: what lies farther away is not felt (its weight is below 0.0004), so forces are small there anyhow."""
METHODS = ("lbfgs", "fire")
"""Optimizers: `mlanet.workflows.lbfgs`, and ASE's FIRE."""


class Step(NamedTuple):
    """Where a relaxation stands: eV, eV/Å (the largest, stress included if the cell may change)."""

    number: int
    energy: float
    force: float
    converged: bool


def relaxation(atoms: Atoms, **settings: Any) -> Iterator[Step]:
    """Move `atoms` (with a calculator) downhill, one `Step` at a time, the first included.

    With a cell that may change, only strains among periodic directions do: a sheet's height and a wire's box stay.
    Arguments and errors as `Descent`.
    """
    descent = Descent(atoms, **settings)
    try:
        yield descent.look()
        while not descent.ended:
            descent.move()
            yield descent.look()
    finally:
        descent.release()


class Descent:
    """A `relaxation` that moves when it is told to, so that forces of many can be asked for at once.

    After the calculator knows the structure as it is, `look` says where it stands; then, unless it has `ended`, `move`
    changes atoms and cell, and so on; at the end `release` takes off what held its symmetry.

    Args:
        atoms: changed in place.
        cell: one of `CELLS`.
        pressure: GPa; for sheets it acts on the volume of the cell as given, so it must be 0 there.
        fmax: eV/Å.
        steps: at most.
        method: one of `METHODS`.
        where: named in errors, usually file and frame.
        hold, vacuum: lattice vectors that stay, see `mlanet.workflows.cell.held_vectors`.
        symmetry: Å up to which the space group is found that is kept; None: none is.
    Raises:
        GeometryError: atoms that run into each other or away, forces that are not finite, a cell to be relaxed
            without periodic directions or volume, or pressure on a structure that has a free one.
    """

    def __init__(
        self,
        atoms: Atoms,
        *,
        cell: str = "fixed",
        pressure: float = 0.0,
        fmax: float = 0.01,
        steps: int = 500,
        method: str = "lbfgs",
        where: str = "structure",
        hold: str = "",
        vacuum: str = "none",
        symmetry: float | None = None,
    ) -> None:
        self.atoms, self.steps, self.where = atoms, steps, where
        self.last: Step | None = None
        self._symmetric = symmetry is not None
        if symmetry is not None:
            keep_symmetry(atoms, symmetry)
        try:
            self.target = _target(atoms, cell, pressure, hold, vacuum)
        except MLANetError:
            self.release()
            raise
        self._course = _Course(self.target)
        self._optimizer = (
            LBFGS(self._course, usual_inverse(self.target), usual_longest(self.target))
            if method == "lbfgs"
            else FIRE(self._course, logfile=None)
        )
        self._optimizer.fmax = fmax

    def release(self) -> None:
        """Take the constraint off that has held the symmetry, if any."""
        if self._symmetric:
            self.atoms.set_constraint()

    def look(self) -> Step:
        """Where it stands."""
        with self._named():
            gradient = self._course.look()
            energy = float(self.atoms.get_potential_energy())
        converged = bool(self._optimizer.gradient_converged(gradient))
        force = float(self._course.gradient_norm(gradient))
        self.last = Step(int(self._optimizer.nsteps), energy, force, converged)
        return self.last

    @property
    def ended(self) -> bool:
        """Whether there is no further step: it has converged, or was looked at after the last step that it has."""
        return self.last is not None and (self.last.converged or self.last.number >= self.steps)

    def move(self) -> None:
        """One step of the optimizer."""
        with self._named():
            try:
                self._optimizer.step()
            except np.linalg.LinAlgError as error:
                raise GeometryError(f"the optimizer finds no way on: {error}") from None
        self._optimizer.nsteps += 1

    def named(self, error: MLANetError) -> MLANetError:
        """The error of a structure on its way, with file, frame and step in front where it has no meaning any more."""
        if not isinstance(error, GeometryError):
            return error
        return named(error, f"{self.where}, step {self._optimizer.nsteps} of the relaxation")

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except GeometryError as error:
            raise self.named(error) from None


class _Course:
    """What an optimizer moves, whose gradient is computed once a step: it has been looked at before it is moved."""

    def __init__(self, target: Atoms | CellFilter) -> None:
        self._inner: Any = target.__ase_optimizable__()
        self._gradient: NDArray[np.float64] | None = None

    def __ase_optimizable__(self) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def look(self) -> NDArray[np.float64]:
        """The gradient as it is now, eV/Å."""
        gradient: NDArray[np.float64] = self._inner.get_gradient()
        self._gradient = gradient
        return gradient

    def get_gradient(self) -> NDArray[np.float64]:
        """That of the last look."""
        return self.look() if self._gradient is None else self._gradient


def _target(atoms: Atoms, cell: str, pressure: float, hold: str, vacuum: str) -> Atoms | CellFilter:
    """What an optimizer moves."""
    if cell != "fixed":
        return _filter(atoms, cell, pressure, held_vectors(atoms, hold, vacuum))
    if pressure:
        raise GeometryError("pressure: acts on the cell; let it change with cell full or volume")
    if hold:
        raise GeometryError("hold: a fixed cell is held already; let it change with cell full")
    return atoms


def _filter(atoms: Atoms, cell: str, pressure: float, held: str) -> CellFilter:
    """ASE's filter, with strains that would stretch empty space or what is held masked."""
    if not atoms.pbc.any():
        raise GeometryError("the cell of a structure without periodic directions has no stress and cannot relax")
    if atoms.cell.rank < 3:
        absent = [k for k in range(3) if not atoms.cell.array[k].any()] or [2]
        raise GeometryError(
            f"stress is per volume, and lattice vector {''.join('abc'[k] for k in absent)} has no length of its own; "
            f"give it one across the empty space (ase: atoms.center(vacuum=8, axis={absent})); it stays as it is"
        )
    if pressure and (not atoms.pbc.all() or set(held) & set(empty_axes(atoms))):
        raise GeometryError("pressure has no meaning along empty space; relax with --pressure 0")
    if cell in ("shape", "volume") and not atoms.pbc.all():
        raise GeometryError(f"cell '{cell}' needs three periodic directions; use full for sheets and wires")
    if cell in ("shape", "volume") and held:
        raise GeometryError(f"cell '{cell}' changes all lattice vectors, {held} is held; use full")
    from mlanet.workflows.cell_filter import CellFilter  # with scipy's functions of matrices

    return CellFilter(
        atoms,
        mask=strain_mask(atoms, held),
        scalar_pressure=pressure / EV_PER_CUBIC_ANGSTROM_IN_GPA,
        hydrostatic_strain=cell == "volume",
        constant_volume=cell == "shape",
    )


class Relaxed(NamedTuple):
    """One structure where its relaxation ended.

    - atoms: with what the calculator says of them · numbers: of `summary`, and whether it `converged`
    - apart: what is left of its bonds, if atoms have lost all their neighbours or the structure is in more pieces
    """

    atoms: Atoms
    numbers: dict[str, object]
    converged: bool
    apart: str


def finished(atoms: Atoms, last: Step, cutoff: float, before: Joined) -> Relaxed:
    """What came out of a relaxation, with a look at whether it is still one thing.

    Atoms without a neighbour within the cutoff have no forces, and a cell whose images lie beyond it no stress, so that
    a structure that flies apart seems to converge; it has not.

    Args:
        atoms: with their calculator.
        last: step.
        cutoff: Å, of the model.
        before: how the structure was joined at the start (`joined` within `FELT` of the cutoff).
    """
    reach = FELT * cutoff
    after, lone, apart = joined(atoms, reach), to_arrays(atoms, cutoff).without_neighbors(), ""
    if lone:
        named = ", ".join(f"{index} ({atoms.symbols[index]})" for index in lone[:5]) + ", …" * (len(lone) > 5)
        apart = f"without a neighbour within the model's cutoff of {cutoff:g} Å: atom{'s' * (len(lone) > 1)} {named}"
    elif after.directions < before.directions:
        apart = (
            f"images within {reach:.3g} Å (the model's cutoff is {cutoff:g} Å) join it along {after.directions} "
            f"directions, {before.directions} at the start; nothing tells how long its cell should be"
        )
    elif after.pieces > before.pieces:
        apart = (
            f"in {after.pieces} pieces more than {reach:.3g} Å apart (the model's cutoff is {cutoff:g} Å), "
            f"{before.pieces} at the start"
        )
    converged = last.converged and not lone and after.directions >= before.directions
    numbers = summary(atoms, last) | {"converged": converged}
    if lone:
        numbers["lone_atoms"] = lone
    return Relaxed(atoms, numbers, converged, apart)


class Joined(NamedTuple):
    """What neighbours within a cutoff join.

    - pieces: how many there are
    - directions: independent lattice vectors by which an atom is joined to its own images: 3 in a crystal, 2 in a
      sheet, 1 in a wire, 0 in a molecule
    """

    pieces: int
    directions: int


def joined(atoms: Atoms, cutoff: float) -> Joined:
    """How a structure hangs together within a cutoff, Å.

    With offsets o that make the pieces whole, an edge (i, j, S) closes a ring through the lattice vector o_i + S − o_j;
    `directions` is the rank of these.
    """
    graph = to_arrays(atoms, cutoff)
    center, neighbor, shift = graph.center, graph.neighbor, graph.shift
    least, before = np.arange(graph.n_atoms), None
    while before is None or not np.array_equal(least, before):
        before = least.copy()
        np.minimum.at(least, center, before[neighbor])
        least = least[least]  # the least atom of a piece spreads twice as far each time
    reached, offset = least == np.arange(graph.n_atoms), np.zeros((graph.n_atoms, 3), dtype=np.int64)
    while not reached.all():
        edges = np.flatnonzero(reached[center] & ~reached[neighbor])
        found, first = np.unique(neighbor[edges], return_index=True)
        offset[found] = offset[center[edges[first]]] + shift[edges[first]]
        reached[found] = True
    rings = (offset[center] + shift - offset[neighbor]).astype(np.float64)
    directions = int(np.linalg.matrix_rank(rings.T @ rings))
    return Joined(len(np.unique(least)), directions)


def summary(atoms: Atoms, last: Step) -> dict[str, object]:
    """Energy, largest force, lattice and stress of what came out.

    Where constraints hold atoms, max_force is that on what may move, which has vanished, and beside it stands the
    largest of all forces, which are written.
    """
    said = true_results(atoms)
    result: dict[str, object] = {
        "converged": last.converged,
        "steps": last.number,
        "energy_eV": last.energy,
        "max_force_eV_per_A": float(np.linalg.norm(atoms.get_forces(), axis=1).max()),
    }
    if atoms.constraints:
        result["max_force_held_eV_per_A"] = float(np.linalg.norm(said["forces"], axis=1).max())
    if atoms.pbc.any():
        result["cell_A_deg"] = [round(float(value), 5) for value in atoms.cell.cellpar()]
    if "stress" in said:
        result["stress_GPa"] = [float(value) * EV_PER_CUBIC_ANGSTROM_IN_GPA for value in said["stress"]]
    return result
