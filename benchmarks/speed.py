"""Time and memory of different models on the same structures, in interleaved rounds of one run.

Every round calls every model once on every system (A B C A B C …), so that a busy machine slows all alike; medians with
the 20th and 80th percentile over the rounds. `infer` is energy, forces and stress; `train` a forward and backward pass
of a loss on all three. Edges are ready before; the neighbour list is a row of its own. Before anything is timed,
each model's forces must be the gradient of its energy. Memory is the rise of the resident set in a fresh process.

    python benchmarks/speed.py --models leignn painn painn_itself mlanet_l1_small --threads 1
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy import surroundings
from ase import Atoms
from ase.build import bulk
from zoo import configuration, potential

from mlanet.data.atoms import to_graph
from mlanet.data.read import read_frames
from mlanet.graph import AtomicGraph
from mlanet.statistics import Statistics

ITSELF = "_itself"
"""A peer's name with this ending is the package's own path to forces and stress, not ours around its layers."""


def main() -> None:
    """Check, time, measure, write."""
    options = _options()
    torch.set_num_threads(options.threads)
    systems = {name: system(name) for name in options.systems}
    calls = {
        (m, s, mode): call(m, mode, a) for m in options.models for s, a in systems.items() for mode in options.modes
    }
    for name in options.models:
        require_gradient(name)
    times = rounds(calls, options.rounds)
    rows = []
    for (name, where, mode), values in times.items():
        atoms, cutoff = systems[where], _configuration(name).cutoff
        row = {"model": name, "system": where, "mode": mode, "atoms": len(atoms), "cutoff_A": cutoff}
        row |= {"edges": to_graph(atoms, cutoff).n_edges, "parameters": _parameters(name, atoms)}
        low, middle, high = (float(np.percentile(values, q)) for q in (20, 50, 80))
        row |= {"ms": round(middle, 2), "ms_p20": round(low, 2), "ms_p80": round(high, 2)}
        row |= {"us_per_atom": round(1e3 * middle / len(atoms), 2), "peak_MiB": round(peak(name, mode, where), 1)}
        rows.append(row | surroundings() | {"threads": options.threads})
    rows += [_neighbours(name, atoms, options) for name, atoms in systems.items()]
    _write(rows, options.output)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", nargs="+", required=True, help="names of zoo.py; painn_itself: SchNetPack's own path"
    )
    parser.add_argument("--systems", nargs="+", default=["Si216", "Cu256", "NaCl216"], help="element, count; or a file")
    parser.add_argument("--modes", nargs="+", default=["infer", "train"], choices=["infer", "train"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/speed_cpu.csv"))
    return parser.parse_args()


def system(name: str) -> Atoms:
    """A rattled crystal by name, or the first structure of a file."""
    known = {
        "Si8": bulk("Si", "diamond", a=5.43, cubic=True),
        "Si216": bulk("Si", "diamond", a=5.43, cubic=True) * 3,
        "Cu256": bulk("Cu", "fcc", a=3.61, cubic=True) * 4,
        "NaCl216": bulk("NaCl", "rocksalt", a=5.64, cubic=True) * 3,
        "Si1000": bulk("Si", "diamond", a=5.43, cubic=True) * 5,
        "Si5832": bulk("Si", "diamond", a=5.43, cubic=True) * 9,
        "bilayer5184": _bilayer() * (36, 36, 1),
    }
    if name not in known:
        return next(iter(read_frames(Path(name)))).atoms
    known[name].rattle(0.05, seed=0)
    return known[name]


def _bilayer() -> Atoms:
    """Two sheets of graphene, AB, periodic in two directions."""
    places = [[0, 0, 0], [1.23, 0.7101, 0], [0, 0, 3.35], [-1.23, 0.7101, 3.35]]
    return Atoms("C4", places, cell=[[2.46, 0, 0], [1.23, 2.1304, 0], [0, 0, 20]], pbc=[True, True, False])


def call(name: str, mode: str, atoms: Atoms) -> Callable[[], None]:
    """What is timed."""
    torch.manual_seed(0)
    graph = to_graph(atoms, _configuration(name).cutoff)
    model, evaluate = _evaluation(name, graph)
    model.train(mode == "train")

    def run() -> None:
        energy, forces, stress = evaluate()
        if mode == "train":
            (energy.sum() + forces.abs().sum() + stress.abs().sum()).backward()
            model.zero_grad(set_to_none=True)

    return run


def require_gradient(name: str) -> None:
    """−ΔE/Δx of one atom equals its force to 1 %, in float32."""
    atoms, step = system("Si8"), 0.01
    energies = []
    for shift in (step, -step):
        moved = atoms.copy()
        moved.positions[0, 0] += shift
        torch.manual_seed(0)
        energies.append(float(_evaluation(name, to_graph(moved, _configuration(name).cutoff))[1]()[0].detach().sum()))
    torch.manual_seed(0)
    forces = _evaluation(name, to_graph(atoms, _configuration(name).cutoff))[1]()[1].detach()
    slope, size = -(energies[0] - energies[1]) / (2 * step), float(forces.abs().max())
    if abs(slope - float(forces[0, 0])) > 0.02 * size:
        raise SystemExit(f"{name}: force {float(forces[0, 0])} but slope {slope}; nothing was timed")


def rounds(calls: dict[Any, Callable[[], None]], count: int) -> dict[Any, list[float]]:
    """Milliseconds of each call in each round, after two rounds of warm-up."""
    times: dict[Any, list[float]] = {key: [] for key in calls}
    for index in range(count + 2):
        for key, run in calls.items():
            start = time.perf_counter()
            run()
            if index >= 2:
                times[key].append(1e3 * (time.perf_counter() - start))
    return times


def peak(name: str, mode: str, where: str) -> float:
    """MiB by which the resident set of a fresh process rises during three calls."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_peak, args=(name, mode, where, sender))
    process.start()
    sender.close()
    value: float = receiver.recv()
    process.join()
    return value


def _peak(name: str, mode: str, where: str, sender: Any) -> None:
    torch.set_num_threads(1)
    run = call(name, mode, system(where))
    call(name, mode, system("Si8"))()  # libraries load and code is compiled on the first call
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest resident set so far
    before = _highest()
    for _ in range(3):
        run()
    sender.send(_highest() - before)


def _highest() -> float:
    """MiB, the highest resident set since it was last forgotten."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _configuration(name: str) -> Any:
    return configuration(name.replace(ITSELF, ""))


def _evaluation(name: str, graph: AtomicGraph) -> tuple[torch.nn.Module, Callable[[], tuple[torch.Tensor, ...]]]:
    """A model and a call that gives E, F, σ."""
    config = _configuration(name)
    if name.partition(":")[0].endswith(ITSELF):
        from peers import painn_itself

        return painn_itself(config, graph)
    facts = Statistics.unit(tuple(sorted(set(graph.numbers.tolist()))), graph.n_edges / graph.n_atoms)
    model = potential(config, facts).float()

    def evaluate() -> tuple[torch.Tensor, ...]:
        found = model(graph)
        return found.energy, found.forces, found.stress

    return model, evaluate


def _parameters(name: str, atoms: Atoms) -> int:
    model, _ = _evaluation(name, to_graph(atoms, _configuration(name).cutoff))
    return sum(parameter.numel() for parameter in model.parameters())


def _neighbours(name: str, atoms: Atoms, options: argparse.Namespace) -> dict[str, Any]:
    """The neighbour list at 5 Å."""
    values = []
    for _ in range(options.rounds):
        start = time.perf_counter()
        graph = to_graph(atoms, 5.0)
        values.append(1e3 * (time.perf_counter() - start))
    row = {"model": "neighbour list", "system": name, "mode": "build", "atoms": len(atoms), "cutoff_A": 5.0}
    row |= {"edges": graph.n_edges, "ms": round(statistics.median(values), 2)}
    return row | {"us_per_atom": round(1e3 * statistics.median(values) / len(atoms), 2)} | surroundings()


def _write(rows: list[dict[str, Any]], path: Path) -> None:
    """CSV, and the same on the screen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(
            f"{row['model']:40s} {row['system']:10s} {row['mode']:6s} {row['edges']:7d} edges "
            f"{row['ms']:9.1f} ms {row['us_per_atom']:9.1f} us/atom {row.get('peak_MiB', float('nan')):8.1f} MiB"
        )


if __name__ == "__main__":
    main()
