"""Ask a user's model for the laws, on the user's structures or on small ones of its own elements."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from mlanet.data.formats import structure_files
from mlanet.data.read import read_frames
from mlanet.errors import DataError
from mlanet.execution import Execution
from mlanet.files import write_columns
from mlanet.laws import LAWS, LawResult, run_laws
from mlanet.laws.diatomics import Curve, diatomic, pairs_of
from mlanet.plots import SERIES, Drawing, legend, new_figure, panel, save
from mlanet.workflows.answers import require_answerable
from mlanet.workflows.model import open_model

MOST_NAMED = 14
"""Curves that a legend names."""
MAX_ATOMS = 200
"""Finite differences ask some hundred times; larger structures would take minutes each."""


def check_model(
    model: str,
    structures: Sequence[Path] = (),
    execution: Execution | None = None,
    progress: Callable[[str], None] = lambda law: None,
) -> list[LawResult]:
    """Every law on the first frame of each file, or on a molecule, a slab and a crystal of the model's elements.

    Args:
        model: name of a packaged model, or a path.
        structures: files; of each, the first frame.
        execution: how the model computes; in float64 whatever it says.
        progress: told the law that is being measured.
    Raises:
        DataError: a structure too large for finite differences.
        UnsupportedElementError: a structure with an element the model does not know.
    """
    potential = open_model(model, dataclasses.replace(execution or Execution(), dtype="float64"))
    systems = {}
    for path in structure_files(structures):
        atoms, where = next(iter(read_frames(path, index="0")))
        require_answerable(potential, atoms, where)
        if len(atoms) > MAX_ATOMS:
            raise DataError(f"{where}: {len(atoms)} atoms; the laws are measured on at most {MAX_ATOMS}")
        systems[str(path)] = atoms
    systems = systems or small_systems(potential.species)
    results: list[LawResult] = []
    for law in LAWS:
        progress(law.name)
        results += run_laws(potential, systems, [law])
    return results


def diatomic_curves(model: str, pairs: str, execution: Execution | None = None) -> Iterator[Curve]:
    """The curve of each pair of elements (see `mlanet.laws.diatomics.pairs_of`), in float64.

    Raises:
        ConfigError: pairs that are none.
    """
    potential = open_model(model, dataclasses.replace(execution or Execution(), dtype="float64"))
    for first, second in pairs_of(pairs, tuple(potential.species)):
        yield diatomic(potential, first, second)


def write_curves(folder: Path, curves: Sequence[Curve]) -> list[Path]:
    """A CSV of each curve.

    Raises:
        OutputError: the folder cannot be written.
    """
    return [
        write_columns(
            folder / f"{curve.pair}.csv", {"r_A": curve.r, "energy_eV": curve.energy, "force_eV_per_A": curve.force}
        )
        for curve in curves
    ]


def curves_drawing(folder: Path, curves: Sequence[Curve]) -> Drawing:
    """`diatomics.png` with all of them, still to be drawn."""
    place = folder / "diatomics.png"
    return Drawing(place, functools.partial(_draw_curves, place, curves))


def _draw_curves(path: Path, curves: Sequence[Curve]) -> None:
    figure = new_figure(6.4, 3.8)
    axes = panel(figure)
    for k, one in enumerate(curves):
        axes.plot(one.r, one.energy, color=SERIES[k % len(SERIES)], linewidth=1.2, label=one.pair)
    low = min(float(curve.energy.min()) for curve in curves)
    axes.set(ylim=(1.1 * min(low, -0.1), 2 * max(-low, 0.5)), xlabel="distance, Å", ylabel="energy, eV")
    if len(curves) <= MOST_NAMED:
        legend(axes)
    save(figure, path)


def small_systems(species: Sequence[int]) -> dict[str, Atoms]:
    """A cluster, a slab and a skewed crystal of up to three of the elements, rattled, at touching covalent radii."""
    numbers = np.resize(np.array(species)[[0, len(species) // 2, -1]], 8)
    spacing = 2.2 * float(covalent_radii[numbers].max())
    corners = spacing * np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float)
    corners += np.random.default_rng(0).normal(0.0, 0.08, corners.shape)
    skew = 2 * spacing * np.array([[1.0, 0.0, 0.0], [0.25, 1.0, 0.0], [-0.15, 0.2, 1.0]])
    slab = 2 * spacing * np.diag([1.0, 1.0, 6.0])
    return {
        "cluster": Atoms(numbers, corners),
        "slab": Atoms(numbers, corners, cell=slab, pbc=[True, True, False]),
        "crystal": Atoms(numbers, corners, cell=skew, pbc=True),
    }
