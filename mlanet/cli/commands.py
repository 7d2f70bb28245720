"""What commands there are: what the program knows of each before it loads the module that has it."""

from __future__ import annotations

import copy
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup


class Entry(NamedTuple):
    """A line of `mlanet --help`.

    - place: `module:attribute` in `mlanet.cli`, the function of a command or the app of a group of commands
    - panel: the heading it stands under
    - meaning: the first paragraph of its own help
    """

    place: str
    panel: str
    meaning: str


GROUPS = ("export", "lammps", "data", "profile")
"""Commands that have commands; each has a module of its name, as the others do, but for these."""
MODULES = dict.fromkeys(("eos", "elastic", "phonon"), "properties")
HELP = {
    "Use a model": """
predict: Predict energy, forces and stress of every structure in FILES.
evaluate: Compare predictions with the labels in FILES: MAE and RMSE of energy, forces and stress, also by element.
relax: Relax the last frame of each of FILES: atoms, and with --cell also the cell.
md: Run molecular dynamics from STRUCTURE.
trajectory: Analyse FILE: g(r), h(r), angles, velocity spectrum, pressure, and against --reference their errors.
eos: Equation of state of each crystal in FILES: volume, energy and bulk modulus at the minimum (Birch-Murnaghan).
elastic: Elastic constants of each crystal in FILES: the tensor, polycrystal moduli (Hill), and whether it is stable.
phonon: Phonons of each crystal in FILES by phonopy: bands, density of states, thermal properties, imaginary modes.
neb: Barrier on the way from START to END, by a nudged elastic band with a climbing image.
diffusion: Diffusion of each element from RUNS at any temperatures: D, activation energy, prefactor and conductivity.
exfoliate: Find the layers of STRUCTURE, pull them apart, and say what holds them together.
check: Measure the physical consistency of a model in float64: invariance, F = -dE/dR, stress by strain, smoothness.
info: Show configuration, elements, parameters, cutoff, card and digest of a model, or the size of a preset.
export: Write a model for programs without Python.
lammps: LAMMPS with a model as its potential.
""",
    "Make a model": """
train: Train a model.
finetune: Fine-tune a model on new data.
calibrate: Measure the domain of a model's training set and its errors on data held back, and write them into MODEL.
select: Choose from FILES (pools, trajectories) what to label next: uncertain, and unlike what is chosen already.
distill: Train a small model on the labels of a large one.
sweep: Train and judge many models under one budget, and say which to take.
presets: List the packaged model configurations, or print one as YAML to copy and change.
data: Audit, split and convert labelled files.
""",
    "This installation": """
doctor: Show versions, devices, threads and packaged models, compute one small structure, and say what is missing.
profile: Measure, explain and predict the memory and speed of models.
""",
}
ENTRIES = {
    name: Entry(f"{MODULES.get(name, name)}:{'app' if name in GROUPS else name}", panel, meaning)
    for panel, lines in HELP.items()
    for name, meaning in (line.split(": ", 1) for line in lines.strip().splitlines())
}
"""By name; in the help the commands of a heading stand in this order."""


class _Commands(Mapping[str, Any]):
    """The commands themselves, each loaded when it is looked up."""

    def __getitem__(self, name: str) -> Any:
        entry = ENTRIES[name]
        command = pkgutil.resolve_name(f"mlanet.cli.{entry.place}")
        app = typer.Typer()
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=entry.panel)
        else:
            app.command(name, rich_help_panel=entry.panel)(command)
        return typer.main.get_group(app).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(ENTRIES)

    def __len__(self) -> int:
        return len(ENTRIES)


class LazyGroup(TyperGroup):
    """The group `mlanet`: help is written from `ENTRIES`, and a command is loaded when it is called."""

    def __init__(self, **keys: Any) -> None:
        super().__init__(**keys)
        self.commands = _Commands()  # type: ignore[assignment]  # nothing is put into it

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, in the order of the help."""
        return list(self.commands)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write `mlanet --help`, for which no command is loaded."""
        listed = copy.copy(self)
        listed.commands = {
            name: TyperCommand(name, short_help=entry.meaning, rich_help_panel=entry.panel)
            for name, entry in ENTRIES.items()
        }
        super(LazyGroup, listed).format_help(ctx, formatter)
