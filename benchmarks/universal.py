"""Universal potentials side by side on real reference data, each in a process and an interpreter of its own.

    python benchmarks/universal.py dft_test.extxyz --model student=mlanet:model.safetensors \\
        --model 7net=7net-l3i5-plain@.peers/nequip/bin/python --model chgnet=chgnet@PYTHON
    ... --relax 50 --crystals crystals.extxyz     # our models: do crystals keep their shape when they relax?

Energies, forces and stress against the labels of the file; CPU time per atom on one thread through ASE, neighbour list
included; memory of the whole process. A model is NAME=TEACHER[@PYTHON], the teachers are those of `mlanet distill`.
Results: universal.csv and universal.json in the output folder.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from mlanet.calculator import MLANetCalculator
from mlanet.data.read import read_frames
from mlanet.distill.config import TeacherConfig
from mlanet.distill.judge import row_of, summary
from mlanet.distill.teacher import Teacher
from mlanet.files import write_whole
from mlanet.workflows.relax import relaxation

COLLAPSED, EXPLODED = 0.7, 1.5
"""Volume after over volume before; beyond, a crystal is counted as lost."""


def measure(
    word: str, frames: Sequence[tuple[Atoms, str]], folder: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Errors, time and memory of one model, and a row for each structure."""
    name, _, rest = word.partition("=")
    teacher, _, python = rest.partition("@")
    rows, seconds, atoms, memory, failed = [], 0.0, 0, 0.0, 0
    with Teacher(TeacherConfig(name=teacher, python=python or None), folder / name) as model:
        given = ((index, frame) for index, (frame, _) in enumerate(frames))
        for number, (index, frame, answer) in enumerate(model.label(given)):
            if "error" in answer:
                failed += 1
                continue
            stress = np.full((3, 3), np.nan)
            if answer["stress"] is not None:
                stress = voigt_6_to_full_3x3_stress(answer["stress"])
            forces = np.array(answer["forces"])
            rows.append(row_of(frame, frames[index][1], name, answer["energy"], forces, stress))
            memory = max(memory, answer["memory"])
            if number:  # the first call compiles and warms up
                seconds, atoms = seconds + answer["seconds"], atoms + len(frame)
    if not rows:
        raise SystemExit(f"{name}: no structure could be computed; see {folder / name}")
    row = {"model": name, **summary(rows), "failed": failed}
    return row | {"ms_per_atom": 1e3 * seconds / max(atoms, 1), "memory_MiB": memory}, rows


def relax(word: str, crystals: Sequence[Atoms], steps: int = 300) -> dict[str, Any]:
    """Atoms and cell of each crystal, to 0.05 eV/Å: how many converge, and what becomes of the volumes."""
    name, _, rest = word.partition("=")
    calculator = MLANetCalculator(rest.removeprefix("mlanet:"))
    ratios, converged = [], 0
    for crystal in crystals:
        moving = Atoms(crystal.numbers, crystal.positions, cell=crystal.cell.array, pbc=True, calculator=calculator)
        done = False
        for step in relaxation(moving, cell="full", fmax=0.05, steps=steps):
            done = step.converged
            if not COLLAPSED / 2 < moving.get_volume() / crystal.get_volume() < 2 * EXPLODED:
                break
        converged += done
        ratios.append(moving.get_volume() / crystal.get_volume())
    change = np.abs(np.array(ratios) - 1)
    lost = int(((np.array(ratios) < COLLAPSED) | (np.array(ratios) > EXPLODED)).sum())
    return {
        "model": name,
        "crystals": len(crystals),
        "converged": converged,
        "lost": lost,
        "volume_change_median_percent": 100 * float(np.median(change)),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """All models on all structures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="structures with reference energy, forces and stress")
    parser.add_argument("--model", action="append", required=True, metavar="NAME=TEACHER[@PYTHON]")
    parser.add_argument("--most", type=int, default=10**9, help="so many structures, drawn by seed 0")
    parser.add_argument("--max-atoms", type=int, default=10**9, help="of a structure")
    parser.add_argument("--relax", type=int, default=0, help="so many crystals, by our models")
    parser.add_argument("--crystals", help="file of crystals to relax; the first file's if not given")
    parser.add_argument("--output", type=Path, default=Path("universal"))
    words = parser.parse_args(arguments)
    frames = [(atoms, where) for atoms, where in read_frames(words.file) if len(atoms) <= words.max_atoms]
    chosen = np.random.default_rng(0).permutation(len(frames))[: words.most]
    frames = [frames[index] for index in sorted(chosen)]
    measured = [measure(word, frames, words.output) for word in words.model]
    results, rows = [found for found, _ in measured], [row for _, of_model in measured for row in of_model]
    write_whole(words.output / "universal.json", json.dumps(rows).encode())
    _table(words.output / "universal.csv", results)
    if words.relax:
        crystals = [atoms for atoms, _ in read_frames(words.crystals or words.file) if atoms.pbc.all()][: words.relax]
        relaxed = [relax(word, crystals) for word in words.model if "=mlanet:" in word]
        _table(words.output / "relaxed.csv", relaxed)


def _table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """On the screen and as a file."""
    if not rows:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        for out in (file, sys.stdout):
            writer = csv.DictWriter(out, rows[0].keys())
            writer.writeheader()
            writer.writerows({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)


if __name__ == "__main__":
    main()
