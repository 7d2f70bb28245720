"""`mlanet relax`: structures and a model in; the structures without forces out."""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlanet import DEFAULT_MODEL
from mlanet.cli.computing import STEPS, computing
from mlanet.cli.crew import Job, crew_of, job_means, relaxed
from mlanet.cli.options import Files, Json, KeepGoing, MaxEdges, Model, Ray, Resume, Workers
from mlanet.cli.output import (
    note,
    note_matmul_cost,
    print_json,
    print_numbers,
    print_table,
    progress,
    refused_part,
    report_refused,
    short_name,
    value_text,
)
from mlanet.execution import Execution

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mlanet.workflows.answers import Refusals
    from mlanet.workflows.relax import Step
    from mlanet.workflows.relax_files import Done, Means, Wanted
    from mlanet.workflows.workers import Crew


Cell = enum.StrEnum("Cell", "fixed full shape volume")
"""What of the cell may change."""


Method = enum.StrEnum("Method", "lbfgs fire")
"""How to go downhill."""


@computing("max_memory", "skin", *STEPS, dtype="float64", skin=0.3)
def relax(
    files: Files,
    model: Model = DEFAULT_MODEL,
    cell: Annotated[
        Cell, typer.Option("--cell", "-c", help="full: whatever is periodic (a sheet keeps its empty space).")
    ] = Cell.fixed,
    pressure: Annotated[float, typer.Option(help="GPa, with a cell that may change.")] = 0.0,
    hold: Annotated[str, typer.Option(help="With --cell full: lattice vectors that stay, such as c or ab.")] = "",
    vacuum: Annotated[
        str, typer.Option(help="With --cell full: vectors along empty space, which stay: auto, none, or c, bc …")
    ] = "auto",
    keep_symmetry: Annotated[bool, typer.Option("--keep-symmetry", help="Keep the space group of the start.")] = False,
    symprec: Annotated[float, typer.Option(help="Å up to which the space group is found.", min=1e-6)] = 0.01,
    fmax: Annotated[float, typer.Option(help="eV/Å at which to stop.", min=1e-8)] = 0.01,
    steps: Annotated[int, typer.Option(help="At most.", min=1)] = 500,
    method: Annotated[Method, typer.Option(help="lbfgs takes a quarter of the steps of fire.")] = Method.lbfgs,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="All that is relaxed; NAME_relaxed.extxyz beside each file if not given."),
    ] = None,
    index: Annotated[str, typer.Option(help="Frames of each file, as in ASE: -1 the last, : all.")] = "-1",
    stop_outside: Annotated[
        bool, typer.Option("--stop-outside", help="End at the first step outside the training set; status 1.")
    ] = False,
    batched: Annotated[
        bool, typer.Option("--batched", help="Many structures at a time: several times faster for small cells.")
    ] = False,
    keep_going: KeepGoing = False,
    resume: Resume = False,
    json: Json = False,
    max_edges: MaxEdges = 20_000,
    workers: Workers = 1,
    ray: Ray = None,
    *,
    execution: Execution,
) -> None:
    """Relax the last frame of each of FILES: atoms, and with --cell also the cell.

    Every step of a single structure is told on stderr, without --json; after Ctrl-C the structure as it then is gets
    written.

    Written with energy, forces and stress, also of atoms that are held. Exit status 1 if one does not converge, or if
    atoms end without a neighbour.

    Of a run over many structures that was stopped, what was finished stays in OUTPUT.partial.extxyz, and the same
    command with --resume goes on with it.
    """
    from mlanet.workflows.answers import Refusals
    from mlanet.workflows.relax_files import Goes, Wanted, plan, relax_files

    if execution.max_memory is not None and not batched:
        raise typer.BadParameter("--max-memory bounds the batches of --batched; give both or neither")
    refused = Refusals() if keep_going else None
    symmetry = symprec if keep_symmetry else None
    wanted = Wanted(cell.value, pressure, fmax, steps, method.value, index, stop_outside, hold, vacuum, symmetry)
    planned = plan(files, output, wanted, refused)
    for remark in planned.remarks:
        note(remark)
    shown, crew = _StepsShown(not json, cell is not Cell.fixed), crew_of(workers, ray, execution)
    if planned.one and not crew.alone:
        note("note: one structure is relaxed by one process; --workers and --ray are for many")
    job = Job.of(model, execution, max_edges, keep_going)
    means = job_means(job, batched and not planned.one)._replace(tell=note)
    means = means._replace(watch=shown) if planned.one else _elsewhere(means, crew, job, wanted, batched)
    goes = Goes(resume, {"command": "relax", "model": job.digest, "dtype": execution.dtype})
    courses = relax_files(planned, means, wanted, refused, goes)
    done = list(courses if planned.one else progress(courses, "relaxing", planned.files))
    note_matmul_cost(job.calculator())
    _answer(done, planned.one, files, model, json, refused)
    _end(done, shown.interrupted, refused)


def _end(done: Sequence[Done], interrupted: bool, refused: Refusals | None) -> None:
    """Remarks, and the exit status."""
    for relaxation in done:
        if relaxation.remark:
            note(relaxation.remark)
    if interrupted:
        note("stopped by Ctrl-C; what was reached is written")
        raise typer.Exit(130)
    report_refused(refused)
    if not all(relaxation.converged for relaxation in done):
        raise typer.Exit(1)


def _elsewhere(means: Means, crew: Crew, job: Job, wanted: Wanted, batched: bool) -> Means:
    """With a crew that relaxes, if there is one."""
    from mlanet.workflows.workers import PART_FRAMES, worked

    if crew.alone:
        return means
    part = functools.partial(relaxed, job, wanted, batched)
    most = PART_FRAMES if batched else 4  # so that the last of them do not keep one process busy for long
    return means._replace(elsewhere=lambda frames, refused: worked(crew, part, frames, refused, most))


def _answer(
    done: Sequence[Done], one: bool, files: Sequence[Path], model: str, json: bool, refused: Refusals | None
) -> None:
    """One JSON document, or tables."""
    if not json:
        _print(done, one)
        return
    documents = [{"structure": it.structure, "model": model, **it.numbers, "file": it.file} for it in done]
    if one and done and refused is None:
        print_json(documents[0] | {"structure": files[0]})
    else:
        print_json({"relaxed": documents, **refused_part(refused)})


class _StepsShown:
    """Shows the steps of a relaxation as they come; Ctrl-C ends it there, so that the structure is written.

    - said: whether steps are shown · cell: whether it changes, so that its stress counts as a force · interrupted:
      whether Ctrl-C came
    """

    def __init__(self, said: bool, cell: bool) -> None:
        self.said, self.interrupted = said, False
        self.heading = "largest force, eV/Å" + ", or stress as one" * cell

    def __call__(self, course: Iterable[Step], label: str) -> Iterator[Step]:
        """Pass the steps on."""
        last = None
        try:
            for last in course:
                if self.said and last.number == 0:
                    note(f"{'step':>5} {'energy, eV':>18} {self.heading:>20}")
                if self.said:
                    note(f"{last.number:5d} {last.energy:18.6f} {last.force:20.6g}")
                yield last
        except KeyboardInterrupt:
            if last is None:
                raise
            self.interrupted = True


DIGITS = {"energy_eV": "z.6f", "cell_A_deg": "z.5f", "stress_GPa": "z.4f"}
"""Of what is large or may be nothing: six significant ones would cut a total energy to whole electronvolts."""


def _print(done: Sequence[Done], one: bool) -> None:
    """Everything of one structure, or one line for each of many."""
    if one:
        for it in done:
            print_numbers(it.numbers, "z.6g", DIGITS)
    else:
        names = ("steps", "energy_eV", "max_force_eV_per_A")
        lines = [
            (
                short_name(it.structure),
                "yes" if it.converged else "no",
                *(value_text(it.numbers[name], DIGITS.get(name, "z.6g")) for name in names),
            )
            for it in done
        ]
        print_table("", ("structure", "converged", "steps>", "energy eV>", "max|F| eV/Å>"), lines)
    for place in dict.fromkeys(it.file for it in done):
        note(f"wrote {place}")
