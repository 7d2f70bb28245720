"""Energy, forces and stress of any number of structures: streaming, batched, and kept as they come."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
from ase import Atoms

from mlanet.atomic_stress import atomic_stresses, stresses_obstacle
from mlanet.data.formats import Refused, written_format
from mlanet.data.read import Frame
from mlanet.data.structures import with_prediction
from mlanet.data.write import frame_text, true_results
from mlanet.errors import ConfigError, OutputError
from mlanet.files import lines_text
from mlanet.limits import UNKNOWN, Assessment, with_assessment
from mlanet.plots import FORMATS
from mlanet.quantities import QUANTITIES
from mlanet.structure_plots import prediction_picture
from mlanet.supported import lone_atoms
from mlanet.units import EV_PER_CUBIC_ANGSTROM_IN_GPA, VOIGT
from mlanet.workflows.answers import answers
from mlanet.workflows.resuming import journalled

if TYPE_CHECKING:
    from mlanet.execution import Answering


class Predicted(NamedTuple):
    """A structure that carries what the model says of it.

    - atoms: the input with a calculator that holds energy (eV), forces (eV/Å), stress (eV/Å³, Voigt) where defined
      · where: file and frame
    - assessment: how far it can be believed; also in `info` and `arrays` of the atoms
    """

    atoms: Atoms
    where: str
    assessment: Assessment = Assessment(UNKNOWN)


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
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
    dipole_e_A: list[float] | None = None
    """x, y, z from the origin; left out, as the next, where the model gives none or it is not defined."""
    polarizability_A3: list[float] | None = None
    """xx, yy, zz, yz, xz, xy."""
    extrapolation: str = UNKNOWN
    """`inside`, `edge` or `outside` of the training set; `unknown` where the model file does not say."""
    reasons: tuple[str, ...] = ()
    """Why it is not inside."""
    atoms_beyond: tuple[int, ...] = ()
    """Whom the reasons are about."""
    energy_std_eV: float | None = None
    """Standard errors, where the model was calibrated on data held back (docs/uncertainty.md)."""
    energy_std_per_atom_eV: float | None = None
    max_force_std_eV_per_A: float | None = None
    """Of a component, of the atom where it is largest."""
    stress_std_GPa: float | None = None
    forces_std_eV_per_A: list[float] | None = None
    """Of each component, by atom."""


def predict_frames(
    potential: Answering,
    frames: Iterable[Frame],
    *,
    max_edges: int = 20_000,
    max_memory: float | None = None,
    refused: Refused | None = None,
    members: Sequence[Answering] = (),
    atomic_stress: bool = False,
) -> Iterator[Predicted]:
    """Predict structures as they come, in order, holding only one batch in memory.

    Arguments as `mlanet.workflows.answers.answers`; atomic_stress: also the stress of single atoms, of structures that
    have one (`mlanet.atomic_stress`).

    Raises:
        DataError: a frame that cannot be used, that needs more than `max_memory` GiB, or that has an element that the
            model does not know.
        ConfigError: no stress of single atoms from this model.
    """
    if atomic_stress and (obstacle := stresses_obstacle(potential)):
        raise ConfigError(f"no stress of single atoms: {obstacle}")
    answered = answers(potential, frames, max_edges=max_edges, max_memory=max_memory, refused=refused, members=members)
    warned = False
    for question, prediction, assessment in answered:
        frame = question.frame
        if not warned and (remark := lone_atoms(question.graph, potential.statistics)) is not None:
            warned = True
            warnings.warn(f"{frame.where}: {remark}", stacklevel=2)
        atoms = with_prediction(_keeping_labels(frame.atoms), prediction)
        with_assessment(atoms, assessment)
        if atomic_stress and "stress" in atoms.calc.results:
            each = atomic_stresses(potential, question.graph, prediction.arrays())
            atoms.calc.results["stresses"] = each[:, VOIGT[0], VOIGT[1]]
        yield Predicted(atoms, frame.where, assessment)


def _keeping_labels(atoms: Atoms) -> Atoms:
    """A copy whose energy, forces and stress, which the prediction will replace, live on as REF_energy and so on."""
    kept = atoms.copy()
    results = {} if atoms.calc is None else atoms.calc.results
    for quantity in QUANTITIES:
        place = kept.arrays if quantity.per_atom else kept.info
        value = results.get(quantity.name)
        if quantity.optional and value is None:
            value = place.pop(quantity.name, None)
        if value is not None:
            place.setdefault(f"REF_{quantity.name}", np.array(value) if quantity.shape else value)
    return kept


def draw(path: Path, predictions: Sequence[Predicted]) -> None:
    """A picture of structures with their forces as arrows, and their numbers with units."""
    prediction_picture(
        path,
        [prediction.atoms for prediction in predictions],
        [Path(prediction.where).name for prediction in predictions],
    )


def require_formats(output: Path | None, picture: Path | None) -> None:
    """Refuse suffixes that cannot be written before anything is computed."""
    if output is not None:
        written_format(output, ("extxyz",))
    if picture is not None and picture.suffix.lower().removeprefix(".") not in FORMATS:
        raise OutputError(f"{picture}: pictures are written as {', '.join('.' + ending for ending in FORMATS)}")


def row(predicted: Predicted) -> Row:
    """The numbers of one prediction, with their units in the names."""
    atoms = predicted.atoms
    said = true_results(atoms)
    energy, forces = said["energy"], said["forces"]
    stress = (said["stress"] * EV_PER_CUBIC_ANGSTROM_IN_GPA).tolist() if "stress" in said else None
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
        dipole_e_A=None if "dipole" not in said else said["dipole"].tolist(),
        polarizability_A3=None if "polarizability" not in said else said["polarizability"][VOIGT].tolist(),
        **_limits(predicted.assessment, len(atoms)),
    )


def _limits(assessment: Assessment, n_atoms: int) -> dict[str, Any]:
    """The part of a row that says how far it can be believed."""
    one, errors = assessment, assessment.forces_std
    return {
        "extrapolation": sys.intern(one.extrapolation),  # so that it is the default, also from another process
        "reasons": one.reasons,
        "atoms_beyond": one.atoms,
        "energy_std_eV": one.energy_std,
        "energy_std_per_atom_eV": None if one.energy_std is None else one.energy_std / n_atoms,
        "max_force_std_eV_per_A": None if errors is None else float(errors.max()),
        "stress_std_GPa": None if one.stress_std is None else one.stress_std * EV_PER_CUBIC_ANGSTROM_IN_GPA,
        "forces_std_eV_per_A": None if errors is None else errors.tolist(),
    }


class Kept:
    """Writes predictions to an extxyz and a CSV file, one after another as they come; a context manager.

    The files take their names when the block ends without an error; until then, and after an error or a kill, what was
    computed is in `out.partial.extxyz` and so on (`mlanet.workflows.growing`), with what a later run needs to go on
    (`mlanet.workflows.resuming`).

    Args:
        output, table: of structures and of rows; either may be None.
        tell: see `growing`.
        outputs: of the model, for which the table has columns too.
        settings: what must be the same for a run to go on.
        resume: whether this one goes on.
    Raises:
        OutputError: a place that cannot be written.
        ConfigError: the run before had other settings.
    """

    def __init__(
        self,
        output: Path | None,
        table: Path | None,
        tell: Callable[[str], None] = print,
        outputs: Sequence[str] = (),
        settings: Mapping[str, object] = MappingProxyType({}),
        resume: bool = False,
    ) -> None:
        self._outputs = outputs
        self._opened = journalled((output, table), tell, settings, resume)

    def __enter__(self) -> Kept:
        (self._structures, self._rows), self._journal = self._opened.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._opened.__exit__(*error)

    def going_on(
        self, frames: Iterable[Frame], work: Callable[[Iterator[Frame]], Iterable[Predicted]]
    ) -> Iterator[tuple[Predicted | None, Row | None]]:
        """Predictions of the frames that are not written yet, None for those that are, each with its row.

        A row of what is written is None unless it was asked for when that was computed (`keep`).
        """
        if self._journal is None:
            yield from ((predicted, None) for predicted in work(iter(frames)))
            return
        for answer in self._journal.going_on(frames, work, lambda one: one.where):
            if isinstance(answer, Predicted):
                yield answer, None
            else:
                yield None, None if answer["row"] is None else msgspec.convert(answer["row"], Row)

    def keep(self, predicted: Predicted, shown: Row | None = None) -> None:
        """Write one; `shown` is given again by a later run that goes on."""
        if self._structures is not None:
            self._structures.add(frame_text(predicted.atoms, predicted.where))
        if self._rows is not None:
            header = [[*CSV_COLUMNS, *(column for name in self._outputs for column in _MORE[name])]]
            lines = [] if self._rows.count else header
            self._rows.add(lines_text([*lines, _csv_row(row(predicted), self._outputs)]))
        if self._journal is not None:
            said = {"row": None if shown is None else msgspec.to_builtins(shown)}
            self._journal.add(predicted.atoms, said)


CSV_COLUMNS: Sequence[str] = (
    "where",
    "formula",
    "atoms",
    "energy_eV",
    "energy_per_atom_eV",
    "max_force_eV_per_A",
    "pressure_GPa",
    *(f"stress_{place}_GPa" for place in ("xx", "yy", "zz", "yz", "xz", "xy")),
    "extrapolation",
    "energy_std_eV",
    "max_force_std_eV_per_A",
    "stress_std_GPa",
    "reasons",
)
_MORE: dict[str, list[str]] = {
    "dipole": [f"dipole_{axis}_e_A" for axis in "xyz"],
    "polarizability": [f"polarizability_{place}_A3" for place in ("xx", "yy", "zz", "yz", "xz", "xy")],
}
"""Further columns, of models with such outputs."""


def _csv_row(line: Row, outputs: Sequence[str] = ()) -> list[object]:
    """Full precision; empty where stress is not defined."""
    pressure: object = "" if line.pressure_GPa is None else line.pressure_GPa
    stress: list[object] = [""] * 6 if line.stress_GPa is None else list(line.stress_GPa)
    fixed = [line.where, line.formula, line.atoms, line.energy_eV, line.energy_per_atom_eV, line.max_force_eV_per_A]
    given: dict[str, list[float] | None] = {"dipole": line.dipole_e_A, "polarizability": line.polarizability_A3}
    more: list[object] = []
    for name in outputs:
        more += given[name] or [""] * len(_MORE[name])
    errors = [line.energy_std_eV, line.max_force_std_eV_per_A, line.stress_std_GPa]
    limits = [line.extrapolation, *("" if it is None else it for it in errors), "; ".join(line.reasons)]
    return [*fixed, pressure, *stress, *limits, *more]
