"""What a model will need, without computing it: memory, time, and the largest cell that fits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from mlanet.forecast import CRYSTAL_SPREAD, Forecast, probe
from mlanet.graph import AtomicGraph, Size
from mlanet.potential import Potential
from mlanet.profiling.clock import Stopwatch
from mlanet.profiling.steps import MODES

TIMED = (64, 256)
"""Atoms of the crystals that are timed, at the neighbours asked for; time is linear in atoms beyond them."""


@dataclass(frozen=True)
class Predicted:
    """A model in one mode on a crystal with given neighbours per atom.

    - GiB, ms: at so many atoms · largest_atoms: under the limit, and the time of it
    - held_MiB, KiB_per_atom, KiB_per_pair: the law of memory; per pair of the list, or place in the table on a CPU
    """

    model: str
    mode: str
    atoms: int
    neighbours: float
    GiB: float
    ms: float
    limit_GiB: float
    largest_atoms: int
    largest_ms: float
    held_MiB: float
    KiB_per_atom: float
    KiB_per_pair: float


def predict(name: str, potential: Potential, atoms: int, neighbours: float, limit_gib: float) -> list[Predicted]:
    """Laws measured on small crystals, for inference and for a training step.

    Args:
        neighbours: directed pairs per atom within the cutoff.
        limit_gib: memory of the card or machine, GiB.
    """
    rows = []
    for mode in MODES:
        law = Forecast(potential, training=mode == "train")
        base, per_atom = _times(potential, mode, neighbours)
        largest = law.largest(limit_gib * 2**30, neighbours)
        degree = round(CRYSTAL_SPREAD * neighbours)
        size = Size(atoms, round(neighbours * atoms), degree)
        used = law.law(potential.device.type == "cpu", degree)
        rows.append(
            Predicted(
                *(name, mode, atoms, neighbours),
                GiB=law.bytes(size) / 2**30,
                ms=base + per_atom * atoms,
                limit_GiB=limit_gib,
                largest_atoms=largest,
                largest_ms=base + per_atom * largest,
                held_MiB=law.held / 2**20,
                KiB_per_atom=used.per_atom / 1024,
                KiB_per_pair=used.per_row / 1024,
            )
        )
    return rows


def _times(potential: Potential, mode: str, neighbours: float) -> tuple[float, float]:
    """ms of an empty system and per atom, from two crystals; the best of some calls."""
    watch = Stopwatch(potential.device)
    points = []
    for atoms in TIMED:
        graph = probe(potential, atoms, round(neighbours))
        call = partial(_call, potential, graph, mode)
        points.append((graph.n_atoms, min(watch.time(call) for _ in range(4))))
    (small, fast), (large, slow) = points
    slope = max(0.0, (slow - fast) / (large - small))
    return max(0.0, fast - slope * small), slope


def _call(potential: Potential, graph: AtomicGraph, mode: str) -> None:
    potential.train(mode == "train")
    prediction = potential(graph)
    if mode == "train":
        size = prediction.energy.abs().mean() + prediction.forces.abs().mean()
        (size + prediction.stress.nan_to_num().abs().mean()).backward()
    potential.zero_grad(set_to_none=True)
    potential.eval()


def limit_of(device: torch.device, gib: float | None) -> float:
    """GiB asked for, or what is free here."""
    from mlanet.memory import free_bytes

    return free_bytes(device) / 2**30 if gib is None else gib
