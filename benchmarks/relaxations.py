"""Many crystals relaxed: by ASE one by one, by `mlanet relax` one by one, batched, and batched in two processes.

    python benchmarks/relaxations.py mp-binary-pbe-elasticity-2025.1.json.gz --count 1000 --work out/relaxations

The file is a JSON list of {structure (pymatgen)}, as matcalc has them, or anything that ASE reads. Crystals drawn by
seed 0 are strained (2 % each way) and rattled (0.08 Å), then cell and atoms go to 0.01 eV/Å or 500 steps. "ase" is the
usual script: FIRE and FrechetCellFilter with the package's calculator. Each way is a process of its own with one thread
(the last has two); seconds are the clock's and the processor's (not those of the two), from the first import to the
last file. "times_as_fast" compares processor time, of the two processes the clock's: run these on idle cores. Ways
whose results lie in WORK are not run again. Energies are compared with those of "ase": lower or higher than it by more
than 1 meV/atom is another minimum.
"""

from __future__ import annotations

import gzip
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import ase.io
import numpy as np
import torch
import typer
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

from mlanet.files import write_whole
from mlanet.profiling.measurement import provenance, write_rows
from mlanet.profiling.worker import machine

FMAX, STEPS = 0.01, 500
SAME = 0.001
"""eV/atom, up to which two minima are called the same."""
COMMAND = (sys.executable, "-m", "mlanet", "relax", "--index", ":", "--cell", "full", "--keep-going", "--json")
WAYS: dict[str, tuple[str, ...]] = {
    "ase": (sys.executable, __file__, "--alone"),
    "one by one, fire": (*COMMAND, "--method", "fire"),
    "one by one": COMMAND,
    "batched": (*COMMAND, "--batched"),
    "batched, two processes": (*COMMAND, "--batched", "--workers", "2"),
}


def main(
    crystals: Annotated[Path, typer.Argument(help="Where they come from.")],
    work: Annotated[Path, typer.Option("--work", help="Folder for structures, results and the table.")] = Path("out"),
    model: Annotated[str, typer.Option("--model", help="A model file, or the name of a packaged one.")] = "universal",
    count: Annotated[int, typer.Option("--count", help="Crystals.")] = 1000,
    max_atoms: Annotated[int, typer.Option("--max-atoms", help="In a crystal.")] = 64,
    way: Annotated[list[str] | None, typer.Option("--way", help="Some of the ways only.")] = None,
    alone: Annotated[bool, typer.Option("--alone", hidden=True)] = False,
    output: Annotated[Path | None, typer.Option("--output", hidden=True)] = None,
) -> None:
    """Measure, and write the table."""
    if alone:
        return by_ase(crystals, model)
    work.mkdir(parents=True, exist_ok=True)
    start = work / "start.extxyz"
    if not start.exists():
        ase.io.write(start, drawn(crystals, count, max_atoms))
    for name in way or WAYS:
        target = _target(work, name)
        if not target.exists():
            measured(WAYS[name], start, target, model)
    rows = table(work)
    write_rows(rows, work, "table", {"machine": machine(torch.device("cpu")), **provenance(), "model": model})
    for row in rows:
        print(row)


def drawn(path: Path, count: int, max_atoms: int) -> list[Atoms]:
    """Crystals in random order, none at rest."""
    if path.name.endswith(".json.gz"):
        from pymatgen.core import Structure
        from pymatgen.io.ase import AseAtomsAdaptor

        entries = json.loads(gzip.decompress(path.read_bytes()))
        found = [AseAtomsAdaptor.get_atoms(Structure.from_dict(entry["structure"])) for entry in entries]
    else:
        found = ase.io.read(path, index=":")
    rng = np.random.default_rng(0)
    chosen = []
    for index in rng.permutation(len(found)):
        atoms = Atoms(found[index].numbers, found[index].positions, cell=found[index].cell, pbc=True)
        if len(atoms) <= max_atoms and len(chosen) < count:
            strain = rng.uniform(-0.02, 0.02, (3, 3))
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
            atoms.positions += rng.normal(size=(len(atoms), 3)) * 0.08
            chosen.append(atoms)
    return chosen


def by_ase(start: Path, model: str) -> None:
    """The script that an ASE user writes; it answers as `mlanet relax --json` does."""
    from mlanet import MLANetCalculator

    warnings.filterwarnings("ignore", message="logm result may be inaccurate")  # of the filter, once a step
    calculator = MLANetCalculator(model, dtype="float64")
    relaxed = []
    for number, atoms in enumerate(ase.io.read(start, index=":")):
        atoms.calc = calculator
        optimizer = FIRE(FrechetCellFilter(atoms), logfile=None)
        converged = bool(optimizer.run(fmax=FMAX, steps=STEPS))
        answer = {"structure": f"{start}, frame {number}", "converged": converged, "steps": optimizer.nsteps}
        relaxed.append(answer | {"energy_eV": atoms.get_potential_energy()})
    print(json.dumps({"relaxed": relaxed}))


def measured(command: tuple[str, ...], start: Path, target: Path, model: str) -> None:
    """Run one way; its answer and seconds are kept in `target`."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    words = [*command, str(start), "--output", str(target.with_suffix(".extxyz")), "--model", model]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if process.returncode not in (0, 1):
        raise typer.Exit(process.returncode)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    answer = {"wall_s": wall, "processor_s": processor, **json.loads(process.stdout)}
    write_whole(target, json.dumps(answer).encode())


def table(work: Path) -> list[dict[str, Any]]:
    """A row for every way that has run."""
    atoms = np.array([len(one) for one in ase.io.read(work / "start.extxyz", index=":")])
    first: dict[str, Any] = {}
    rows = []
    for name in WAYS:
        if not (target := _target(work, name)).exists():
            continue
        answer = json.loads(target.read_text())
        relaxed = answer["relaxed"]
        energies = np.full(len(atoms), np.nan)
        for one in relaxed:
            number = int(one["structure"].rpartition(" ")[2])
            energies[number] = one["energy_eV"] / atoms[number]
        first = first or {**answer, "energies": energies}
        change = energies - first["energies"]
        rows.append(
            {
                "way": name,
                "crystals": len(relaxed),
                "converged": sum(one["converged"] for one in relaxed),
                "steps": sum(one["steps"] for one in relaxed),
                "wall_s": round(answer["wall_s"], 1),
                "processor_s": round(answer["processor_s"], 1),
                "times_as_fast": round(first["processor_s"] / answer["wall_s" if "two" in name else "processor_s"], 1),
                "same": int(np.sum(np.abs(change) <= SAME)),
                "lower": int(np.sum(change < -SAME)),
                "higher": int(np.sum(change > SAME)),
            }
        )
    return rows


def _target(work: Path, way: str) -> Path:
    """Where the answer of a way is kept."""
    return work / f"{way.replace(', ', '_').replace(' ', '_')}.json"


if __name__ == "__main__":
    typer.run(main)
