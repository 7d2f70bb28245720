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

    - place: `module.attribute` in `mlanet.cli`: the function of a command, or the app of a group of commands
    - panel: the heading it stands under
    - meaning: the first paragraph of its own help
    """

    place: str
    panel: str
    meaning: str


USE, MAKE, HERE = "Use a model", "Make a model", "This installation"
ENTRIES = {
    "predict": Entry("predict.predict", USE, "Predict energy, forces and stress of every structure in FILES."),
    "evaluate": Entry(
        "evaluate.evaluate",
        USE,
        "Compare predictions with the labels in FILES: MAE and RMSE of energy, forces and stress, also by element.",
    ),
    "relax": Entry("relax.relax", USE, "Relax the last frame of each of FILES: atoms, and with --cell also the cell."),
    "md": Entry("md.md", USE, "Run molecular dynamics from STRUCTURE."),
    "trajectory": Entry(
        "trajectory.trajectory",
        USE,
        "Analyse FILE: g(r), h(r), angles, velocity spectrum, pressure, and against --reference their errors.",
    ),
    "eos": Entry(
        "properties.eos",
        USE,
        "Equation of state of each crystal in FILES: volume, energy and bulk modulus at the minimum (Birch-Murnaghan).",
    ),
    "elastic": Entry(
        "properties.elastic",
        USE,
        "Elastic constants of each crystal in FILES: the tensor, polycrystal moduli (Hill), and whether it is stable.",
    ),
    "phonon": Entry(
        "properties.phonon",
        USE,
        "Phonons of each crystal in FILES by phonopy: bands, density of states, thermal properties, imaginary modes.",
    ),
    "neb": Entry(
        "neb.neb", USE, "Barrier on the way from START to END, by a nudged elastic band with a climbing image."
    ),
    "diffusion": Entry(
        "diffusion.diffusion",
        USE,
        "Diffusion of each element from RUNS at any temperatures: D, activation energy, prefactor and conductivity.",
    ),
    "exfoliate": Entry(
        "exfoliate.exfoliate", USE, "Find the layers of STRUCTURE, pull them apart, and say what holds them together."
    ),
    "check": Entry(
        "check.check",
        USE,
        "Measure the physical consistency of a model in float64: invariance, F = -dE/dR, stress by strain, smoothness.",
    ),
    "info": Entry(
        "info.info",
        USE,
        "Show configuration, elements, parameters, cutoff, card and digest of a model, or the size of a preset.",
    ),
    "train": Entry("train.train", MAKE, "Train a model."),
    "finetune": Entry("finetune.finetune", MAKE, "Fine-tune a model on new data."),
    "calibrate": Entry(
        "calibrate.calibrate",
        MAKE,
        "Measure the domain of a model's training set and its errors on data held back, and write them into MODEL.",
    ),
    "select": Entry(
        "select.select",
        MAKE,
        "Choose from FILES (pools, trajectories) what to label next: uncertain, and unlike what is chosen already.",
    ),
    "distill": Entry("distill.distill", MAKE, "Train a small model on the labels of a large one."),
    "sweep": Entry("sweep.sweep", MAKE, "Train and judge many models under one budget, and say which to take."),
    "presets": Entry(
        "presets.presets", MAKE, "List the packaged model configurations, or print one as YAML to copy and change."
    ),
    "doctor": Entry(
        "doctor.doctor",
        HERE,
        "Show versions, devices, threads and packaged models, compute one small structure, and say what is missing.",
    ),
    "export": Entry("export.app", USE, "Write a model for programs without Python."),
    "lammps": Entry("lammps.app", USE, "LAMMPS with a model as its potential."),
    "data": Entry("data.app", MAKE, "Audit, split and convert labelled files."),
    "profile": Entry("profile.app", HERE, "Measure, explain and predict the memory and speed of models."),
}
"""By name, in the order of the help."""


class _Commands(Mapping[str, Any]):
    """The commands themselves, each loaded when it is looked up."""

    def __getitem__(self, name: str) -> Any:
        entry = ENTRIES[name]
        command = pkgutil.resolve_name("mlanet.cli." + ":".join(entry.place.split(".")))
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
