"""Does choosing what to label pay? `mlanet select` against chance, round by round, on data whose labels are known.

    python benchmarks/active_learning.py lips.extxyz --work out/lips --first 50 --add 50 --rounds 5 --seeds 3

A fifth of the set is the test. From the rest, some structures are labelled at random. Each round trains a small model
from scratch, or with `--start universal` fine-tunes one; has it choose from what is left, or draws at random; and adds
the labels. Trainings take the same number of steps. Rows go to WORK/rounds.jsonl; what is there already is not trained
again. WORK/rounds.csv has means and standard errors over the seeds, WORK/rounds.png the same as a picture.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import ase.io
import numpy as np
import torch
import typer
from ase import Atoms

from mlanet.checkpoint import load_model
from mlanet.config import parse
from mlanet.data.dataset import load_samples
from mlanet.data.read import read_frames
from mlanet.distill.finetune import DEFAULTS
from mlanet.files import write_whole
from mlanet.plots import new_figure, save, style
from mlanet.training.config import TrainConfig
from mlanet.training.processes import Processes
from mlanet.training.trainer import evaluate, train
from mlanet.workflows.select import select_files


class Training(NamedTuple):
    """What every training is: of so many steps, of a new model with so many channels or from an old one."""

    steps: int
    channels: int
    start: str | None

    def keys(self) -> dict[str, Any]:
        """Of `mlanet train`."""
        budget = {"steps": self.steps, "max_structures": 4, "validate_every": self.steps // 5}
        if self.start is not None:
            return DEFAULTS | {"start_from": self.start, "budget": budget}
        irreps = f"{self.channels}x0e+{self.channels}x1o"
        model = {"model": "mlanet", "irreps": irreps, "layers": 2, "hidden": self.channels}
        return {"model": model, "optimizer": {"lr": 5e-3, "ema": 0.98}, "budget": budget}


def main(
    data: Annotated[Path, typer.Argument(help="Labelled set.")],
    work: Annotated[Path, typer.Option("--work", help="Folder for models and rows.")],
    first: Annotated[int, typer.Option("--first", help="Labels to begin with.")] = 50,
    add: Annotated[int, typer.Option("--add", help="Labels of a round.")] = 50,
    rounds: Annotated[int, typer.Option("--rounds", help="After the first training.")] = 5,
    seeds: Annotated[int, typer.Option("--seeds", help="Repetitions.")] = 3,
    steps: Annotated[int, typer.Option("--steps", help="Of each training.")] = 500,
    channels: Annotated[int, typer.Option("--channels", help="Of the model, l_max 1, two layers.")] = 16,
    start: Annotated[str | None, typer.Option("--start", help="Fine-tune this model in place of a new one.")] = None,
) -> None:
    """Both ways, from the same first labels."""
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    frames = [frame.atoms for frame in read_frames(data)]
    order = np.random.default_rng(0).permutation(len(frames))
    held = len(frames) // 5
    test = work / "test.extxyz"
    ase.io.write(test, [frames[index] for index in order[:held]])
    pool = [int(index) for index in order[held:]]
    rows = work / "rounds.jsonl"
    known = [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []
    for seed in range(1, seeds + 1):
        for way in ("random", "select"):
            mine = [row for row in known if row["seed"] == seed and row["way"] == way]
            _rounds(
                frames,
                pool,
                test,
                work / f"{way}-{seed}",
                way,
                seed,
                (first, add, rounds),
                Training(steps, channels, start),
                mine,
            )
            _summarized([json.loads(line) for line in rows.read_text().splitlines()], work)


def _rounds(
    frames: list[Atoms],
    pool: list[int],
    test: Path,
    folder: Path,
    way: str,
    seed: int,
    counts: tuple[int, int, int],
    training: Training,
    done: list[dict[str, Any]],
) -> None:
    """One repetition: train, measure, add."""
    first, add, rounds = counts
    rng = np.random.default_rng(seed)
    labelled = [int(index) for index in rng.permutation(pool)[:first]]
    for turn in range(rounds + 1):
        if turn < len(done):
            row = done[turn]
        else:
            row = {"way": way, "seed": seed, "round": turn, "labels": len(labelled)}
            row |= _trained(frames, labelled, test, folder / f"{turn}", seed, training)
            row["next"] = _next(frames, pool, labelled, folder / f"{turn}", way, add, rng)
            with open(folder.parent / "rounds.jsonl", "a") as lines:
                lines.write(json.dumps(row) + "\n")
            print(f"{way:7} seed {seed} {row['labels']:4} labels: forces {1e3 * row['forces']:.1f} meV/Å", flush=True)
        labelled += row["next"]


def _trained(
    frames: list[Atoms], labelled: list[int], test: Path, folder: Path, seed: int, training: Training
) -> dict[str, float]:
    """A model of these labels, a tenth of them for validation and calibration; its errors on the test."""
    folder.mkdir(parents=True, exist_ok=True)
    cut = max(5, len(labelled) // 10)
    parts = {"valid": labelled[:cut], "train": labelled[cut:]}
    for name, indices in parts.items():
        ase.io.write(folder / f"{name}.extxyz", [frames[index] for index in indices])
    settings = training.keys() | {
        "data": {name: [str(folder / f"{name}.extxyz")] for name in parts},
        "run": {"folder": str(folder), "seed": seed},
    }
    train(parse(settings, TrainConfig, "benchmark"), progress=False)
    potential = load_model(folder / "model.safetensors")
    errors = evaluate(potential, load_samples([test], potential.cutoff), 12_000, Processes("cpu")).mae()
    return {name: errors[name] for name in ("energy", "forces") if name in errors}


def _next(
    frames: list[Atoms],
    pool: list[int],
    labelled: list[int],
    folder: Path,
    way: str,
    add: int,
    rng: np.random.Generator,
) -> list[int]:
    """What to label in this round."""
    left = [index for index in pool if index not in set(labelled)]
    if way == "random":
        return [int(index) for index in rng.permutation(left)[:add]]
    place = folder / "pool.extxyz"
    ase.io.write(place, [_bare(frames[index]) for index in left])
    potential = load_model(folder / "model.safetensors").eval()
    chosen = select_files(potential, [place], folder / "chosen.extxyz", add, tell=lambda text: None)
    return [left[int(one.where.rpartition("frame ")[2])] for one in chosen]


def _summarized(rows: Sequence[dict[str, Any]], work: Path) -> None:
    """Means over seeds as a table and a picture, and how many labels make up for chance."""
    table = []
    for way, labels in sorted({(row["way"], row["labels"]) for row in rows}):
        errors = [1e3 * row["forces"] for row in rows if (row["way"], row["labels"]) == (way, labels)]
        spread = float(np.std(errors, ddof=1) / np.sqrt(len(errors))) if len(errors) > 1 else float("nan")
        names = ("way", "labels", "seeds", "forces_mae_meV_per_A", "standard_error")
        table.append(dict(zip(names, (way, labels, len(errors), float(np.mean(errors)), spread), strict=True)))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]))
    writer.writeheader()
    writer.writerows(table)
    write_whole(work / "rounds.csv", text.getvalue().encode())
    figure = new_figure(5.2, 3.6)
    axes = figure.add_subplot()
    for way in ("random", "select"):
        mine = [row for row in table if row["way"] == way]
        x, y, error = ([row[name] for row in mine] for name in ("labels", "forces_mae_meV_per_A", "standard_error"))
        axes.errorbar(x, y, yerr=np.nan_to_num(error), marker="o", markersize=4, capsize=2, label=way)
    axes.set(xlabel="labels", ylabel="force error, meV/Å")
    axes.legend(frameon=False)
    style(axes)
    save(figure, work / "rounds.png")
    if needed := _labels_for(table):
        print(f"random reaches {needed[0]:.1f} meV/Å with {needed[1]} labels; select with {needed[2]:.0f}", flush=True)


def _labels_for(table: Sequence[dict[str, Any]]) -> tuple[float, int, float] | None:
    """The error of random selection with all its labels, their number, and how many selected ones reach it."""
    random, chosen = ([row for row in table if row["way"] == way] for way in ("random", "select"))
    if not random or not chosen:
        return None
    goal, name = random[-1]["forces_mae_meV_per_A"], "forces_mae_meV_per_A"
    before = None
    for row in chosen:
        if row[name] <= goal:
            if before is None:
                return goal, random[-1]["labels"], float(row["labels"])
            part = (before[name] - goal) / (before[name] - row[name])
            return goal, random[-1]["labels"], before["labels"] + part * (row["labels"] - before["labels"])
        before = row
    return goal, random[-1]["labels"], float("inf")


def _bare(atoms: Atoms) -> Atoms:
    """Without labels."""
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell.array, pbc=atoms.pbc)


if __name__ == "__main__":
    typer.run(main)
