"""Errors of different models, ours and other packages', after the same training.

One set of labelled structures is split 80/10/10 by seed. Every model is trained on the first part for the same time (or
number of steps) by one loop: same batches, loss, schedule, averaging, one thread; and judged on the last part, which
nothing was chosen by. Of several learning rates each model gets the one with the lowest loss on the middle part after a
short trial. Time is that of the processor, so other jobs on the machine take nothing away; it starts after three
untimed steps, in which packages compile themselves. Our models compute with their fused kernels where they have them;
peers run in the environments that `environments.py` makes. Times and memory: `mlanet profile compare`.

    python benchmarks/compare.py si.extxyz --name si --minutes 4 --rates 0.0025 0.01 \\
        --models leignn mlanet_l2:layers=2 mace:l_max=1 nequip:l_max=2
    python benchmarks/compare.py --demo --steps 3 --models leignn --output out
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accuracy.data import demo_frames
from trainable import PeerConfig
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
from mlanet.profiling import worker
from mlanet.profiling.measurement import provenance
from mlanet.training.config import LossConfig
from mlanet.training.loss import Residuals, loss
from mlanet.training.start import adopt
from mlanet.units import EV_PER_CUBIC_ANGSTROM_IN_GPA

UNITS = {"energy": ("meV_per_atom", 1e3), "forces": ("meV_per_A", 1e3), "stress": ("GPa", EV_PER_CUBIC_ANGSTROM_IN_GPA)}

CLIP = {"mace": 10.0}
"""Norm at which gradients are cut where a package's own default is another than 3."""

UNTIMED = 3
"""Steps before the clock starts, which change no weight."""


@dataclass(frozen=True)
class Budget:
    """Seconds of the processor, or steps."""

    seconds: float
    steps: int | None = None

    def done(self, seconds: float, step: int) -> float:
        """The fraction of it that is used up."""
        return seconds / self.seconds if self.steps is None else step / self.steps

    def __str__(self) -> str:
        return f"{self.seconds:g} s" if self.steps is None else f"{self.steps} steps"


@dataclass(frozen=True)
class Trained:
    """A potential with averaged weights, and what it cost."""

    potential: Any
    steps: int
    seconds: float


def main() -> None:
    """Run what is missing, append a row for each model."""
    options = _options()
    options.output.mkdir(parents=True, exist_ok=True)
    table = options.output / f"compare_{options.name}_cpu.csv"
    frames = demo_frames() if options.demo else [frame.atoms for frame in read_frames(options.file)]
    parts = random_split(len(frames), [0.8, 0.1, 0.1], options.split_seed)
    for name in options.models:
        rows = list(csv.DictReader(table.open())) if table.exists() else []
        key = {"set": options.name, "model": name, "seed": str(options.seed), "budget": str(options.budget)}
        if any(all(row[word] == value for word, value in key.items()) for row in rows):
            continue
        stages = [configuration(part) for part in name.split(">")]
        if home := next((stage.home for stage in stages if isinstance(stage, PeerConfig) and stage.home), None):
            _elsewhere(home, name)
            continue
        rows.append(key | one(stages, frames, parts, options) | machine())
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[-1]), extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        print(rows[-1], flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", help="labelled structures")
    parser.add_argument("--demo", action="store_true", help="make 40 small copper cells with EMT instead")
    parser.add_argument("--name", default="demo")
    parser.add_argument(
        "--models", nargs="+", required=True, help="see zoo.py; `a>b` trains a, then b from its weights"
    )
    parser.add_argument("--minutes", type=float, default=4.0, help="of the processor")
    parser.add_argument("--steps", type=int, help="instead of minutes")
    parser.add_argument("--structures", type=int, default=2, help="per batch")
    parser.add_argument("--rates", type=float, nargs="+", default=[2.5e-3], help="learning rates to choose from")
    parser.add_argument("--trial", type=float, default=40.0, help="seconds for each of several rates")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--split-seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    if (options.file is None) != options.demo:
        parser.error("give a file, or --demo")
    options.budget = Budget(60 * options.minutes, options.steps)
    torch.set_num_threads(1)
    return options


def _elsewhere(python: Path, name: str) -> None:
    """The same for one model in its own environment; of two `--models` the last one counts.

    The constants of MACE's e3nn 0.4.4 hold a slice, which torch would refuse to load.
    """
    root = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    here = os.environ | {"PYTHONPATH": path, "PYTHONWARNINGS": "ignore", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    subprocess.run([str(python), __file__, *sys.argv[1:], "--models", name], check=True, env=here)


def one(stages: list[Any], frames: list[Any], parts: list[list[int]], options: argparse.Namespace) -> dict[str, Any]:
    """Choose the rate of one model, train it (in stages, where its name has `>`) and judge it."""
    from ase.io import write

    folder = options.output / "runs" / options.name
    folder.mkdir(parents=True, exist_ok=True)
    sets = []
    for part, indices in zip(("train", "valid", "test"), parts, strict=True):
        write(folder / f"{part}.extxyz", [frames[index] for index in indices], format="extxyz")
        sets.append(load_samples([folder / f"{part}.extxyz"], stages[0].cutoff, require=("energy",)))
    training, validation, test = sets
    rate, trials = options.rates[0], {}
    if len(options.rates) > 1:
        for tried in options.rates:
            trained = train(stages, training, tried, Budget(options.trial), options)
            trials[tried] = validation_loss(trained.potential, validation)
        rate = min(trials, key=lambda tried: trials[tried])
    trained = train(stages, training, rate, options.budget, options)
    row: dict[str, Any] = {"train": len(training), "test": len(test), "structures": options.structures, "lr": rate}
    row |= {"trials": " ".join(f"{tried:g}:{value:.4f}" for tried, value in trials.items())}
    row |= {"steps": trained.steps, "cpu_s": round(trained.seconds, 1)}
    row |= {"parameters": sum(parameter.numel() for parameter in trained.potential.parameters())}
    errors = Errors()
    for sample, prediction in zip(test, predict(trained.potential, [one.graph for one in test]), strict=True):
        errors.add(prediction, batch_labels([sample.labels]), batch_graphs([sample.graph]))
    for kind, values in (("mae", errors.mae()), ("rmse", errors.rmse())):
        row |= {f"{q}_{kind}_{u}": round(values[q] * f, 4) if q in values else "" for q, (u, f) in UNITS.items()}
    return row


def train(
    stages: list[Any], training: list[Sample], rate: float, budget: Budget, options: argparse.Namespace
) -> Trained:
    """The stages one after the other, with an equal share of the budget each."""
    statistics, _ = fit_statistics(training)
    torch.manual_seed(options.seed)
    share = Budget(budget.seconds / len(stages), budget.steps and budget.steps // len(stages))
    best, steps, seconds = None, 0, 0.0
    for stage in stages:
        fresh = potential(stage, statistics)
        if best is not None:
            adopt(fresh, best.potential)
        loader = Loader(training, max_edges=12_000, seed=options.seed, max_structures=options.structures)
        best = fit(fresh, loader, rate, share, CLIP.get(getattr(stage, "name", ""), 3.0))
        steps, seconds = steps + best.steps, seconds + best.seconds
    assert best is not None
    return Trained(best.potential, steps, seconds)


def fit(model: Any, loader: Loader, rate: float, budget: Budget, clip: float) -> Trained:
    """One training: AdamW, cosine, EMA 0.99, the energy five times heavier in the last fifth.

    The rate rises over the first 50 steps, or over the first tenth of the budget if that is over earlier.
    """
    model.train()
    parameters = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0, amsgrad=True)
    average = [one.detach().clone() for one in parameters]
    for graph, labels in list(loader.batches(0, 0))[:UNTIMED]:
        objective(model, graph, labels, 1.0).backward()
    step, epoch, start = 0, 0, time.process_time()
    while True:
        for graph, labels in loader.batches(epoch, 0):
            spent = time.process_time() - start
            if (fraction := budget.done(spent, step)) >= 1:
                with torch.no_grad():
                    torch._foreach_copy_(parameters, average)
                return Trained(model, step, spent)
            cosine = 1e-5 + 0.5 * (rate - 1e-5) * (1 + math.cos(math.pi * fraction))
            optimizer.param_groups[0]["lr"] = cosine * min(1.0, max((step + 1) / 50, fraction / 0.1))
            optimizer.zero_grad(set_to_none=True)
            objective(model, graph, labels, 5.0 if fraction > 0.8 else 1.0).backward()
            torch.nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
            step += 1
            with torch.no_grad():
                torch._foreach_lerp_(average, parameters, 1 - min(0.99, (1 + step) / (10 + step)))
        epoch += 1


def objective(model: Any, graph: Any, labels: Any, energy_factor: float) -> torch.Tensor:
    """The loss of a batch."""
    residuals = Residuals(model(graph), labels.to(dtype=torch.float32), graph)
    return loss(residuals, residuals.counts(), LossConfig(), energy_factor)


def machine() -> dict[str, Any]:
    """Commit, hardware, date and versions of a row."""
    return {"dtype": "float32", **worker.machine(torch.device("cpu")), **provenance()}


def validation_loss(model: Any, samples: list[Sample]) -> float:
    """Mean loss of structures, at the weights at the end of a training."""
    losses = []
    for sample, prediction in zip(samples, predict(model, [one.graph for one in samples]), strict=True):
        residuals = Residuals(prediction, sample.labels, sample.graph)
        losses.append(float(loss(residuals, residuals.counts(), LossConfig())))
    return sum(losses) / len(losses)


if __name__ == "__main__":
    main()
