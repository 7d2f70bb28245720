"""The compiled pair style in LAMMPS: time per step, bytes between ranks, drift, and runs broken by restarts.

    mlanet lammps build --output plugin
    python benchmarks/lammps_ranks.py plugin --output lammps.json

Times are those of the processor, summed over ranks (a rank that waits counts too), beside LAMMPS' own clock; both
divide a run of `--steps` steps, set-up excluded by the difference of a long and a short run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_masses, atomic_numbers
from ase.io import write

from mlanet.lammps.program import lammps_folder, mpi_file
from mlanet.profiling.systems import system

HEAD = """\
units metal
atom_modify map array
box tilt large
read_data {name}.data
plugin load {plugin}/mlanetplugin.so
pair_style mlanet
pair_coeff * * {model} {elements}
compute sent all pair mlanet
thermo_style custom step temp pe ke etotal press c_sent[1] c_sent[2]
thermo_modify format float %.12g
fix move all nve
"""


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plugin", type=Path, help="folder of mlanet lammps build")
    parser.add_argument("--model", default="universal", help="name of the model file in it")
    parser.add_argument("--systems", nargs="*", default=["Si:512", "LiCoO2:1536"])
    parser.add_argument("--ranks", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--drift-steps", type=int, default=1000)
    parser.add_argument("--restarts", type=int, default=50)
    parser.add_argument("--output", type=Path, default=Path("lammps.json"))
    words = parser.parse_args()
    report: dict[str, Any] = {"model": words.model, "times": []}
    with tempfile.TemporaryDirectory() as name:
        lab = Lab(Path(name), words.plugin.resolve(), words.model)
        for one in words.systems:
            for ranks in words.ranks:
                report["times"].append(lab.time(one, ranks, words.steps))
                print(json.dumps(report["times"][-1]), flush=True)
        if words.restarts:
            report["restarts"] = lab.restarts(words.restarts)
            print(json.dumps(report["restarts"]), flush=True)
        if words.drift_steps:
            report["drift"] = lab.drift(words.drift_steps)
            print(json.dumps(report["drift"]), flush=True)
    words.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


class Lab:
    """A folder in which inputs run."""

    def __init__(self, folder: Path, plugin: Path, model: str) -> None:
        self.folder, self.plugin, self.model = folder, plugin, model
        library, starter = mpi_file("libmpi.so.12"), mpi_file("mpirun")
        if library is None or starter is None:
            raise SystemExit("the Python package mpich is not installed")
        self.starter = starter
        self.environment = os.environ | {"LD_LIBRARY_PATH": str(library.parent), "OMP_NUM_THREADS": "1"}

    def head(self, atoms: Atoms) -> str:
        """Lines up to the integrator; the data file is written."""
        elements = sorted(set(atoms.symbols))
        place = self.folder / "start.data"
        write(place, atoms, format="lammps-data", specorder=elements, masses=False)
        text = place.read_text()
        masses = "\n".join(f"{k} {atomic_masses[atomic_numbers[one]]}" for k, one in enumerate(elements, start=1))
        place.write_text(text.replace("Atoms", f"Masses\n\n{masses}\n\nAtoms", 1))
        return HEAD.format(name="start", plugin=self.plugin, model=self.model, elements=" ".join(elements))

    def run(self, deck: str, ranks: int) -> tuple[str, float]:
        """(what LAMMPS says, seconds of the processor)."""
        (self.folder / "in.run").write_text(deck)
        lmp = [str(lammps_folder() / "lmp"), "-in", "in.run", "-log", "none", "-nocite"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [str(self.starter), "-n", str(ranks), *lmp]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise SystemExit(done.stdout[-2000:] + done.stderr[-1000:])
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return done.stdout, spent

    def time(self, name: str, ranks: int, steps: int) -> dict[str, Any]:
        """Per step, and what one ghost costs in bytes."""
        atoms = system(name)
        head = self.head(atoms) + f"velocity all create 300 1\nthermo {steps}\n"
        _, short = self.run(head + "run 1\n", ranks)
        said, long = self.run(head + f"run {steps + 1}\n", ranks)
        clock = float(re.findall(r"Loop time of ([\d.e+-]+)", said)[-1])
        ghosts, sent = (float(one) for one in re.findall(r"^ *\d+ .*$", said, flags=re.M)[-1].split()[-2:])
        return {
            "system": name,
            "atoms": len(atoms),
            "ranks": ranks,
            "processor_ms_per_step": round(1000 * (long - short) / steps, 2),
            "clock_ms_per_step": round(1000 * clock / (steps + 1), 2),
            "ghosts": int(ghosts),
            "bytes_per_step": int(sent),
            "bytes_per_ghost": round(sent / max(ghosts, 1.0), 1),
        }

    def drift(self, steps: int) -> dict[str, Any]:
        """Total energy over a constant-energy run of 64 silicon atoms: slope and scatter."""
        atoms = bulk("Si", "diamond", a=5.43, cubic=True).repeat(2)
        deck = self.head(atoms) + f"velocity all create 1200 3\nthermo 10\nrun {steps}\n"
        said, _ = self.run(deck, 1)
        rows = np.array([line.split() for line in re.findall(r"^ *\d+ +\d[^\n]*$", said, flags=re.M)], float)
        rows = rows[np.unique(rows[:, 0], return_index=True)[1]]
        time, total, kinetic = rows[:, 0] / 1000, rows[:, 4], rows[:, 3]
        slope = float(np.polyfit(time, total, 1)[0])
        return {
            "atoms": len(atoms),
            "steps": steps,
            "drift_meV_per_atom_per_ps": 1000 * slope / len(atoms),
            "scatter_meV_per_atom": float(1000 * np.std(total - np.polyval(np.polyfit(time, total, 1), time)) / 64),
            "kinetic_range_eV": float(np.ptp(kinetic)),
        }

    def restarts(self, count: int) -> dict[str, Any]:
        """A run broken by so many restart files against an unbroken one, 8 silicon atoms, four steps between."""
        atoms = bulk("Si", "diamond", a=5.43, cubic=True)
        atoms.rattle(0.05, seed=1)
        head = self.head(atoms)
        start, dump = (
            "velocity all create 300 1\n",
            "write_dump all custom {} id xu yu zu vx vy vz modify sort id format float %.16g\n",
        )
        self.run(head + start + f"run {4 * count + 4}\n" + dump.format("whole.dump"), 1)
        again = "".join(
            line for line in head.splitlines(keepends=True) if not line.startswith(("read_data", "box", "atom_modify"))
        )
        pieces = [head + start + "run 4\nwrite_restart r.1\n"]
        for k in range(1, count + 1):
            pieces.append("clear\n" + again.replace("units metal", f"units metal\nread_restart r.{k}"))
            pieces.append(f"run 4\nwrite_restart r.{k + 1}\n")
        self.run("".join(pieces) + dump.format("broken.dump"), 1)
        one, other = (np.loadtxt(self.folder / f"{name}.dump", skiprows=9) for name in ("whole", "broken"))
        return {"restarts": count, "steps": 4 * count + 4, "largest_difference": float(np.abs(one - other).max())}


if __name__ == "__main__":
    main()
