"""One step of universal potentials as they are used, of 8 to 1,536 atoms: energy, forces, stress by ASE calculators.

    python benchmarks/sizes.py --model native=sizes:native --model fused=sizes:fused \\
        --model 7net=7net-0@PYTHON --model chgnet=chgnet@PYTHON --model mace=sizes:mace@PYTHON \\
        --model nequip=sizes:nequip@PYTHON \\
        --systems Si:8 Si:64 Si:512 LiCoO2:96 LiCoO2:1536 --rounds 5 --output runs/sizes

Every model has a process of its own, one thread, in the interpreter behind @ (this one if there is none), and all take
turns in each round on the same structure, moved a little as by a step of dynamics, so that a busy minute is busy for
all. Neighbour lists and error estimates are in the time, as they are for a user. Models are named as those of
`mlanet distill`, or as functions of this file: `native` and `fused` are the packaged model with these kernels;
`native_l2`, `mace` and `nequip` are untrained, l_max 2, 64 channels, 2 layers, cutoff 5 Å (`peers.py`); `native_l1`,
`mace_l1` and `nequip_l1` have l_max 1. `environments.py` makes the interpreters of the others.

OUTPUT/sizes.csv and .json have, of each model on each system, the least and the median of the processor's ms, and the
highest memory of its process so far, MiB, which the first column of systems in ascending size makes comparable. A call
that fails, or takes longer than --seconds by the clock, ends that model for larger cells of the same crystal.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORKER = Path(__file__).resolve().parents[1] / "mlanet" / "distill" / "worker.py"
SYSTEMS = ("Si:8", "Si:64", "Si:512", "LiCoO2:96", "LiCoO2:1536")
MOVED = 0.01
"""Å between the structures of two rounds."""


def native() -> Any:
    """The packaged model by the native engine."""
    return _ours("native")


def fused() -> Any:
    """The packaged model by fused kernels, called from torch."""
    return _ours("fused")


def mace() -> Any:
    """An untrained MACE."""
    return _peer("mace")


def nequip() -> Any:
    """An untrained NequIP."""
    return _peer("nequip")


def mace_l1() -> Any:
    """The same with l_max 1."""
    return _peer("mace", 1)


def nequip_l1() -> Any:
    """The same with l_max 1."""
    return _peer("nequip", 1)


def native_l1() -> Any:
    """An untrained MLANet with l_max 1, of the same sizes, by the native engine."""
    return _untrained("mlanet_l1")


def native_l2() -> Any:
    """The same with l_max 2: the packaged model without its limits and its periodic table."""
    return _untrained("mlanet_l2")


def _untrained(preset: str) -> Any:
    import msgspec
    import torch

    from mlanet import MLANetCalculator
    from mlanet.checkpoint import save_model
    from mlanet.models import read_model_config
    from mlanet.potential import Potential
    from mlanet.statistics import Statistics

    config = msgspec.structs.replace(read_model_config(preset), layers=2)
    elements = (3, 8, 14, 27)
    torch.manual_seed(0)
    potential = Potential.build(config, Statistics(elements, (0.0,) * 4, (1.0,) * 4, 60.0))
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.safetensors"
        save_model(potential.to(torch.float32), model)
        MLANetCalculator(model, kernels="native")  # keeps what the engine reads, so that the next one is without torch
        return MLANetCalculator(model, kernels="native")


def _ours(kernels: str) -> Any:
    from mlanet import MLANetCalculator

    return MLANetCalculator(kernels=kernels)


def _peer(name: str, l_max: int = 2) -> Any:
    """A model of `peers.py` as a calculator, built for the elements and neighbours of the first structure."""
    import numpy as np
    from ase.calculators.calculator import Calculator, all_changes
    from peers import PEERS, Request

    from mlanet.data.neighbors import neighbor_list

    class OfPeer(Calculator):
        implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012 - as in ASE
        kinds: tuple[int, ...] = ()

        def calculate(
            self, atoms: Any = None, properties: Sequence[str] = (), system_changes: Sequence[str] = all_changes
        ) -> None:
            super().calculate(atoms, properties, system_changes)
            kinds = tuple(sorted(set(atoms.numbers.tolist())))
            if kinds != self.kinds:
                found = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, 5.0)
                self.peer = PEERS[name].build({"l_max": l_max}, Request(kinds, len(found.center) / len(atoms)))
                self.kinds = kinds
            energy, forces, stress = self.peer.evaluate(self.peer.prepare([atoms]), False)
            flat = np.asarray(stress.detach())[0].ravel()[[0, 4, 8, 5, 2, 1]]
            self.results = {"energy": float(energy[0]), "forces": np.asarray(forces.detach()), "stress": flat}

    return OfPeer()


@dataclass(frozen=True)
class Subject:
    """A model in a process of its own, and whoever talks to it."""

    name: str
    process: subprocess.Popen[str]

    @classmethod
    def start(cls, words: str) -> Subject:
        """From NAME=MODEL or NAME=MODEL@PYTHON."""
        name, _, rest = words.partition("=")
        model, _, python = rest.partition("@")
        here = Path(__file__).resolve().parent
        places = os.pathsep.join((str(here), str(here.parent)))
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": places}
        pipe = subprocess.PIPE
        command = [python or sys.executable, str(WORKER), model]
        process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=sys.stderr, text=True, cwd=here, env=environment
        )
        return cls(name, process)

    def ask(self, line: str, seconds: float) -> dict[str, Any]:
        """An answer, or an error of our own where none comes."""
        assert self.process.stdin is not None and self.process.stdout is not None
        if line:
            with contextlib.suppress(BrokenPipeError):
                print(line, file=self.process.stdin, flush=True)
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            self.process.kill()
            return {"error": f"no answer within {seconds:g} s"}
        answer = self.process.stdout.readline()
        return json.loads(answer) if answer else {"error": "the process has ended"}


def measured(subjects: Sequence[Subject], where: str, rounds: int, seconds: float, lost: set[str]) -> Iterator[dict]:
    """A row for each model on one system; two rounds before those that count."""
    import numpy as np

    from mlanet.profiling.systems import system

    atoms, random = system(where), np.random.default_rng(1)
    times: dict[str, list[float]] = {one.name: [] for one in subjects}
    memory: dict[str, float] = {}
    failed: dict[str, str] = {}
    for count in range(rounds + 2):
        moved = atoms.positions + MOVED * random.normal(size=atoms.positions.shape)
        line = json.dumps(
            {
                "numbers": atoms.numbers.tolist(),
                "positions": moved.tolist(),
                "cell": atoms.cell.array.tolist(),
                "pbc": atoms.pbc.tolist(),
            }
        )
        for one in subjects:
            if one.name in lost:
                continue
            answer = one.ask(line, seconds)
            if "error" in answer:
                failed[one.name] = answer["error"]
                lost.add(one.name)
                continue
            memory[one.name] = answer["memory"]
            times[one.name] += [1e3 * answer["seconds"]] * (count >= 2)
    for one in subjects:
        row: dict[str, Any] = {"model": one.name, "system": where, "atoms": len(atoms)}
        if times[one.name] and one.name not in failed:
            row |= {"least_ms": min(times[one.name]), "median_ms": statistics.median(times[one.name])}
            row |= {"ms_per_atom": min(times[one.name]) / len(atoms), "memory_MiB": memory[one.name]}
        yield row | {"failure": failed.get(one.name, "" if times[one.name] else "not tried")}


def main() -> int:
    """Measure system after system; what is there is written after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, help="NAME=MODEL or NAME=MODEL@PYTHON; repeat it")
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, help="small before large of each crystal")
    parser.add_argument("--rounds", type=int, default=5, help="that count")
    parser.add_argument("--seconds", type=float, default=900.0, help="for one call, by the clock")
    parser.add_argument("--output", type=Path, default=Path("runs/sizes"))
    options = parser.parse_args()
    from mlanet.cli.output import note, print_table
    from mlanet.profiling.measurement import provenance, write_rows

    subjects = [Subject.start(words) for words in options.model]
    rows: list[dict[str, Any]] = []
    try:
        for one in subjects:
            if "error" in (ready := one.ask("", options.seconds)):
                note(f"{one.name}: does not start: {ready['error']}")
                return 2
        lost: dict[str, set[str]] = {}
        for where in options.systems:
            note(where)
            kind = lost.setdefault(where.partition(":")[0], set())
            kind |= {one.name for one in subjects if one.process.poll() is not None}
            rows += measured(subjects, where, options.rounds, options.seconds, kind)
            models = [model.partition("@")[0] for model in options.model]  # without the place of their interpreters
            facts = {"rounds": options.rounds, "models": models, **provenance()}
            write_rows(rows, options.output, "sizes", facts)
    finally:
        for one in subjects:
            one.process.kill()
            one.process.wait()
    shown = [(r["model"], r["system"], *(f"{r[k]:.4g}" if k in r else r["failure"] for k in COLUMNS)) for r in rows]
    print_table("", ("model", "system", "least ms>", "ms/atom>", "memory MiB>"), shown)
    return 0


COLUMNS = ("least_ms", "ms_per_atom", "memory_MiB")

if __name__ == "__main__":
    sys.exit(main())
