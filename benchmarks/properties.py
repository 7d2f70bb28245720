"""Elastic moduli of crystals by universal potentials, beside each other and against reference values.

    python benchmarks/properties.py mp-binary-pbe-elasticity-2025.1.json.gz --count 50 \\
        --model student=mlanet:model.safetensors --model chgnet=chgnet@PYTHON

The file is a JSON list of {structure (pymatgen), bulk_modulus_vrh, shear_modulus_vrh in GPa}, as matcalc has them. Each
model relaxes each crystal and strains it (`mlanet.properties.elasticity`), in an interpreter of its own; models are
named as in benchmarks/universal.py. What was computed is in OUTPUT/NAME.jsonl and not computed again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from mlanet.distill.config import TeacherConfig
from mlanet.distill.teacher import Teacher
from mlanet.errors import MLANetError
from mlanet.files import append_whole, write_whole
from mlanet.properties import elasticity
from mlanet.properties.rest import Rest, at_rest

MODULI = {"bulk": "bulk_modulus_vrh", "shear": "shear_modulus_vrh"}


class OfTeacher(Calculator):
    """A teacher's process as a calculator of ASE; `seconds` of its processor time add up."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher, self.seconds = teacher, 0.0

    def calculate(
        self, atoms: Atoms | None = None, properties: Sequence[str] = (), system_changes: Sequence[str] = all_changes
    ) -> None:
        """Ask for one structure."""
        super().calculate(atoms, list(properties), list(system_changes))
        ((_, _, answer),) = self.teacher.label([(0, self.atoms)])
        if "error" in answer:
            raise MLANetError(str(answer["error"]))
        self.seconds += answer["seconds"]
        self.results = {"energy": answer["energy"], "forces": np.array(answer["forces"])}
        self.results["stress"] = np.array(answer["stress"])


def crystals(path: Path, count: int, max_atoms: int) -> list[tuple[str, Atoms, dict[str, float]]]:
    """Names, structures and reference moduli, drawn by seed 0."""
    with gzip.open(path, "rt") as file:
        entries = json.load(file)
    order = np.random.default_rng(0).permutation(len(entries))
    found = []
    for index in order:
        entry = entries[index]
        structure = Structure.from_dict(entry["structure"])
        if len(structure) <= max_atoms:
            atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
            bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell.array, pbc=True)
            found.append((f"{entry['mp_id']} {entry['formula']}", bare, {m: entry[key] for m, key in MODULI.items()}))
        if len(found) == count:
            break
    return found


def measure(word: str, given: Sequence[tuple[str, Atoms, dict[str, float]]], folder: Path) -> Iterator[dict[str, Any]]:
    """A row for each crystal: moduli in GPa, volume over reference volume, seconds; or why there is none."""
    name, _, rest = word.partition("=")
    teacher, _, python = rest.partition("@")
    place = folder / f"{name}.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    known = {row["crystal"]: row for row in map(json.loads, place.read_text().splitlines())} if place.exists() else {}
    yield from (row for crystal, _, _ in given if (row := known.get(crystal)))
    with Teacher(TeacherConfig(name=teacher, python=python or None), folder / name) as model:
        for crystal, atoms, reference in given:
            if crystal in known:
                continue
            atoms = atoms.copy()
            atoms.calc = calculator = OfTeacher(model)
            row: dict[str, Any] = {"crystal": crystal, "reference": reference, "atoms": len(atoms)}
            try:
                rest = Rest(fmax=0.03, steps=200)
                relaxed = at_rest(atoms, "full", rest, crystal)
                row["volume"] = relaxed.get_volume() / atoms.get_volume()
                found = elasticity(relaxed, strain=0.01, rest=rest, where=crystal)
                row |= {"bulk": found.bulk_modulus, "shear": found.shear_modulus, "stable": found.stable}
            except MLANetError as error:
                row["error"] = str(error)
            row["seconds"] = calculator.seconds
            append_whole(place, (json.dumps(row) + "\n").encode())
            yield row


def summary(name: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Errors over crystals that have moduli."""
    done = [row for row in rows if "error" not in row]
    found: dict[str, Any] = {"model": name, "crystals": len(rows), "failed": len(rows) - len(done)}
    for kind in MODULI:
        errors = np.array([abs(row[kind] - row["reference"][kind]) for row in done])
        found |= {f"{kind}_MAE_GPa": float(errors.mean()), f"{kind}_median_GPa": float(np.median(errors))}
        found[f"{kind}_reference_mean_GPa"] = float(np.mean([row["reference"][kind] for row in done]))
    found["stable"] = sum(row["stable"] for row in done)
    off = np.array([abs(row["volume"] - 1) for row in done if "volume" in row])
    if len(off):
        found |= {"volume_error_median": float(np.median(off)), "volume_error_largest": float(off.max())}
    return found | {"seconds_per_crystal": float(np.mean([row["seconds"] for row in done]))}


def main(arguments: Sequence[str] | None = None) -> None:
    """All models on all crystals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", action="append", required=True, metavar="NAME=TEACHER[@PYTHON]")
    parser.add_argument("--count", type=int, default=50, help="crystals")
    parser.add_argument("--max-atoms", type=int, default=12, help="of a crystal")
    parser.add_argument("--output", type=Path, default=Path("properties"))
    words = parser.parse_args(arguments)
    given = crystals(words.file, words.count, words.max_atoms)
    results = []
    for word in words.model:
        rows = []
        for row in measure(word, given, words.output):
            rows.append(row)
            print(word.partition("=")[0], len(rows), row["crystal"], row.get("error", ""), file=sys.stderr, flush=True)
        results.append(summary(word.partition("=")[0], rows))
    write_whole(words.output / "moduli.json", json.dumps(results, indent=1).encode())
    for result in results:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
