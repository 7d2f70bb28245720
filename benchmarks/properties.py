"""Properties of real crystals by universal potentials, beside each other and against DFT.

    python benchmarks/properties.py --moduli mp-binary-pbe-elasticity-2025.1.json.gz=200 \\
        --heat alexandria-binary-pbe-phonon-2025.1.json.gz=100 --elements eos_pbe_allelectron.json \\
        --model universal=mlanet:mlanet/pretrained/universal.safetensors \\
        --model chgnet=chgnet@PYTHON --model 7net=7net-l3i5@PYTHON --most 7net=20

- moduli: bulk and shear modulus (Hill's mean), GPa. A JSON list of {structure (pymatgen), bulk_modulus_vrh,
  shear_modulus_vrh}, as matcalc has them. The crystal is relaxed, strained by ±0.01, and its atoms relaxed again.
- heat: heat capacity at 300 K of harmonic phonons, J/(mol K) per mole of atoms. A JSON list of {structure,
  heat_capacity}; the source's number is per mole of the cell that it gives (3R for each of its atoms when it is hot).
- elements: lattice constant and bulk modulus of elements in cubic lattices, from equations of state.

Every model computes the same crystals by the same functions (`mlanet.properties`), in an interpreter of its own, one
thread; models are named as in benchmarks/universal.py. What was computed is in OUTPUT/PROPERTY/NAME.jsonl and not
computed again; --most bounds a model's crystals of each property, the first ones of the same order. The table has each
model on all crystals that it and those with as many or more have answered.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.units import kB, kJ, mol
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from mlanet.distill.config import TeacherConfig
from mlanet.distill.teacher import Teacher
from mlanet.errors import MLANetError
from mlanet.files import append_whole
from mlanet.profiling.measurement import provenance, write_rows
from mlanet.profiling.worker import machine
from mlanet.properties import elasticity, equation_of_state, phonons
from mlanet.properties.rest import Rest, at_rest

PACKAGES = ("torch", "ase", "chgnet", "sevenn", "phonopy", "pymatgen")
LATTICES = {"SC": ("sc", 1), "BCC": ("bcc", 1), "FCC": ("fcc", 1), "Diamond": ("diamond", 2)}
"""Names of ASE, and atoms of the primitive cell."""
STABLE = {"Ag": "FCC", "C": "Diamond", "Li": "BCC", "Mo": "BCC", "Na": "BCC", "Si": "Diamond"}
"""Lattices in which elements exist (carbon as diamond)."""


class Crystal(NamedTuple):
    """A structure and what DFT says of it."""

    name: str
    atoms: Atoms
    reference: dict[str, float]


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


def moduli(crystal: Crystal, atoms: Atoms) -> dict[str, Any]:
    """Bulk and shear modulus, and the volume at rest over DFT's."""
    rest = Rest(fmax=0.03, steps=200)
    relaxed = at_rest(atoms, "full", rest, crystal.name)
    result = elasticity(relaxed, strain=0.01, rest=rest, where=crystal.name)
    volume = relaxed.get_volume() / crystal.atoms.get_volume()
    return {"bulk": result.bulk_modulus, "shear": result.shear_modulus, "volume": volume, "stable": result.stable}


def heat(crystal: Crystal, atoms: Atoms) -> dict[str, Any]:
    """Heat capacity by the package's own phonons, with somewhat coarser settings: the others compute in float32."""
    result = phonons(atoms, size=10.0, displacement=0.015, rest=Rest(fmax=0.005, steps=300), where=crystal.name)
    numbers = result.numbers
    capacity = float(str(numbers["heat_capacity_300K_kB_per_atom"])) * kB * mol / kJ * 1e3
    return {"heat": capacity, "imaginary": result.imaginary, "lowest": result.lowest, "stable": result.stable}


def elements(crystal: Crystal, atoms: Atoms) -> dict[str, Any]:
    """Edge of the cubic cell and bulk modulus."""
    curve = equation_of_state(atoms, span=0.06, points=7, rest=Rest(fmax=0.01, steps=200), where=crystal.name)
    edge = (curve.volume / curve.n_atoms * crystal.reference["atoms_of_cube"]) ** (1 / 3)
    return {"edge": edge, "bulk": curve.bulk_modulus, "stable": True}


def of_moduli(path: Path, max_atoms: int) -> Iterator[Crystal]:
    """Crystals of matcalc's file."""
    for name, atoms, entry in _drawn(path, max_atoms):
        yield Crystal(name, atoms, {"bulk": entry["bulk_modulus_vrh"], "shear": entry["shear_modulus_vrh"]})


def of_heat(path: Path, max_atoms: int) -> Iterator[Crystal]:
    """Crystals of matcalc's file, heat capacities per mole of atoms."""
    for name, atoms, entry in _drawn(path, max_atoms):
        yield Crystal(name, atoms, {"heat": entry["heat_capacity"] / len(atoms)})


def _drawn(path: Path, max_atoms: int) -> Iterator[tuple[str, Atoms, dict[str, Any]]]:
    """Name, structure and entry, in an order drawn by seed 0."""
    with gzip.open(path, "rt") as file:
        entries = json.load(file)
    for index in np.random.default_rng(0).permutation(len(entries)):
        entry = entries[index]
        structure = Structure.from_dict(entry["structure"])
        if len(structure) <= max_atoms:
            atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
            bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell.array, pbc=True)
            yield f"{entry['mp_id']} {entry['formula']}", bare, entry


def of_elements(path: Path, max_atoms: int) -> Iterator[Crystal]:
    """Primitive cells at the volume of the reference; those that exist first."""
    lattices = json.loads(path.read_text())["elements"]
    pairs = [(element, lattice) for element in lattices for lattice in lattices[element]]
    for element, lattice in sorted(pairs, key=lambda pair: STABLE.get(pair[0]) != pair[1]):
        measured, (name, n_atoms) = lattices[element][lattice], LATTICES[lattice]
        in_cube = n_atoms * {"sc": 1, "bcc": 2, "fcc": 4, "diamond": 4}[name]
        edge = (measured["V0_A3_per_atom"] * in_cube) ** (1 / 3)
        reference = {"edge": edge, "bulk": measured["B0_GPa"], "atoms_of_cube": in_cube}
        yield Crystal(f"{element} {lattice}", bulk(element, name, a=edge), reference)


class Property(NamedTuple):
    """What is computed, of which crystals, and the names of its numbers with their units."""

    compute: Callable[[Crystal, Atoms], dict[str, Any]]
    crystals: Callable[[Path, int], Iterator[Crystal]]
    units: Mapping[str, str]


PROPERTIES = {
    "moduli": Property(moduli, of_moduli, {"bulk": "GPa", "shear": "GPa"}),
    "heat": Property(heat, of_heat, {"heat": "J/(mol K)"}),
    "elements": Property(elements, of_elements, {"edge": "Å", "bulk": "GPa"}),
}


def measure(
    word: str, what: str, given: Sequence[Crystal], folder: Path, compute: bool = True
) -> Iterator[dict[str, Any]]:
    """A row for each crystal: numbers and seconds; or why there are none."""
    name, _, rest = word.partition("=")
    teacher, _, python = rest.partition("@")
    place = folder / what / f"{name}.jsonl"
    place.parent.mkdir(parents=True, exist_ok=True)
    known = {row["crystal"]: row for row in map(json.loads, place.read_text().splitlines())} if place.exists() else {}
    yield from (row for crystal in given if (row := known.get(crystal.name)))
    missing = [crystal for crystal in given if crystal.name not in known]
    if not missing or not compute:
        return
    with Teacher(TeacherConfig(name=teacher, python=python or None), folder / what / name) as model:
        for crystal in missing:
            atoms = crystal.atoms.copy()
            atoms.calc = calculator = OfTeacher(model)
            row: dict[str, Any] = {"crystal": crystal.name, "reference": crystal.reference, "atoms": len(atoms)}
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    row |= PROPERTIES[what].compute(crystal, atoms)
            except (MLANetError, ValueError, np.linalg.LinAlgError) as error:  # of pymatgen, on a crystal gone astray
                row["error"] = f"{type(error).__name__}: {error}"
            row["seconds"] = calculator.seconds
            append_whole(place, (json.dumps(row) + "\n").encode())
            yield row


def table(what: str, results: Mapping[str, Sequence[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Rows of models over the crystals of each model that has fewer than others; all on those that all have answered.

    Args:
        what: the property.
        found: rows of each model, in the same order of crystals.
    """
    for size in sorted({len(rows) for rows in results.values()}, reverse=True):
        some = {name: list(rows)[:size] for name, rows in results.items() if len(rows) >= size}
        answered = set.intersection(*({r["crystal"] for r in rows if "error" not in r} for rows in some.values()))
        groups = {"": answered}
        if what == "elements":
            groups |= {"that exist": {name for name in answered if STABLE.get(name.split()[0]) == name.split()[1]}}
        for name, rows in some.items():
            for group, chosen in groups.items():
                if chosen:
                    counts = {"crystals": size, "failed": sum("error" in row for row in rows), "compared": len(chosen)}
                    of_all = [row for row in rows if row["crystal"] in chosen]
                    yield {"property": f"{what} {group}".strip(), "model": name, **counts, **_errors(what, of_all)}


def _errors(what: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Errors over crystals: mean and median of the absolute ones, bias, and seconds."""
    statistics: dict[str, Any] = {}
    for kind, unit in PROPERTIES[what].units.items():
        reference = np.array([row["reference"][kind] for row in rows])
        errors = np.array([row[kind] for row in rows]) - reference
        one = {
            "MAE": np.abs(errors).mean(),
            "median": np.median(np.abs(errors)),
            "bias": errors.mean(),
            "of": reference.mean(),
        }
        statistics |= {f"{kind}_{key}_{unit}": round(float(value), 4) for key, value in one.items()}
        statistics[f"{kind}_median_percent"] = round(100 * float(np.median(np.abs(errors) / np.abs(reference))), 3)
    if "volume" in rows[0]:
        statistics["volume_median_percent"] = round(100 * float(np.median([abs(row["volume"] - 1) for row in rows])), 3)
    if "stable" in rows[0]:
        statistics["stable"] = sum(row["stable"] for row in rows)
    return statistics | {"seconds_per_crystal": round(float(np.mean([row["seconds"] for row in rows])), 3)}


def versions(python: str) -> dict[str, str]:
    """Of packages in an interpreter, those that it has."""
    code = (
        "import importlib.metadata as m, json\nfound = {}\n"
        f"for name in {PACKAGES!r}:\n"
        "    try: found[name] = m.version(name)\n"
        "    except m.PackageNotFoundError: pass\n"
        "print(json.dumps(found))"
    )
    said = subprocess.run([python or sys.executable, "-c", code], capture_output=True, text=True, check=True)
    installed: dict[str, str] = json.loads(said.stdout)
    return installed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in PROPERTIES:
        parser.add_argument(f"--{name}", metavar="FILE[=COUNT]", help=f"crystals of {name}, all or so many of them")
    parser.add_argument("--model", action="append", required=True, metavar="NAME=TEACHER[@PYTHON]")
    parser.add_argument("--most", action="append", default=[], metavar="NAME=COUNT", help="crystals of one model")
    parser.add_argument("--table", action="store_true", help="compute nothing; the table of what is there")
    parser.add_argument("--max-atoms", type=int, default=12, help="of a crystal")
    parser.add_argument("--output", type=Path, default=Path("properties"))
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """All models on all crystals."""
    words = _parser().parse_args(arguments)
    most = {name: int(count) for name, _, count in (word.partition("=") for word in words.most)}
    results = []
    for what, one in PROPERTIES.items():
        if not (given := getattr(words, what)):
            continue
        place, _, count = given.partition("=")
        crystals = list(itertools.islice(one.crystals(Path(place), words.max_atoms), int(count) if count else None))
        found: dict[str, list[dict[str, Any]]] = {}
        for word in words.model:
            name = word.partition("=")[0]
            rows = found[name] = []
            for row in measure(word, what, crystals[: most.get(name)], words.output, compute=not words.table):
                rows.append(row)
                print(what, name, len(rows), row["crystal"], row.get("error", ""), file=sys.stderr, flush=True)
        results += list(table(what, {name: rows for name, rows in found.items() if rows}))
    facts = {"hardware": machine_name(), "dtype": "float32", **provenance()}
    of_model = {word.partition("=")[0]: versions(word.partition("@")[2]) for word in words.model}
    rows = [{**row, **facts, "versions": _shown(of_model[row["model"]])} for row in results]
    for path in write_rows(rows, words.output, "properties", facts | {"versions": of_model}):
        print(path)
    for row in results:
        print(json.dumps(row))


def machine_name() -> str:
    """The processor, one thread of it."""
    import torch

    return f"{machine(torch.device('cpu'))['device']}, one thread"


def _shown(results: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in results.items())


if __name__ == "__main__":
    main()
