"""The student against the teacher and against reference data, and the page that shows it."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlanet.data.labels import LabelKeys, find_labels
from mlanet.data.read import read_frames
from mlanet.data.vasp_steps import converged
from mlanet.distill.config import DistillConfig
from mlanet.distill.seeds import reduced_formula
from mlanet.execution import Execution
from mlanet.files import write_whole
from mlanet.page import Page
from mlanet.units import EV_PER_CUBIC_ANGSTROM_IN_GPA
from mlanet.workflows.evaluate import evaluate_frames

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BANDS = (0.0, 0.1, 0.3, 1.0, 3.0, np.inf)
"""eV/Å; borders of the root mean square of a structure's reference forces: how far it is from equilibrium."""
TEACHER = "teacher"
"""The set of validation labels."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Judgement:
    """One row per structure of the validation labels (set `teacher`) and of each file of reference data.

    Keys: set, recipe, formula, atoms, energy (error, eV/atom), forces (MAE, eV/Å), stress (MAE, GPa, or None),
    size (RMS of the reference forces, eV/Å), elements ({symbol: [sum of |ΔF|, components]}).
    """

    rows: list[Row]

    def of(self, name: str) -> list[Row]:
        """Rows of one set."""
        return [row for row in self.rows if row["set"] == name]

    def sets(self) -> list[str]:
        """Names, the teacher first."""
        return list(dict.fromkeys(row["set"] for row in self.rows))

    def summary(self) -> dict[str, dict[str, float]]:
        """Errors of each set."""
        return {name: summary(self.of(name)) for name in self.sets()}

    def element_errors(self) -> dict[int, float]:
        """Force MAE of each element over the teacher's labels, eV/Å, by atomic number."""
        sums: dict[int, list[float]] = {}
        for row in self.of(TEACHER):
            for symbol, (total, count) in row["elements"].items():
                entry = sums.setdefault(chemical_symbols.index(symbol), [0.0, 0.0])
                entry[0] += total
                entry[1] += count
        return {z: total / count for z, (total, count) in sorted(sums.items())}

    def recipe_errors(self) -> dict[str, float]:
        """Mean force MAE over the teacher's labels of each recipe, eV/Å."""
        rows = self.of(TEACHER)
        names = sorted({row["recipe"] for row in rows})
        return {name: float(np.mean([row["forces"] for row in rows if row["recipe"] == name])) for name in names}


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """Errors in meV/atom, meV/Å (every component counts once) and GPa; energies also without their mean error."""
    energy = 1e3 * np.array([row["energy"] for row in rows])
    components = np.array([3 * row["atoms"] for row in rows])
    forces = np.array([row["forces"] for row in rows])
    stress = [row["stress"] for row in rows if row["stress"] is not None]
    return {
        "structures": len(rows),
        "energy_mae": float(np.abs(energy).mean()),
        "energy_median": float(np.median(np.abs(energy))),
        "energy_shift": float(np.median(energy)),
        "forces_mae": float(1e3 * (forces * components).sum() / components.sum()),
        "stress_mae": float(np.mean(stress)) if stress else float("nan"),
    }


def judge(model: Path, labels: Path, test: Iterable[str]) -> Judgement:
    """Errors of a model file on the validation labels and on each file of reference data."""
    potential = Execution().resolve(model)
    rows: list[Row] = []
    for name, path in [(TEACHER, labels), *((Path(file).stem.split(".")[0], Path(file)) for file in test)]:
        for comparison in evaluate_frames(potential, converged(read_frames(path), path), LabelKeys()):
            atoms, where = comparison.frame
            energy, forces, stress = (
                comparison.prediction.energy,
                comparison.prediction.forces,
                comparison.prediction.stress,
            )
            rows.append(row_of(atoms, where, name, float(energy[0]), forces.numpy(), stress[0].numpy()))
    return Judgement(rows)


def judged_once(place: Path, model: Path, labels: Path, test: Iterable[str]) -> Judgement:
    """`judge`, whose answer is kept in a file and read from there another time."""
    if place.exists():
        return Judgement(**json.loads(place.read_text()))
    judgement = judge(model, labels, test)
    write_whole(place, json.dumps(judgement.__dict__, indent=1).encode())
    return judgement


def row_of(
    atoms: Atoms, where: str, name: str, energy: float, forces: NDArray[np.float64], stress: NDArray[np.float64]
) -> Row:
    """Errors of one structure; see `Judgement`.

    - atoms: with reference labels · energy eV, forces (N, 3) eV/Å, stress (3, 3) eV/Å³: what a model says of it
    """
    labels = find_labels(atoms, LabelKeys(), where)
    difference, numbers = np.abs(forces - labels.forces), atoms.numbers
    strain = np.abs(stress - labels.stress)
    elements = {
        chemical_symbols[z]: [float(difference[numbers == z].sum()), 3 * int((numbers == z).sum())]
        for z in sorted(set(numbers.tolist()))
    }
    return {
        "set": name,
        "recipe": str(atoms.info.get("recipe", "–")),
        "formula": reduced_formula(atoms),
        "atoms": len(numbers),
        "energy": (energy - labels.energy) / len(numbers),
        "forces": float(difference.mean()),
        "stress": float(strain.mean() * EV_PER_CUBIC_ANGSTROM_IN_GPA) if np.isfinite(strain).all() else None,
        "size": float(np.sqrt(np.mean(labels.forces**2))),
        "elements": elements,
    }


def write_page(path: Path, config: DistillConfig, judgements: Sequence[Judgement], labels: int) -> Path:
    """Student against teacher and against reference data, by round, element and distance from equilibrium."""
    page = Page("Distillation", f"A student of {config.teacher.name}, trained on {labels} of its labels.")
    last = judgements[-1]
    page.heading("Errors by round")
    columns = ["round", "data", "structures", "energy, meV/atom", "median", "shift", "forces, meV/Å", "stress, GPa"]
    page.table(
        columns,
        [
            [turn, name, *value.values()]
            for turn, judgement in enumerate(judgements)
            for name, value in judgement.summary().items()
        ],
        "Mean absolute errors. The set 'teacher' holds labels of compositions that were not trained on; all others are "
        "reference data. 'Shift' is the median signed error of the energy.",
    )
    for name in last.sets():
        _by_distance(page, name, last.of(name))
        _by(page, f"{name}: by element", "element", last.of(name), lambda row: row["elements"])
    _by(page, "teacher: by recipe", "recipe", last.of(TEACHER), lambda row: [row["recipe"]])
    page.heading("The largest force errors")
    worst = sorted(last.rows, key=lambda row: -row["forces"])[:25]
    page.table(
        ["data", "formula", "recipe", "atoms", "forces, meV/Å", "of, eV/Å", "energy, meV/atom"],
        [
            [r["set"], r["formula"], r["recipe"], r["atoms"], 1e3 * r["forces"], r["size"], 1e3 * r["energy"]]
            for r in worst
        ],
    )
    page.data("judgement", last.rows)
    page.write(path)
    return path


def _by_distance(page: Page, name: str, rows: Sequence[Row]) -> None:
    """Errors in bands of the reference forces, as a table and as a picture."""
    page.heading(f"{name}: by distance from equilibrium")
    table = []
    for low, high in itertools.pairwise(BANDS):
        inside = [row for row in rows if low <= row["size"] < high]
        if inside:
            table.append([f"{low:g} to {high:g}", *summary(inside).values()])
    page.table(
        ["RMS force, eV/Å", "structures", "energy, meV/atom", "median", "shift", "forces, meV/Å", "stress, GPa"], table
    )
    draw = functools.partial(_scatter, rows)
    page.picture(draw, "One point per structure. On the dashed line the error is as large as the forces themselves.")


def _scatter(rows: Sequence[Row]) -> Figure:
    """Errors of forces against the reference forces."""
    from mlanet.plots import BLUE, new_figure, panel

    figure = new_figure(6.0, 3.8)
    axes = panel(figure)
    sizes, errors = np.array([row["size"] for row in rows]), np.array([row["forces"] for row in rows])
    axes.loglog(np.maximum(sizes, 1e-3), np.maximum(errors, 1e-4), ".", color=BLUE, alpha=0.4)
    axes.loglog([1e-3, 30], [1e-3, 30], "--", color="0.6", linewidth=1)
    axes.set(xlabel="RMS of the reference forces, eV/Å", ylabel="force error (MAE), eV/Å")
    return figure


def _by(page: Page, title: str, kind: str, rows: Sequence[Row], keys: Callable[[Row], Iterable[str]]) -> None:
    """Errors of the structures that have a key."""
    page.heading(title)
    groups: dict[str, list[Row]] = {}
    for row in rows:
        for key in keys(row):
            groups.setdefault(key, []).append(row)
    columns = [kind, "structures", "energy, meV/atom", "median", "shift", "forces, meV/Å", "stress, GPa"]
    page.table(columns, [[key, *summary(group).values()] for key, group in sorted(groups.items())])
