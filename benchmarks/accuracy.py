"""Errors on a held-out tenth against training-set size for l_max 1, 2, 3, all from the same budget.

One set of labelled structures is split 80/10/10 by seed; every l_max is trained on a quarter, a half and all of the
training part for the same number of steps, and judged on the test part, which nothing was chosen by. Rows go to a CSV
as they come, so an interrupted comparison goes on where it stopped.

    python benchmarks/accuracy.py si.extxyz --name si --steps 500 --output benchmarks/results
    python benchmarks/accuracy.py --demo --output out        (small EMT data made on the spot)
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from mlanet.checkpoint import load_model
from mlanet.config import parse
from mlanet.data.dataset import load_samples
from mlanet.data.read import read_frames
from mlanet.data.splits import random_split
from mlanet.graph import batch_graphs, batch_labels
from mlanet.inference import predict
from mlanet.metrics import Errors
from mlanet.profiling import worker
from mlanet.profiling.measurement import provenance
from mlanet.training.config import TrainConfig
from mlanet.training.trainer import train
from mlanet.units import EV_PER_CUBIC_ANGSTROM_IN_GPA

IRREPS = {1: "{c}x0e+{c}x1o", 2: "{c}x0e+{c}x1o+{c}x2e", 3: "{c}x0e+{c}x1o+{c}x2e+{c}x3o"}
KEY = ("name", "l_max", "fraction", "variant", "seed", "steps")


def main() -> None:
    """Run what is missing of the grid, then draw the learning curves."""
    options = _options()
    options.output.mkdir(parents=True, exist_ok=True)
    table = options.output / f"accuracy_{options.name}_{options.device}.csv"
    rows = list(csv.DictReader(table.open())) if table.exists() else []
    files = _split(options)
    for fraction in options.fractions:
        for l_max in options.l_max:
            key = _key(options, l_max, fraction)
            if any(all(str(row[name]) == str(value) for name, value in key.items()) for row in rows):
                continue
            rows.append(key | _one(options, files, l_max, fraction))
            with table.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[-1]))
                writer.writeheader()
                writer.writerows(rows)
            print({name: rows[-1][name] for name in rows[-1] if name not in ("commit", "hardware")}, flush=True)
    draw(rows, table.with_suffix(".png"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", help="labelled structures")
    parser.add_argument("--demo", action="store_true", help="make 40 small copper cells with EMT instead")
    parser.add_argument("--name", default="demo")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--structures", type=int, default=2, help="per batch")
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--cutoff", type=float, default=5.0)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--l-max", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.25, 0.5, 1.0])
    parser.add_argument("--model", nargs="*", default=[], help="further model keys, e.g. combine=sum")
    parser.add_argument("--run", nargs="*", default=[], help="further settings of the run, e.g. kernels=plain")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    if (options.file is None) != options.demo:
        parser.error("give a file, or --demo")
    return options


def _key(options: argparse.Namespace, l_max: int, fraction: float) -> dict[str, Any]:
    """What tells one row from another."""
    variant = " ".join([*options.model, *(f"run.{word}" for word in options.run)]) or "default"
    values = (options.name, l_max, fraction, variant, options.seed, options.steps)
    return dict(zip(KEY, values, strict=True))


def _split(options: argparse.Namespace) -> dict[str, Path]:
    """Train, valid and test parts as files beside the runs."""
    from ase.io import write

    folder = options.output / "runs" / options.name
    folder.mkdir(parents=True, exist_ok=True)
    frames = demo_frames() if options.demo else [frame.atoms for frame in read_frames(options.file)]
    parts = random_split(len(frames), [0.8, 0.1, 0.1], options.seed)
    files = {part: folder / f"{part}.extxyz" for part in ("train", "valid", "test")}
    for path, indices in zip(files.values(), parts, strict=True):
        write(path, [frames[index] for index in indices], format="extxyz")
    return files


def demo_frames() -> list[Any]:
    """Strained, rattled copper cells with EMT labels."""
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from ase.calculators.singlepoint import SinglePointCalculator

    frames = []
    for seed in range(40):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell * (0.96 + 0.002 * seed), scale_atoms=True)
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames


def _one(options: argparse.Namespace, files: dict[str, Path], l_max: int, fraction: float) -> dict[str, Any]:
    """Train one model and judge it on the test part."""
    folder = options.output / "runs" / options.name / f"l{l_max}_{fraction}_{time.time_ns()}"
    n_train = len(load_samples([files["train"]], options.cutoff, require=("energy",)))
    model = {"model": "mlanet", "irreps": IRREPS[l_max].format(c=options.channels), "layers": options.layers}
    model |= {"cutoff": options.cutoff, "heads": 4, "key_dim": 4, "hidden": options.channels}
    model |= _settings(options.model)
    settings = {
        "data": {
            "train": [str(files["train"])],
            "valid": [str(files["valid"])],
            "train_limit": max(1, round(fraction * n_train)),
            "require": ["energy"],
        },
        "model": model,
        "optimizer": {"lr": options.lr},
        "budget": {"steps": options.steps, "max_structures": options.structures, "validate_every": options.steps // 2},
        "run": {"folder": str(folder), "seed": options.seed, "device": options.device} | _settings(options.run),
    }
    start = time.perf_counter()
    result = train(parse(settings, TrainConfig, "accuracy"))
    seconds = time.perf_counter() - start
    potential = load_model(result.model)
    samples = load_samples([files["test"]], options.cutoff, require=("energy",))
    errors = Errors()
    for sample, prediction in zip(samples, predict(potential, (one.graph for one in samples)), strict=True):
        errors.add(prediction, batch_labels([sample.labels]), batch_graphs([sample.graph]))
    row: dict[str, Any] = {"n_train": settings["data"]["train_limit"], "n_test": len(samples)}
    row |= {"parameters": sum(one.numel() for one in potential.parameters()), "train_s": round(seconds, 1)}
    factors = {"energy": 1e3, "forces": 1e3, "stress": EV_PER_CUBIC_ANGSTROM_IN_GPA}
    units = {"energy": "meV_per_atom", "forces": "meV_per_A", "stress": "GPa"}
    for kind, values in (("mae", errors.mae()), ("rmse", errors.rmse())):
        row |= {f"{q}_{kind}_{units[q]}": round(values[q] * factors[q], 4) if q in values else "" for q in units}
    return row | machine()


def _settings(words: list[str]) -> dict[str, Any]:
    """KEY=VALUE as YAML has them."""
    return {key: yaml.safe_load(value) for key, value in (word.split("=") for word in words)}


def machine() -> dict[str, Any]:
    """Commit, hardware, date and versions of a row."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {"dtype": "float32", **worker.machine(device), **provenance()}


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Log-log learning curves, one panel per quantity, one line per l_max."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    titles = {
        "energy_mae_meV_per_atom": "energy MAE, meV/atom",
        "forces_mae_meV_per_A": "force MAE, meV/Å",
        "stress_mae_GPa": "stress MAE, GPa",
    }
    shown = {name: title for name, title in titles.items() if any(row[name] not in ("", None) for row in rows)}
    figure = Figure(figsize=(4 * len(shown), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, title) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True):
        for l_max in sorted({int(row["l_max"]) for row in rows}):
            mine = [row for row in rows if int(row["l_max"]) == l_max and row["variant"] == rows[0]["variant"]]
            points = sorted((int(row["n_train"]), float(row[name])) for row in mine)
            axes.loglog(*zip(*points, strict=True), "o-", label=f"l_max = {l_max}")
        axes.set_xlabel("training structures")
        axes.set_title(title)
        axes.grid(True, which="both", alpha=0.3)
    figure.axes[0].legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
