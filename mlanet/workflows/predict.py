"""Energy, forces and stress of any number of structures: streaming, batched, written whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import msgspec
import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io.extxyz import write_extxyz

from mlanet.data.atoms import to_graph, with_prediction
from mlanet.data.read import Frame, read_frames
from mlanet.errors import DataError, OutputError
from mlanet.forecast import memory_limit
from mlanet.graph import AtomicGraph
from mlanet.inference import predict
from mlanet.plots import FORMATS, prediction_picture
from mlanet.potential import Potential, lone_atoms
from mlanet.units import EV_PER_CUBIC_ANGSTROM_IN_GPA
from mlanet.workflows.output import atomic_path


class Predicted(NamedTuple):
    """A structure that carries what the model says of it.

    - atoms: the input with a calculator that holds energy (eV), forces (eV/Å), stress (eV/Å³, Voigt) where defined
      · where: file and frame
    """

    atoms: Atoms
    where: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One structure's prediction in the units people read; `None` where stress is not defined."""

    where: str
    """File and frame."""
    formula: str
    atoms: int
    energy_eV: float
    energy_per_atom_eV: float
    max_force_eV_per_A: float
    pressure_GPa: float | None
    """p = −tr(σ)/3: positive where the crystal wants to expand."""
    stress_GPa: list[float] | None
    """xx, yy, zz, yz, xz, xy; tension positive."""
    forces_eV_per_A: list[list[float]]


def predict_files(
    potential: Potential, paths: Iterable[Path], *, max_edges: int = 20_000, max_memory: float | None = None
) -> Iterator[Predicted]:
    """Predict every structure of every file, in order, holding only one batch in memory.

    Raises:
        DataError: a file or frame that cannot be used, that needs more than `max_memory` GiB, or that has an element
            that the model does not know.
    """
    frames = (frame for path in paths for frame in read_frames(path))
    return predict_frames(potential, frames, max_edges=max_edges, max_memory=max_memory)


def predict_frames(
    potential: Potential, frames: Iterable[Frame], *, max_edges: int = 20_000, max_memory: float | None = None
) -> Iterator[Predicted]:
    """Predict structures as they come; `max_edges` and `max_memory` (GiB) bound a batch."""
    waiting: deque[Frame] = deque()
    limit = memory_limit(potential, max_memory)
    told: list[str] = []

    def graphs() -> Iterator[AtomicGraph]:
        for frame in frames:
            graph = to_graph(frame.atoms, potential.cutoff, where=frame.where)
            require_supported(potential, graph, frame.where)
            if not told and (remark := lone_atoms(graph, potential.statistics)) is not None:
                told.append(remark)
                warnings.warn(f"{frame.where}: {remark}", stacklevel=2)
            if limit is not None:
                limit.require(graph, frame.where)
            waiting.append(frame)
            yield graph

    for prediction in predict(potential, graphs(), max_edges=max_edges, fits=limit):
        frame = waiting.popleft()
        yield Predicted(with_prediction(_keeping_labels(frame.atoms), prediction), frame.where)


def _keeping_labels(atoms: Atoms) -> Atoms:
    """A copy whose energy, forces and stress, which the prediction will replace, live on as REF_energy and so on."""
    kept = atoms.copy()
    results = {} if atoms.calc is None else atoms.calc.results
    for name in ("energy", "forces", "stress"):
        place = kept.arrays if name == "forces" else kept.info
        if results.get(name) is not None:
            place.setdefault(f"REF_{name}", np.array(results[name]) if name != "energy" else results[name])
    return kept


def draw(path: Path, predictions: Sequence[Predicted]) -> None:
    """A picture of structures with their forces as arrows, and their numbers with units."""
    prediction_picture(path, [one.atoms for one in predictions], [Path(one.where).name for one in predictions])


def require_formats(output: Path | None, picture: Path | None) -> None:
    """Refuse suffixes that cannot be written before anything is computed."""
    if output is not None and output.suffix not in (".extxyz", ".xyz"):
        raise OutputError(f"{output}: predictions are written as .extxyz (or .xyz); use --csv for a table")
    if picture is not None and picture.suffix.lower().removeprefix(".") not in FORMATS:
        raise OutputError(f"{picture}: pictures are written as {', '.join('.' + one for one in FORMATS)}")


def require_supported(potential: Potential, graph: AtomicGraph, where: str) -> None:
    """Ask before any computing whether the model can answer, so that the error can name file and frame."""
    try:
        potential.require_supported(graph)
    except DataError as error:
        raise type(error)(f"{where}: {error}") from None


def row(predicted: Predicted) -> Row:
    """The numbers of one prediction, with their units in the names."""
    atoms = predicted.atoms
    energy, forces = float(atoms.get_potential_energy()), atoms.get_forces()
    stress = stress_in_gpa(atoms)
    return Row(
        where=predicted.where,
        formula=atoms.get_chemical_formula(),
        atoms=len(atoms),
        energy_eV=energy,
        energy_per_atom_eV=energy / len(atoms),
        max_force_eV_per_A=float(np.linalg.norm(forces, axis=1).max()),
        pressure_GPa=None if stress is None else -sum(stress[:3]) / 3,
        stress_GPa=stress,
        forces_eV_per_A=forces.tolist(),
    )


def stress_in_gpa(atoms: Atoms) -> list[float] | None:
    """xx, yy, zz, yz, xz, xy in GPa, or None where stress is not defined."""
    try:
        return (atoms.get_stress() * EV_PER_CUBIC_ANGSTROM_IN_GPA).tolist()
    except PropertyNotImplementedError:
        return None


def written(predictions: Iterable[Predicted], output: Path | None, table: Path | None) -> Iterator[Predicted]:
    """Pass predictions on while writing them to an extxyz and a CSV file, which appear only when all are there.

    Raises:
        OutputError: a place that cannot be written.
    """
    with contextlib.ExitStack() as stack:
        structures = None if output is None else stack.enter_context(_open(output))
        rows = None if table is None else stack.enter_context(_open(table))
        lines = None if rows is None else csv.writer(rows)
        if lines is not None:
            lines.writerow(CSV_COLUMNS)
        for predicted in predictions:
            if structures is not None:
                write_extxyz(structures, [predicted.atoms])
            if lines is not None:
                lines.writerow(_csv_row(row(predicted)))
            yield predicted


CSV_COLUMNS: Sequence[str] = (
    "where",
    "formula",
    "atoms",
    "energy_eV",
    "energy_per_atom_eV",
    "max_force_eV_per_A",
    "pressure_GPa",
    *(f"stress_{place}_GPa" for place in ("xx", "yy", "zz", "yz", "xz", "xy")),
)


def _csv_row(one: Row) -> list[object]:
    """Full precision; empty where stress is not defined."""
    pressure: object = "" if one.pressure_GPa is None else one.pressure_GPa
    stress: list[object] = [""] * 6 if one.stress_GPa is None else list(one.stress_GPa)
    fixed = [one.where, one.formula, one.atoms, one.energy_eV, one.energy_per_atom_eV, one.max_force_eV_per_A]
    return [*fixed, pressure, *stress]


@contextlib.contextmanager
def _open(path: Path) -> Iterator[TextIO]:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        yield file
