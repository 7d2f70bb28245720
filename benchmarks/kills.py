"""Kills at random instants of training, simulating and sweeping, and what is lost by them: nothing, it should be.

Each attempt is the real command in a process of its own, ended by SIGKILL after a random time and then started again,
with `--resume` where a checkpoint stands. In the end its files must be those of a run that was never disturbed.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import ase.io
import numpy as np
import torch
import yaml
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

import mlanet.calculator
import mlanet.dynamics.plots
import mlanet.dynamics.run
import mlanet.dynamics.summary
import mlanet.sweep.report
import mlanet.training.report
import mlanet.training.trainer  # all loaded once, here, and not in every fork
from mlanet.checkpoint import SIMULATION, STATE, load_model, load_state, save_model
from mlanet.cli.main import main
from mlanet.config import parse
from mlanet.errors import MLANetError
from mlanet.models import ModelConfig
from mlanet.ownership import LOCK
from mlanet.potential import Potential
from mlanet.statistics import Statistics
from mlanet.sweep.table import MEASURED

TINY = {"model": "mlanet", "irreps": "4x0e+4x1o", "layers": 1, "hidden": 4, "heads": 2, "key_dim": 2}
TINY |= {"radial_hidden": [4], "cutoff": 3.0}
CHECKPOINT = "checkpoint.safetensors"


@dataclass
class Tally:
    """What one kind of work came to."""

    work: str
    kills: int = 0
    finished: int = 0
    seconds: float = 0.0
    losses: list[str] = field(default_factory=list)
    torn: int = 0
    """Kills that left half a frame at the end of a trajectory, which going on cuts off."""


@dataclass(frozen=True)
class Work:
    """A command to be killed: its words in a folder, whether files there can be used, and whether the end is right."""

    name: str
    words: Callable[[Path], list[str]]
    inspect: Callable[[Path, Tally], int]
    compare: Callable[[Path, Path], list[str]]


def draw_nothing() -> None:
    """Leave out the pictures at the end of a run, which take more time than all the rest and keep no state."""
    mlanet.training.report.learning_curve = lambda *_: None
    mlanet.dynamics.plots.course = lambda *_: None


def kills(work: Work, wanted: int, folder: Path, chance: random.Random) -> Tally:
    """Start, kill and go on until so many kills have been made; every run is brought to its end."""
    tally, started = Tally(work.name), time.monotonic()
    whole = folder / "whole"
    assert _attempt(work.words(whole), None) == 0, (folder / "output.txt").read_text()
    span = time.monotonic() - started
    number = 0
    while tally.kills < wanted:
        number += 1
        place, step = folder / f"run{number}", 0
        while True:
            last = tally.kills >= wanted
            status = _attempt(work.words(place), None if last else chance.uniform(0, span), chance.random() < 0.5)
            if status == -signal.SIGKILL:
                tally.kills += 1
                step = _look(work, place, tally, step)
                continue
            if status:
                said = (folder / "output.txt").read_text().strip().splitlines()
                tally.losses.append(f"{place}: cannot go on: {said[-1] if said else status}")
            else:
                tally.finished += 1
                tally.losses += [f"{place}: {one}" for one in work.compare(whole, place)]
            break
        if not tally.losses:
            shutil.rmtree(place, ignore_errors=True)
    tally.seconds = time.monotonic() - started
    return tally


def _look(work: Work, place: Path, tally: Tally, step: int) -> int:
    """Whether everything in the folder can be read, and no earlier checkpoint than before stands there."""
    try:
        now = work.inspect(place, tally)
    except (MLANetError, OSError, ValueError, KeyError) as error:
        tally.losses.append(f"{place}: after kill {tally.kills}: {type(error).__name__}: {error}")
        return step
    if now < step:
        tally.losses.append(f"{place}: after kill {tally.kills}: checkpoint of step {now}, there was one of {step}")
    return now


def _attempt(words: list[str], seconds: float | None, with_children: bool = False) -> int:
    """Exit status of a command in a fork; negative: killed. Children are those that a sweep has started."""
    child = os.fork()
    if child == 0:
        with open(Path(words[-1]).parent / "output.txt", "w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        status = 99
        try:
            status = main(words)
        finally:
            sys.stdout.flush()
            os._exit(status)
    if seconds is not None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        children = Path(f"/proc/{child}/task/{child}/children").read_text().split() if with_children else []
        os.kill(child, signal.SIGKILL)
        for one in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(one), signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def trainings(folder: Path) -> Work:
    """20 steps with 5 validations and a checkpoint after every second step."""
    config = {"data": {"train": [str(_labelled(folder))], "valid_fraction": 0.25}, "model": TINY}
    config |= {"budget": {"steps": 20, "validate_every": 4, "max_structures": 2}}

    def words(place: Path) -> list[str]:
        settings = folder / f"{place.name}.yaml"
        run = {"folder": str(place), "device": "cpu", "checkpoint_every": 2}
        settings.write_text(yaml.safe_dump(config | {"run": run}))
        return ["train", *(["--resume"] if (place / CHECKPOINT).exists() else []), "--json", str(settings)]

    def inspect(place: Path, _: Tally) -> int:
        if (place / "model.safetensors").exists():
            load_model(place / "model.safetensors")
        if (place / "log.jsonl").exists():
            for line in (place / "log.jsonl").read_text().split("\n")[:-1]:
                json.loads(line)
        return int(load_state(place / CHECKPOINT)[1]["progress"]["step"]) if (place / CHECKPOINT).exists() else 0

    def compare(whole: Path, place: Path) -> list[str]:
        apart = _different(load_state(whole / CHECKPOINT, STATE)[0], load_state(place / CHECKPOINT, STATE)[0])
        models = (load_model(one / "model.safetensors").state_dict() for one in (whole, place))
        return [*apart, *_different(*models), *_rows(whole, place, "metrics.csv", {"minutes"}), *_leftovers(place)]

    return Work("training", words, inspect, compare)


def simulations(folder: Path) -> Work:
    """60 steps of eight atoms with a frame after each and a checkpoint after every third."""
    torch.manual_seed(0)
    model = folder / "model.safetensors"
    save_model(Potential.build(parse(TINY, ModelConfig, "soak"), Statistics.unit((14,), 8.0)), model)
    ase.io.write(folder / "si.extxyz", bulk("Si", cubic=True))

    def words(place: Path) -> list[str]:
        fixed = ["md", str(folder / "si.extxyz"), "-m", str(model), "--steps", "60", "--every", "1"]
        fixed += ["--timestep", "0.2", "--checkpoint-every", "3", "--kernels", "plain", "--json"]
        return [*fixed, *(["--resume"] if (place / CHECKPOINT).exists() else []), "--output", str(place)]

    def inspect(place: Path, tally: Tally) -> int:
        if not (place / CHECKPOINT).exists():
            return 0
        document = load_state(place / CHECKPOINT, SIMULATION)[1]
        for name, size in document["sizes"].items():
            if (place / name).stat().st_size < size:
                raise ValueError(f"{name} is shorter than its checkpoint says")
        trajectory = place / "trajectory.extxyz"
        lines = trajectory.read_text().split("\n") if trajectory.exists() else [""]
        tally.torn += (len(lines) - 1) % 10 != 0 or lines[-1] != ""
        return int(document["step"])

    def compare(whole: Path, place: Path) -> list[str]:
        names = ("trajectory.extxyz", "log.csv")
        apart = [f"another {name}" for name in names if (whole / name).read_bytes() != (place / name).read_bytes()]
        return [*apart, *_leftovers(place)]

    return Work("simulating", words, inspect, compare)


def sweeps(folder: Path) -> Work:
    """Two sizes of one preset, six steps each, in processes of their own; these are killed too, or not."""
    preset = folder / "tiny.yaml"
    preset.write_text(yaml.safe_dump(TINY))
    data = str(_labelled(folder))

    def words(place: Path) -> list[str]:
        fixed = ["sweep", data, "--presets", str(preset), "--sizes", "4,8", "--seeds", "1", "--steps", "6"]
        fixed += ["--set", "budget.max_structures=2", "--set", "run.threads=1", "--set", "run.device=cpu"]
        return [*fixed, "--json", "--output", str(place)]

    def inspect(place: Path, _: Tally) -> int:
        for name in ("sweep.yaml", "table.json"):
            if (place / name).exists():
                yaml.safe_load((place / name).read_text())
        points = list(place.glob("points/*"))
        for point in points:
            for state in point.glob(f"*/{CHECKPOINT}"):
                load_state(state)
        return sum((point / "result.json").exists() for point in points)

    def compare(whole: Path, place: Path) -> list[str]:
        return [*_rows(whole, place, "table.csv", set(MEASURED)), *_leftovers(place)]

    return Work("sweeping", words, inspect, compare)


def _labelled(folder: Path) -> Path:
    """Copper of four atoms, labelled by effective-medium theory."""
    path, generator, frames = folder / "copper.extxyz", np.random.default_rng(0), []
    for _ in range(20):
        atoms = bulk("Cu", cubic=True)
        atoms.positions += 0.1 * generator.normal(size=(4, 3))
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    ase.io.write(path, frames)
    return path


def _different(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    """Tensors that are not the same to the last bit."""
    if one.keys() != other.keys():
        return ["other tensors"]
    names = [name for name in one if not torch.equal(one[name], other[name])]
    return [f"{len(names)} of {len(one)} tensors differ, first {names[0]}"] if names else []


def _rows(whole: Path, place: Path, name: str, clocks: set[str]) -> list[str]:
    """Whether two tables agree but for the columns of clocks and memory."""
    tables = [
        [{key: value for key, value in row.items() if key not in clocks} for row in csv.DictReader((one / name).open())]
        for one in (whole, place)
    ]
    return [] if tables[0] == tables[1] else [f"another {name}"]


def _leftovers(place: Path) -> list[str]:
    """Partial files and locks that nobody will clean up."""
    left = [one for one in place.iterdir() if ".partial" in one.name or one.name == LOCK]
    return [f"{one.name} is left" for one in left]
