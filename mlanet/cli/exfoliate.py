"""`mlanet exfoliate`: a layered structure and a model in; binding, distances and sliding out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlanet import DEFAULT_MODEL
from mlanet.cli.computing import STEPS, computing
from mlanet.cli.options import Json, Model, Picture
from mlanet.cli.output import answer, note, note_matmul_cost, print_pairs, progress
from mlanet.errors import naming
from mlanet.execution import Execution

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mlanet.layered import Layers
    from mlanet.layered.report import Exfoliation

MEANING = {
    "layers": "layers",
    "area_A2": "area of a layer, Å²",
    "distance_A": "interlayer distance, Å",
    "reference_distance_A": "  of the reference, Å",
    "binding_meV_per_atom": "binding energy, meV/atom",
    "reference_binding_meV_per_atom": "  of the reference, meV/atom",
    "binding_meV_per_A2": "binding energy, meV/Å²",
    "binding_J_per_m2": "binding energy, J/m²",
    "rmse_meV_per_atom": "difference from the reference (rms), meV/atom",
    "tail_rmse_meV_per_atom": "  2 Å beyond the minimum and farther, meV/atom",
    "corrugation_meV_per_atom": "sliding, highest less lowest, meV/atom",
}


@computing(*STEPS, dtype="float64")
def exfoliate(
    structure: Annotated[Path, typer.Argument(help="Bulk crystal or a few layers; the last frame of a file.")],
    model: Model = DEFAULT_MODEL,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", "-r", help="Frames with energies, or CSV: distance_A, energy_meV_per_atom."),
    ] = None,
    distances: Annotated[
        str, typer.Option(help="MIN:MAX:COUNT in Å; if not given, 45 from 0.8 Å below the present one to 10 Å above.")
    ] = "",
    relax: Annotated[
        bool, typer.Option("--relax", help="Atoms at every distance (mid-planes held); distance of every stacking.")
    ] = False,
    slide: Annotated[int, typer.Option(help="Also slide the layers: points per lattice vector.", min=0, max=64)] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for tables and pictures.")] = Path(
        "exfoliation"
    ),
    picture: Picture = True,
    json: Json = False,
    *,
    execution: Execution,
) -> None:
    """Find the layers of STRUCTURE, pull them apart, and say what holds them together.

    Energies are relative to the layers alone. The folder gets curve.csv, curve.png, with a reference reference.csv,
    with --slide sliding.csv and sliding.png.
    """
    from mlanet.calculator import MLANetCalculator
    from mlanet.data.read import read_last
    from mlanet.layered import find_layers
    from mlanet.layered.reference import read_reference
    from mlanet.layered.report import exfoliate as run
    from mlanet.workflows.answers import require_answerable

    atoms, where = read_last(structure)
    calculator = MLANetCalculator(model, **execution.of_steps())
    require_answerable(calculator.answering, atoms, where)
    with naming(where):
        layers = find_layers(atoms)
    wanted = _distances(distances, layers)
    known = None if reference is None else read_reference(reference, layers)
    report = run(layers, calculator, wanted, output, reference=known, relax=relax, slide=slide, watch=progress)
    note_matmul_cost(calculator)
    pictures = report.pictures if picture else ()
    document = {"structure": structure, "model": model, **report.numbers, "files": report.files}
    answer(document, lambda: _print(layers, report), report.files, pictures, json)


def _print(layers: Layers, report: Exfoliation) -> None:
    """Numbers, and what a reader should know."""
    kind = "layers in empty space" if layers.finite else "layers per cell of a bulk crystal"
    print_pairs("", [("found", f"{layers.n_layers} {kind}")])
    shown = {name: value for name, value in report.numbers.items() if name in MEANING and name != "layers"}
    print_pairs("", [(MEANING[name], f"{value:.4g}") for name, value in shown.items()])
    if not report.numbers["minimum_inside"]:
        note("note: the energy is lowest at the first or last distance; look farther with --distances")


def _distances(text: str, layers: Layers) -> NDArray[np.float64]:
    """What --distances says, or a fair choice."""
    import numpy as np

    from mlanet.layered.curve import default_distances

    if not text:
        return default_distances(layers)
    try:
        low, high, count = text.split(":")
        distances = np.linspace(float(low), float(high), int(count))
    except ValueError:
        distances = np.zeros(0)
    if len(distances) < 2 or not 0 < distances[0] < distances[-1] < np.inf:
        raise typer.BadParameter(f"--distances: '{text}' is not of the form 3:12:40 (Å, Å, how many)")
    return distances
