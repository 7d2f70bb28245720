"""How far forecasts of peak memory are from what is then counted, and whether batches made by them ever exceed a limit.

`laws`: random configurations (model, l_max, channels, layers, heads, message, precision, mode) on crystals 3 to 15
times larger, denser and sparser than those that the forecast was measured on. `batches`: random structures, models and
limits; every batch that `Loader` or `predict` makes is computed and its peak compared with the limit. Tensors alive at
once are counted, which no device changes; on CUDA what the allocator hands out.

    python benchmarks/forecast.py --count 40 --runs 100 --output benchmarks/results
"""

from __future__ import annotations

import argparse
import csv
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from mlanet.data.atoms import to_graph
from mlanet.data.loader import Loader
from mlanet.data.samples import Sample
from mlanet.execution import Execution
from mlanet.forecast import MARGIN, Forecast, MemoryLimit, peak
from mlanet.graph import AtomicGraph, Labels, batch_graphs
from mlanet.potential import Potential
from mlanet.profiling.measurement import provenance
from mlanet.profiling.ours import own
from mlanet.profiling.subject import Request

SPECIES = (3, 8, 27)


def main() -> None:
    """Both tables and their summaries."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40, help="configurations")
    parser.add_argument("--runs", type=int, default=100, help="sets of batches")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    kind = torch.device(options.device).type
    rng = random.Random(options.seed)
    rows = []
    for number in range(options.count):
        rows.append({"number": number, **law(rng, options.device), **provenance()})
        print(rows[-1], flush=True)
        write(options.output / f"forecast_{kind}.csv", rows)
    if rows:
        errors = np.abs([row["error"] for row in rows])
        print(f"error: median {np.median(errors):.3f}, p95 {np.percentile(errors, 95):.3f}, largest {errors.max():.3f}")
    runs = []
    for number in range(options.runs):
        runs.append({"number": number, **batches(rng, options.device), **provenance()})
        print(runs[-1], flush=True)
        write(options.output / f"batches_{kind}.csv", runs)
    if runs:
        exceeded = sum(run["exceeded"] for run in runs)
        print(f"{sum(run['batches'] for run in runs)} batches of {len(runs)} runs, {exceeded} above the limit")


def configuration(rng: random.Random) -> tuple[str, int]:
    """A random model, and about how much it costs."""
    channels, layers = rng.choice([8, 16, 32, 64]), rng.choice([1, 2, 3])
    if rng.random() < 1 / 3:
        return f"leignn:channels={max(16, channels)},layers={layers}", channels * layers
    l_max, message = rng.choice([1, 2, 3]), rng.choice(["light", "light", "full"])
    channels = min(channels, 16) if message == "full" else channels
    irreps = "+".join(f"{channels}x{degree}{'eo'[degree % 2]}" for degree in range(l_max + 1))
    changes = f"irreps={irreps},layers={layers},heads={rng.choice([1, 2, 4])},message={message}"
    return f"mlanet_l{l_max}:{changes}", channels * layers * (l_max + 1) * (4 if message == "full" else 1)


def law(rng: random.Random, device: str) -> dict[str, Any]:
    """One configuration: forecast and count."""
    name, cost = configuration(rng)
    dtype, training = rng.choice(["float32", "float64"]), rng.random() < 0.5
    potential = own(name, Request(SPECIES, 40.0, Execution(dtype, device))).module
    atoms = rng.choice([216, 343, 512, 1000]) if cost < 150 else 216
    graph = crystal(potential, atoms, rng.choice([15.0, 30.0, 60.0]))
    if rng.random() < 1 / 3:  # atoms with very different numbers of neighbours
        graph = batch_graphs([graph, crystal(potential, atoms // 2, 3.0)])
    expected = Forecast(potential, training).computing(graph.size())
    counted = peak(potential, graph, training)
    row = {"model": name, "mode": "train" if training else "infer", "dtype": dtype}
    row |= {"atoms": graph.n_atoms, "edges": graph.n_edges}
    row |= {"forecast_MiB": round(expected / 2**20, 2), "counted_MiB": round(counted / 2**20, 2)}
    return {**row, "error": round(expected / counted - 1, 4)}


def crystal(potential: Potential, atoms: int, neighbours: float) -> AtomicGraph:
    """A rattled simple cubic crystal of about so many atoms, and about so many neighbours each within the cutoff."""
    spacing = potential.cutoff * (4 / 3 * math.pi / neighbours) ** (1 / 3)
    repeats = max(1, round(atoms ** (1 / 3)))
    lattice = Atoms("C", cell=[spacing] * 3, pbc=True).repeat((repeats, repeats, max(1, round(atoms / repeats**2))))
    lattice.numbers[:] = np.resize(potential.species, len(lattice))
    lattice.positions += np.random.default_rng(0).normal(scale=0.03 * spacing, size=lattice.positions.shape)
    return to_graph(lattice, potential.cutoff).to(potential.device, potential.dtype)


def batches(rng: random.Random, device: str) -> dict[str, Any]:
    """One set of structures under a limit."""
    name, _ = configuration(rng)
    name = name.replace("=64", "=16").replace("=32", "=16").replace("64x", "16x").replace("32x", "16x")
    training = rng.random() < 0.5
    potential = own(name, Request(SPECIES, 40.0, Execution("float32", device))).module
    structures = [crystal(potential, rng.randint(1, 90), rng.uniform(4, 60)) for _ in range(12)]
    expected = Forecast(potential, training)
    limit = rng.uniform(1.05, 3.0) * max(MARGIN * expected.bytes(graph.size()) for graph in structures)
    samples = [Sample(graph, _unlabelled(graph.n_atoms), "made here", "") for graph in structures]
    loader = Loader(samples, max_edges=10**9, seed=rng.randint(0, 99), fits=MemoryLimit(expected, limit))
    plan = loader.plan(0)
    peaks = [_whole(potential, [structures[index] for index in batch], training, expected) for batch in plan]
    row = {"model": name, "mode": "train" if training else "infer", "limit_MiB": round(limit / 2**20, 2)}
    row |= {
        "batches": len(plan),
        "fullest": round(max(peaks) / limit, 3),
        "mean": round(sum(peaks) / len(peaks) / limit, 3),
    }
    return {**row, "exceeded": sum(one > limit for one in peaks)}


def _whole(potential: Potential, structures: list[Any], training: bool, expected: Forecast) -> float:
    """Bytes of a batch and of all that is held beside it."""
    return expected.held + peak(potential, batch_graphs(structures), training)


def _unlabelled(atoms: int) -> Labels:
    return Labels(torch.full((1,), torch.nan), torch.full((atoms, 3), torch.nan), torch.full((1, 3, 3), torch.nan))


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """The table so far."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
