"""`mlanet neb`: two structures, or one and a hop, and a model in; the barrier between them out."""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlanet import DEFAULT_MODEL
from mlanet.cli.computing import STEPS, computing
from mlanet.cli.md import repeated_start
from mlanet.cli.options import Json, Model, Picture
from mlanet.cli.output import answer, command_again, note, note_matmul_cost, numbers_of, print_numbers
from mlanet.execution import Execution

if TYPE_CHECKING:
    from ase import Atoms

    from mlanet.properties.barrier_files import Found
    from mlanet.workflows.relax import Step


Way = enum.StrEnum("Way", "mdmin fire")
"""How images go down."""


@computing(*STEPS, dtype="float64")
def neb(
    start: Annotated[Path, typer.Argument(help="Structure at the start; the last frame of a file.")],
    end: Annotated[Path | None, typer.Argument(help="At the end: the same atoms in the same order and cell.")] = None,
    model: Model = DEFAULT_MODEL,
    vacancy: Annotated[
        int | None, typer.Option(help="In place of END: take this atom out of START; the first is 0.", min=0)
    ] = None,
    to: Annotated[
        int | None,
        typer.Option(help="With --vacancy: the atom that hops in; the nearest alike if not given.", min=0),
    ] = None,
    hop: Annotated[int | None, typer.Option(help="In place of END: this atom of START hops.", min=0)] = None,
    into: Annotated[str, typer.Option(help="With --hop: where, in units of lattice vectors, as 0.5,0.5,0.25.")] = "",
    repeat: Annotated[
        str, typer.Option(help="Supercell of START first, e.g. 2x2x2; a hop needs images at least 5 Å apart.")
    ] = "1x1x1",
    images: Annotated[int, typer.Option(help="Of the path, ends included.", min=3, max=99)] = 7,
    relax: Annotated[bool, typer.Option("--relax/--as-given", help="Relax the ends first, in their cell.")] = True,
    fmax: Annotated[float, typer.Option(help="eV/Å across the path at which it is found.", min=1e-6)] = 0.03,
    steps: Annotated[int, typer.Option(help="At most, in this run.", min=1)] = 300,
    method: Annotated[Way, typer.Option(help="fire is sturdy, mdmin needs fewer steps on smooth paths.")] = Way.fire,
    as_ordered: Annotated[
        bool, typer.Option("--as-ordered", help="Atoms that look exchanged in END are to exchange places.")
    ] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder; a second run goes on with it.")] = Path("neb"),
    picture: Picture = True,
    json: Json = False,
    *,
    execution: Execution,
) -> None:
    """Barrier on the way from START to END, by a nudged elastic band with a climbing image.

    The folder gets path.extxyz (images with energy and forces), profile.csv, barrier.png and result.json. Run the same
    command again to go on with what was stopped or is not converged. Exit status 1 if it is not converged.
    """
    from mlanet.calculator import MLANetCalculator
    from mlanet.checkpoint import model_path, read_model_header
    from mlanet.properties.barrier_files import Wanted, barrier_in
    from mlanet.properties.hops import images_near
    from mlanet.workflows.answers import require_answerable

    ends, names = _ends(start, end, vacancy, to, hop, into, repeat)
    calculator = MLANetCalculator(model, **execution.of_steps())
    for structure, name in zip(ends, names, strict=True):
        require_answerable(calculator.answering, structure, name)
        structure.calc = calculator
    if short := images_near(ends[0], end is None, names[0]):
        note(f"note: {short}")
    shown = _StepsShown(images - 2)
    found = barrier_in(
        output,
        ends,
        names,
        Wanted(images, fmax, steps, method.value, relax, as_ordered),
        {"model": read_model_header(model_path(model)).digest, "dtype": execution.dtype},
        watch=shown,
        assessment=lambda: calculator.assessment,
        tell=note,
    )
    note_matmul_cost(calculator)
    _answer(found, start, end, model, picture, json)
    if shown.interrupted:
        note("stopped by Ctrl-C; the images are written, and the same command goes on with them")
        raise typer.Exit(130)
    if not found.barrier.converged:
        note(f"go on with: {command_again()}")
        raise typer.Exit(1)


def _answer(found: Found, start: Path, end: Path | None, model: str, picture: bool, json: bool) -> None:
    """One JSON document, or names and values; what a reader should know; then the picture."""
    pictures = [found.picture] if picture else []
    profile = [list(point) for point in zip(found.barrier.path, found.barrier.energies, strict=True)]
    document = {"start": start, "end": end, "model": model, **found.numbers, "profile_A_eV": profile}
    show = functools.partial(print_numbers, found.numbers, ".4f")
    answer(document | {"files": found.files}, show, found.files, pictures, json, found.barrier.remarks)


def _ends(
    start: Path, end: Path | None, vacancy: int | None, to: int | None, hop: int | None, into: str, repeat: str
) -> tuple[tuple[Atoms, Atoms], tuple[str, str]]:
    """Both ends and their names: from two files, or from one and a hop."""
    from mlanet.properties.hops import hop_into, vacancy_hop

    if [end, vacancy, hop].count(None) != 2:
        raise typer.BadParameter("give one of END, --vacancy and --hop")
    if to is not None and vacancy is None:
        raise typer.BadParameter("--to names the atom that hops into a --vacancy; give both")
    if bool(into) != (hop is not None):
        raise typer.BadParameter("--hop needs --into, the place where the atom hops, and the other way round")
    atoms, first = repeated_start(start, repeat)
    if end is not None:
        other, second = repeated_start(end, repeat)
        return (atoms, other), (first, second)
    names = (first, f"{first} after the hop")
    if vacancy is not None:
        return vacancy_hop(atoms, vacancy, to, first), names
    assert hop is not None
    inside = lambda xyz: len(xyz) == 3 and max(map(abs, xyz)) < 1e3  # noqa: E731
    place = numbers_of("--into", into, "0.5,0.5,0.25", float, inside)
    return hop_into(atoms, hop, place, first), names


class _StepsShown:
    """Shows the steps as they come; Ctrl-C ends them there, so that the images are written."""

    def __init__(self, moving: int) -> None:
        self.moving, self.interrupted = moving, False

    def __call__(self, course: Iterable[Step]) -> Iterator[Step]:
        """Pass the steps on."""
        note(f"{self.moving} images move")
        note(f"{'step':>5} {'barrier, eV':>12} {'largest force, eV/Å':>20}")
        try:
            for step in course:
                note(f"{step.number:5d} {step.energy:12.4f} {step.force:20.4g}")
                yield step
        except KeyboardInterrupt:
            self.interrupted = True
