"""`mlanet eos`, `mlanet elastic` and `mlanet phonon`: crystals and a model in; what they are like out."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlanet import DEFAULT_MODEL
from mlanet.cli.computing import STEPS, computing
from mlanet.cli.crew import Job, crew_of, property_of
from mlanet.cli.options import Files, Json, KeepGoing, Model, Picture, Ray, Workers
from mlanet.cli.output import (
    drawn,
    going_on_with,
    note,
    note_once,
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
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ase import Atoms

    from mlanet.properties.files import Answer, Measure, Measured
    from mlanet.workflows.workers import Crew

Index = Annotated[str, typer.Option(help="Frames of each file, as in ASE: -1 the last, : all.")]
Relax = Annotated[
    bool, typer.Option("--relax/--as-given", help="Relax the crystal first; or take it, and atoms in it, as given.")
]
Fmax = Annotated[float, typer.Option(help="eV/Å at which a crystal is at rest.", min=1e-8)]
Steps = Annotated[int, typer.Option(help="At most, of each relaxation.", min=1)]


Output = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for results and pictures; a second run goes on with it.")
]


@computing(*STEPS, dtype="float64", skin=0.3)
def eos(
    files: Files,
    model: Model = DEFAULT_MODEL,
    span: Annotated[float, typer.Option(help="Largest relative change of the volume.", min=0.001, max=0.4)] = 0.06,
    points: Annotated[int, typer.Option(help="Volumes.", min=5, max=101)] = 9,
    relax: Relax = True,
    fmax: Fmax = 0.01,
    steps: Steps = 500,
    index: Index = "-1",
    output: Output = Path("eos"),
    picture: Picture = True,
    keep_going: KeepGoing = False,
    json: Json = False,
    workers: Workers = 1,
    ray: Ray = None,
    *,
    execution: Execution,
) -> None:
    """Equation of state of each crystal in FILES: volume, energy and bulk modulus at the minimum (Birch-Murnaghan).

    The folder gets results.csv, results.jsonl and a picture of each crystal.
    """
    from mlanet.properties.rest import Rest

    measure = functools.partial(_eos, picture, span=span, points=points, relax=relax, rest=Rest(fmax, steps))
    options = {"span": span, "points": points, "relax": relax, "fmax": fmax, "steps": steps}
    shown = {"volume_A3_per_atom": "V₀ Å³/atom>", "bulk_modulus_GPa": "B₀ GPa>", "bulk_modulus_derivative": "B₀′>"}
    crew = crew_of(workers, ray, execution)
    run = _Run(files, model, index, output, keep_going, json, crew, execution)
    run("eos", measure, options, shown, (".png",) if picture else ())


@computing(*STEPS, dtype="float64", skin=0.3)
def elastic(
    files: Files,
    model: Model = DEFAULT_MODEL,
    strain: Annotated[float, typer.Option(help="Size of each strain.", min=1e-5, max=0.09)] = 0.005,
    relax: Relax = True,
    fmax: Fmax = 0.005,
    steps: Steps = 500,
    index: Index = "-1",
    output: Output = Path("elastic"),
    keep_going: KeepGoing = False,
    json: Json = False,
    workers: Workers = 1,
    ray: Ray = None,
    *,
    execution: Execution,
) -> None:
    """Elastic constants of each crystal in FILES: the tensor, polycrystal moduli (Hill), and whether it is stable.

    The folder gets results.csv and results.jsonl, which has the tensors.
    """
    from mlanet.properties.rest import Rest

    measure = functools.partial(_elastic, strain=strain, relax=relax, rest=Rest(fmax, steps))
    options = {"strain": strain, "relax": relax, "fmax": fmax, "steps": steps}
    shown = {
        "bulk_modulus_GPa": "bulk GPa>",
        "shear_modulus_GPa": "shear GPa>",
        "youngs_modulus_GPa": "Young GPa>",
        "poisson_ratio": "Poisson>",
        "stable": "stable",
    }
    crew = crew_of(workers, ray, execution)
    run = _Run(files, model, index, output, keep_going, json, crew, execution)
    run("elastic", measure, options, shown)


@computing(*STEPS, dtype="float64")
def phonon(
    files: Files,
    model: Model = DEFAULT_MODEL,
    size: Annotated[float, typer.Option(help="Å; least length of the supercell along each vector.", min=1)] = 12.0,
    supercell: Annotated[str, typer.Option(help="Repeats in place of --size, such as 3,3,3.")] = "",
    displacement: Annotated[float, typer.Option(help="Å.", min=1e-5, max=0.5)] = 0.01,
    relax: Relax = True,
    fmax: Fmax = 0.001,
    steps: Steps = 1000,
    index: Index = "-1",
    output: Output = Path("phonon"),
    picture: Picture = True,
    keep_going: KeepGoing = False,
    json: Json = False,
    workers: Workers = 1,
    ray: Ray = None,
    *,
    execution: Execution,
) -> None:
    """Phonons of each crystal in FILES by phonopy: bands, density of states, thermal properties, imaginary modes.

    The folder gets results.csv, results.jsonl, and of each crystal a picture, its thermal properties (CSV) and a YAML
    with force constants, which phonopy-load reads. Needs the extra `phonons`.
    """
    from mlanet.properties.phonon import phonopy_classes
    from mlanet.properties.rest import Rest

    phonopy_classes()  # refused before there is a folder
    repeats, rest = _repeats(supercell), Rest(fmax, steps)
    measure = functools.partial(
        _phonon, picture, size=size, supercell=repeats, displacement=displacement, relax=relax, rest=rest
    )
    options = {"size": size, "supercell": supercell, "displacement": displacement, "relax": relax}
    options |= {"fmax": fmax, "steps": steps}
    shown = {
        "stable": "stable",
        "lowest_THz": "lowest THz>",
        "highest_THz": "highest THz>",
        "heat_capacity_300K_kB_per_atom": "C(300 K) k_B/atom>",
    }
    crew = crew_of(workers, ray, execution)
    run = _Run(files, model, index, output, keep_going, json, crew, execution)
    run("phonon", measure, options, shown, ("_thermal.csv", "_phonopy.yaml", *((".png",) if picture else ())))


def _eos(picture: bool, atoms: Atoms, where: str, stem: Path, **options: Any) -> Answer:
    """An equation of state, and its picture."""
    from mlanet.properties import equation_of_state
    from mlanet.properties.files import Answer
    from mlanet.properties.plots import eos_picture

    curve = equation_of_state(atoms, where=where, **options)
    points = [list(point) for point in zip(curve.volumes, curve.energies, strict=True)]
    draw = functools.partial(eos_picture, stem.with_name(f"{stem.name}.png"), curve, str(atoms.symbols))
    return Answer({**curve.numbers, "points_A3_eV": points}, draw if picture else None)


def _elastic(atoms: Atoms, where: str, stem: Path, **options: Any) -> Answer:
    """Elastic constants."""
    from mlanet.properties import elasticity
    from mlanet.properties.files import Answer

    return Answer(elasticity(atoms, where=where, **options).numbers)


def _phonon(picture: bool, atoms: Atoms, where: str, stem: Path, **options: Any) -> Answer:
    """Phonons, their picture and tables."""
    from mlanet.files import write_columns
    from mlanet.properties import phonons
    from mlanet.properties.files import Answer
    from mlanet.properties.plots import phonon_picture

    result = phonons(atoms, where=where, **options)
    result.save(stem.with_name(f"{stem.name}_phonopy.yaml"))
    write_columns(stem.with_name(f"{stem.name}_thermal.csv"), result.thermal)
    for remark in result.remarks:
        warnings.warn(f"{where}: {remark}", stacklevel=2)
    draw = functools.partial(phonon_picture, stem.with_name(f"{stem.name}.png"), result, str(atoms.symbols))
    return Answer(result.numbers, draw if picture else None)


def _repeats(text: str) -> tuple[int, int, int] | None:
    """What --supercell says."""
    if not text:
        return None
    parts = text.replace("x", ",").split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() and 0 < int(part) <= 100 for part in parts):
        raise typer.BadParameter(f"--supercell: '{text}' is not of the form 3,3,3")
    a, b, c = map(int, parts)
    return a, b, c


@dataclasses.dataclass(frozen=True)
class _Run:
    """What the three commands are all told; called with what is each one's own."""

    files: Sequence[Path]
    model: str
    index: str
    output: Path
    keep_going: bool
    json: bool
    crew: Crew
    execution: Execution

    def __call__(
        self,
        name: str,
        measure: Measure,
        options: Mapping[str, object],
        shown: dict[str, str],
        beside: Sequence[str] = (),
    ) -> None:
        """Measure all structures, tell of each, and leave the table; no answer waits for the last picture.

        - options: that decide the numbers, as the folder keeps them · shown: columns of what is printed
        - beside: ends of the files of each structure
        """
        from mlanet.model_files import digest_of, model_path
        from mlanet.properties.files import Folder, measured
        from mlanet.workflows.answers import Refusals

        refused = Refusals() if self.keep_going else None
        digest = digest_of(model_path(self.model))
        folder = Folder(self.output, {"property": name, "model": digest, "dtype": self.execution.dtype, **options})
        one = functools.partial(property_of, Job.of(self.model, self.execution), measure, not self.crew.alone)
        results = measured(self.files, one, folder, self.index, refused, self.crew, note_once, beside)
        done: list[Measured] = []
        with going_on_with(self.output), contextlib.ExitStack() as last:
            done += _drawn_behind(progress(results, f"mlanet {name}", None), last)
            table = folder.table(done) if done else None
            if self.json:
                documents = [{"structure": result.structure, **result.numbers} for result in done]
                said = {"model": self.model, "results": documents, "folder": self.output}
                print_json(said | refused_part(refused))
            else:
                _print(done, shown)
        if not self.json:
            if old := sum(result.old for result in done):
                note(f"{old} of {len(done)} were in {self.output} already")
            if table is not None:
                note(f"wrote {table}{_beside(table)}")
        report_refused(refused)


def _drawn_behind(found: Iterable[Measured], last: contextlib.ExitStack) -> Iterator[Measured]:
    """Results, each of whose pictures is drawn when the next is there, and the last one when `last` is left."""
    for result in found:
        last.close()
        if result.draw is not None:
            last.callback(drawn, result.draw)
        yield result._replace(draw=None)


def _beside(table: Path) -> str:
    """Pictures and files for other programs that stand beside a table, by name if they are few."""
    shown = (".png", ".csv", ".yaml")
    others = sorted(entry.name for entry in table.parent.iterdir() if entry.suffix in shown and entry != table)
    return f", {', '.join(others)}" if 0 < len(others) <= 4 else f" and {len(others)} files beside it" * bool(others)


def _print(done: Sequence[Measured], shown: dict[str, str]) -> None:
    """Everything single of one structure, or one line for each of many."""
    if len(done) == 1:
        numbers = {key: value for key, value in done[0].numbers.items() if not isinstance(value, list)}
        print_numbers(numbers, ".5g")
    elif done:
        rows = [
            (short_name(result.structure), *(value_text(result.numbers[key], ".5g") for key in shown))
            for result in done
        ]
        print_table("", ("structure", *shown.values()), rows)
