"""What a benchmark is, read from one strict YAML, and the trainings that it asks for."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import yaml

from mlanet.config import parse, preset_path, read_yaml, to_data
from mlanet.errors import ConfigError
from mlanet.models import ModelConfig, read_model_config
from mlanet.training.config import TrainConfig

SETS = Path(__file__).parent / "sets"
DATA_FOLDER = "MLANET_BENCHMARK_DATA"
"""The environment variable with the folder that `data.files` stand in."""

Count = Annotated[int, msgspec.Meta(ge=1)]
Row = dict[str, Any]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Frozen, keyword-only, and no unknown key."""


class Data(_Strict, frozen=True, kw_only=True):
    """Where the labelled structures come from, and which of them are for judging."""

    files: tuple[str, ...] = ()
    """Below $MLANET_BENCHMARK_DATA; none: small cells of copper with EMT, made on the spot."""
    source: str
    """What it is, and how to get it."""
    licence: str
    """Of the data."""
    test: tuple[str, ...] = ()
    """Files of the test part; without any, `test_fraction` of `files` is held out."""
    test_fraction: float = 0.1
    """Held out by a random split."""
    test_limit: Count | None = None
    """So many of the test part are judged, the first ones of a random order."""
    seed: int = 0
    """Of the split, the same for all seeds of trainings."""


class Published(_Strict, frozen=True, kw_only=True):
    """A figure of others, mean absolute or root mean square errors."""

    model: str
    source: str
    train: int
    """Structures it was trained on."""
    kind: Literal["mae", "rmse"]
    energy: float | None = None
    """meV/atom."""
    forces: float | None = None
    """meV/Å."""
    stress: float | None = None
    """GPa."""


class EqualTime(_Strict, frozen=True, kw_only=True):
    """Variants that are trained again, for as many steps as fit into the time of another."""

    like: dict[str, str]
    """Values of the other that a variant has not; all else is the same, the optimiser say."""
    of: tuple[dict[str, str], ...]


class Benchmark(_Strict, frozen=True, kw_only=True):
    """One set of data, one budget, one preset and a grid of switches."""

    name: str
    title: str
    data: Data
    preset: str
    model: dict[str, Any] = {}
    """Keys that are changed in every variant."""
    train: dict[str, Any] = {}
    """Further sections of a training: loss, optimizer, schedule, references."""
    structures: Count
    """Of a batch."""
    steps: Count
    """Of every training; the learning rate has come down at the last one."""
    processor_seconds: float
    """What a training of this budget is meant to take of one core; one that has taken four times as much is stopped."""
    judgements: Count = 10
    """Looks at the test part, evenly over the steps, without their time being counted."""
    switches: dict[str, tuple[str, ...]]
    """Keys of the model with the values that are compared; every combination is trained. One with a dot is a key of the
    training's sections, `optimizer.kind` say."""
    leave_out: tuple[dict[str, str], ...] = ()
    """Combinations that are not trained."""
    also: tuple[dict[str, str], ...] = ()
    """Variants beside the grid, each with all its switches."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of weights and of the order of batches."""
    equal_time: EqualTime | None = None
    metric: str = "forces_mae_meV_per_A"
    """What variants are compared by."""
    published: tuple[Published, ...] = ()


class Training(NamedTuple):
    """One training: a variant, a seed, a number of steps and where that comes from."""

    benchmark: Benchmark
    variant: tuple[tuple[str, str], ...]
    seed: int
    steps: int
    budget: str

    @property
    def key(self) -> Row:
        """What tells its row from others."""
        words = ",".join(f"{key}={value}" for key, value in self.variant)
        row = {"set": self.benchmark.name, "variant": words, "budget": self.budget, "seed": self.seed}
        return row | {"settings": self.digest}

    @property
    def name(self) -> str:
        """Of its folder; with the digest, so that a changed benchmark starts anew."""
        words = "-".join(value for _, value in self.variant)
        return f"{self.benchmark.name}-{words}-{self.budget}-s{self.seed}-{self.digest}"

    @property
    def digest(self) -> str:
        """Of what the benchmark says, but for the seed, and for the number of steps of an equal time."""
        one = self.benchmark
        model = dict(read_yaml(preset_path(one.preset))) | one.model | dict(self.variant)
        said = [to_data(one.data), model, one.train, one.structures, one.judgements]
        text = json.dumps([*said, self.steps if self.budget == "steps" else "time"], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def settings(self, data: Path, folder: Path) -> dict[str, Any]:
        """Of the training; `data`: folder of the parts. The test part is only looked at: nothing is chosen by it."""
        one = self.benchmark
        of_model = {key: yaml.safe_load(value) for key, value in self.variant if "." not in key}
        changed = to_data(read_model_config(one.preset)) | one.model | of_model
        model = to_data(parse(changed, ModelConfig, f"{one.name}: {self.variant}"))
        sections = dict(one.train)
        for key, value in self.variant:
            if "." in key:
                section, word = key.split(".", 1)
                sections[section] = {**sections.get(section, {}), word: yaml.safe_load(value)}
        return {
            **sections,
            "data": {
                "train": [str(data / "train.extxyz")],
                "valid": [str(data / "test.extxyz")],
                "require": ["energy"],
            },
            "model": model,
            "budget": {
                "steps": self.steps,
                "max_structures": one.structures,
                "max_edges": 20_000,
                "validate_every": -(-self.steps // one.judgements),
            },
            "run": {"folder": str(folder), "seed": self.seed, "device": "cpu", "limits": False, "checkpoint_every": 50},
        }

    def train_config(self, data: Path, folder: Path) -> TrainConfig:
        """The same, checked."""
        settings = json.loads(json.dumps(self.settings(data, folder)))
        return parse(settings, TrainConfig, self.name)


def read(names: Sequence[str]) -> list[Benchmark]:
    """Benchmarks by name, or YAML files; all that come along but the demonstration if none is named.

    Raises:
        ConfigError: there is none of the name, or a file cannot be understood.
    """
    known = {path.stem: path for path in sorted(SETS.glob("*.yaml"))}
    found = []
    for name in names or [one for one in known if one != "demo"]:
        path = known.get(name, Path(name))
        if not path.exists():
            raise ConfigError(f"there is no benchmark '{name}'; known are {', '.join(known)}, or give a YAML file")
        one = parse(read_yaml(path), Benchmark, str(path))
        for training in trainings(one):
            training.train_config(Path("data"), Path("run"))
        found.append(one)
    return found


def trainings(one: Benchmark) -> list[Training]:
    """All of the same number of steps: seed by seed, so that an interrupted grid has all variants."""
    variants = [tuple(zip(one.switches, values, strict=True)) for values in itertools.product(*one.switches.values())]
    chosen = [variant for variant in variants if not any(fits(variant, words) for words in one.leave_out)]
    chosen += [tuple(words.items()) for words in one.also]
    return [Training(one, variant, seed, one.steps, "steps") for seed in one.seeds for variant in chosen]


def named(one: Benchmark, name: str, steps: int) -> Training:
    """The training of this name and so many steps."""
    for training in trainings(one):
        for budget in ("steps", "time"):
            renamed = training._replace(steps=steps, budget=budget)
            if renamed.name == name:
                return renamed
    raise ConfigError(f"{one.name}: has no training '{name}'")


def fits(variant: Iterable[tuple[str, str]], words: dict[str, str]) -> bool:
    """Whether a variant has all these values."""
    return words.items() <= dict(variant).items()


def of_equal_time(one: Benchmark, rows: Sequence[Row]) -> list[Training]:
    """Trainings that shall take the time of another variant, as soon as both have been trained for equal steps."""
    if one.equal_time is None:
        return []
    first = trainings(one)
    pairs = [(training, row_of(training, rows)) for training in first]
    seconds: dict[tuple[tuple[str, str], ...], list[float]] = {}
    for training, row in pairs:
        if row is not None and row["status"] == "done":
            seconds.setdefault(training.variant, []).append(row["processor_s"])
    wanted = {each.variant: None for each in first if any(fits(each.variant, words) for words in one.equal_time.of)}
    later = []
    for variant in wanted:
        like = dict(variant) | one.equal_time.like
        aim = next((times for other, times in seconds.items() if dict(other) == like), [])
        if min(len(aim), len(seconds.get(variant, []))) == len(one.seeds):
            steps = round(one.steps * statistics.mean(aim) / statistics.mean(seconds[variant]))
            later += [Training(one, variant, seed, steps, "time") for seed in one.seeds]
    return later


def row_of(training: Training, rows: Sequence[Row]) -> Row | None:
    """The row of a training, if it has been done."""
    key = training.key
    return next((row for row in rows if key.items() <= row.items()), None)


def data_files(one: Benchmark, names: Sequence[str]) -> tuple[str, ...]:
    """Files of the data.

    Raises:
        ConfigError: the variable is not set, or a file is not there; says how to get it.
    """
    folder = os.environ.get(DATA_FOLDER)
    if folder is None:
        raise ConfigError(f"{one.name}: set {DATA_FOLDER} to the folder with {', '.join(names)}. {one.data.source}")
    paths = [Path(folder) / name for name in names]
    if missing := [str(path) for path in paths if not path.exists()]:
        raise ConfigError(f"{one.name}: {', '.join(missing)}: not there. {one.data.source}")
    return tuple(map(str, paths))
