"""`mlanet relax`: a structure and a model in; the structure without forces out."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlanet.cli.output import (
    Capture,
    Compiled,
    Device,
    Digits,
    Dtype,
    Json,
    Kernel,
    Kernels,
    Matmul,
    Model,
    Precision,
    note,
    print_json,
    print_pairs,
)

if TYPE_CHECKING:
    from mlanet.workflows.relax import Step


class Cell(enum.StrEnum):
    """What of the cell may change."""

    fixed = "fixed"
    full = "full"
    shape = "shape"
    volume = "volume"


class Method(enum.StrEnum):
    """How to go downhill."""

    fire = "fire"
    bfgs = "bfgs"


def relax(
    structure: Annotated[Path, typer.Argument(help="extxyz, CIF, POSCAR …; the last frame of a file.")],
    model: Model,
    cell: Annotated[
        Cell, typer.Option("--cell", "-c", help="full: whatever is periodic (a sheet keeps its empty space).")
    ] = Cell.fixed,
    pressure: Annotated[float, typer.Option(help="GPa, with a cell that may change.")] = 0.0,
    fmax: Annotated[float, typer.Option(help="eV/Å at which to stop.", min=1e-8)] = 0.01,
    steps: Annotated[int, typer.Option(help="At most.", min=1)] = 500,
    method: Annotated[
        Method, typer.Option(help="fire is sturdy, bfgs needs fewer steps near the minimum.")
    ] = Method.fire,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Relaxed structure; STRUCTURE_relaxed.extxyz if not given.")
    ] = None,
    json: Json = False,
    dtype: Dtype = Precision.float64,
    device: Device = "cpu",
    kernels: Kernels = Kernel.auto,
    capture: Capture = False,
    compiled: Compiled = False,
    matmul: Matmul = Digits.float32,
) -> None:
    """Relax STRUCTURE: atoms, and with --cell also the cell. Exit status 1 if it does not converge.

    Every step is told on stderr, without --json; after Ctrl-C the structure as it then is gets written.
    """
    from ase.io import write

    from mlanet.calculator import MLANetCalculator
    from mlanet.data.read import read_frames
    from mlanet.errors import DataError
    from mlanet.layered import sheet_stress
    from mlanet.workflows.output import atomic_path, refuse_overwriting
    from mlanet.workflows.relax import relaxation, summary

    target = structure.with_name(f"{structure.name.split('.')[0]}_relaxed.extxyz") if output is None else output
    refuse_overwriting([target], [structure])
    frames = list(read_frames(structure, index="-1"))
    if not frames:
        raise DataError(f"{structure}: has no frame")
    atoms = frames[0].atoms.copy()
    atoms.calc = MLANetCalculator(
        model,
        dtype=dtype and dtype.value,
        device=device,
        kernels=kernels.value,
        capture=capture,
        compiled=compiled,
        matmul=matmul.value,
    )
    course = relaxation(atoms, cell=cell.value, pressure=pressure, fmax=fmax, steps=steps, method=method.value)
    last, interrupted = _followed(course, told=not json)
    if atoms.calc.matmul_cost is not None:
        note(str(atoms.calc.matmul_cost))
    result = summary(atoms, last)
    if atoms.pbc.sum() == 2 and "stress_GPa" in result:
        result["sheet_stress_N_per_m"] = sheet_stress(atoms, atoms.get_stress()).tolist()
    with atomic_path(target) as partial:
        write(partial, atoms)
    if json:
        print_json({"structure": structure, "model": model, **result, "file": target})
    else:
        print_pairs(
            "", [(name.replace("_", " "), _shown(value, DIGITS.get(name, ".6g"))) for name, value in result.items()]
        )
        note(f"wrote {target}")
    if interrupted:
        note(f"stopped by Ctrl-C after {last.number} steps; go on from {target}")
        raise typer.Exit(130)
    if not last.converged:
        note(f"not converged after {last.number} steps; go on from {target} or allow more --steps")
        raise typer.Exit(1)


DIGITS = {"energy_eV": ".6f", "cell_A_deg": ".5f"}
"""Of what is large: six significant ones would cut a total energy to whole electronvolts."""


def _followed(course: Iterator[Step], told: bool) -> tuple[Step, bool]:
    """The last step, each of them told as it comes, and whether Ctrl-C ended it."""
    last = None
    try:
        for last in course:
            if told and last.number == 0:
                note(f"{'step':>5} {'energy, eV':>18} {'largest force, eV/Å':>20}")
            if told:
                note(f"{last.number:5d} {last.energy:18.6f} {last.force:20.6g}")
    except KeyboardInterrupt:
        if last is None:
            raise
        return last, True
    assert last is not None
    return last, False


def _shown(value: object, digits: str) -> str:
    if isinstance(value, list):
        return "  ".join(_shown(one, digits) for one in value)
    return f"{value:{digits}}" if isinstance(value, float) else str(value)
