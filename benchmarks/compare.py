"""Errors of different models after the same training.

One set of labelled structures is split 80/10/10 by seed. Every model is trained on the first part for the same time (or
number of steps) by one loop: same batches, loss, schedule, averaging, one thread; and judged on the last part, which
nothing was chosen by. Times and memory of the same models: `mlanet profile compare`.

    python benchmarks/compare.py si.extxyz --name si --minutes 4 --models leignn mlanet_l1_small mlanet_l2_small painn
    python benchmarks/compare.py --demo --steps 3 --models leignn --output out
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path
from typing import Any

import torch
from accuracy import demo_frames, surroundings
from zoo import configuration, potential

from mlanet.data.dataset import load_samples
from mlanet.data.fit import fit_statistics
from mlanet.data.loader import Loader
from mlanet.data.read import read_frames
from mlanet.data.samples import Sample
from mlanet.data.splits import random_split
from mlanet.graph import batch_graphs, batch_labels
from mlanet.inference import predict
from mlanet.metrics import Errors
from mlanet.potential import Potential
from mlanet.training.config import LossConfig
from mlanet.training.loss import Residuals, loss
from mlanet.training.start import adopt
from mlanet.training.state import Averaged
from mlanet.units import EV_PER_CUBIC_ANGSTROM_IN_GPA

UNITS = {"energy": ("meV_per_atom", 1e3), "forces": ("meV_per_A", 1e3), "stress": ("GPa", EV_PER_CUBIC_ANGSTROM_IN_GPA)}


def main() -> None:
    """Run what is missing, append a row for each model."""
    options = _options()
    options.output.mkdir(parents=True, exist_ok=True)
    table = options.output / f"compare_{options.name}_cpu.csv"
    rows = list(csv.DictReader(table.open())) if table.exists() else []
    frames = demo_frames() if options.demo else [frame.atoms for frame in read_frames(options.file)]
    parts = random_split(len(frames), [0.8, 0.1, 0.1], options.split_seed)
    for name in options.models:
        if any(row["model"] == name and row["seed"] == str(options.seed) for row in rows):
            continue
        row = {"set": options.name, "model": name, "seed": options.seed, **one(name, frames, parts, options)}
        rows.append(row | surroundings())
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[-1]), extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        print({key: value for key, value in row.items()}, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", help="labelled structures")
    parser.add_argument("--demo", action="store_true", help="make 40 small copper cells with EMT instead")
    parser.add_argument("--name", default="demo")
    parser.add_argument(
        "--models", nargs="+", required=True, help="see zoo.py; `a>b` trains a, then b from its weights"
    )
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--steps", type=int, help="instead of minutes")
    parser.add_argument("--structures", type=int, default=2, help="per batch")
    parser.add_argument("--lr", type=float, default=2.5e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--split-seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    if (options.file is None) != options.demo:
        parser.error("give a file, or --demo")
    torch.set_num_threads(1)
    return options


def one(name: str, frames: list[Any], parts: list[list[int]], options: argparse.Namespace) -> dict[str, Any]:
    """Train (in stages, where the name has `>`) and judge one model."""
    from ase.io import write

    stages = [configuration(part) for part in name.split(">")]
    folder = options.output / "runs" / options.name
    folder.mkdir(parents=True, exist_ok=True)
    sets = []
    for part, indices in zip(("train", "test"), (parts[0], parts[2]), strict=True):
        write(folder / f"{part}.extxyz", [frames[index] for index in indices], format="extxyz")
        sets.append(load_samples([folder / f"{part}.extxyz"], stages[0].cutoff, require=("energy",)))
    training, test = sets
    statistics, _ = fit_statistics(training)
    torch.manual_seed(options.seed)
    trained: Potential | None = None
    steps, started = 0, time.perf_counter()
    for stage in stages:
        fresh = potential(stage, statistics)
        if trained is not None:
            adopt(fresh, trained)
        trained, done = fit(fresh, training, options, len(stages))
        steps += done
    assert trained is not None
    row: dict[str, Any] = {"train": len(training), "test": len(test), "steps": steps}
    row |= {"train_s": round(time.perf_counter() - started, 1)}
    row |= {"parameters": sum(parameter.numel() for parameter in trained.parameters())}
    errors = Errors()
    for sample, prediction in zip(test, predict(trained, [one.graph for one in test]), strict=True):
        errors.add(prediction, batch_labels([sample.labels]), batch_graphs([sample.graph]))
    for kind, values in (("mae", errors.mae()), ("rmse", errors.rmse())):
        row |= {f"{q}_{kind}_{u}": round(values[q] * f, 4) if q in values else "" for q, (u, f) in UNITS.items()}
    return row


def fit(model: Potential, training: list[Sample], options: argparse.Namespace, stages: int) -> tuple[Potential, int]:
    """One training: AdamW, cosine, 50 warm-up steps, clip 3, EMA 0.99, the energy five times heavier at the end."""
    model = model.float().train()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=options.lr, weight_decay=0.0, amsgrad=True)
    averaged = Averaged(model, 0.99)
    loader = Loader(training, max_edges=12_000, seed=options.seed, max_structures=options.structures)
    step, epoch, start = 0, 0, time.perf_counter()
    while True:
        for graph, labels in loader.batches(epoch, 0):
            fraction = (time.perf_counter() - start) / (60 * options.minutes / stages)
            if options.steps is not None:
                fraction = step / (options.steps / stages)
            if fraction >= 1:
                return averaged.potential, step
            for group in optimizer.param_groups:
                cosine = 1e-5 + 0.5 * (options.lr - 1e-5) * (1 + math.cos(math.pi * fraction))
                group["lr"] = cosine * min(1.0, (step + 1) / 50)
            labels = labels.to(dtype=torch.float32)
            residuals = Residuals(model(graph), labels, graph)
            optimizer.zero_grad(set_to_none=True)
            loss(residuals, residuals.counts(), LossConfig(), 5.0 if fraction > 0.8 else 1.0).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 3.0)
            optimizer.step()
            step += 1
            averaged.update(model, step)
        epoch += 1


if __name__ == "__main__":
    main()
