"""What inputs that go wrong are made of: right files, wrong words, and the ways to spoil one with the other.

`fuzz_inputs` tries them on the program.
"""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import safetensors.torch
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import write

from mlanet.checkpoint import save_model
from mlanet.config import parse
from mlanet.models import ModelConfig
from mlanet.potential import Potential
from mlanet.statistics import Statistics

Random = np.random.Generator
MODEL = "model.safetensors"

NUMBERS = [
    "0", "-0.0", "1", "-1", "2.5", "1e-3", "1e-12", "1e-300", "1e5", "1e7", "1.1e7", "1e12", "1e20", "1e38", "1e39",
    "1e300", "1e308", "1e400", "-1e400", "nan", "inf", "-inf", "NaN", "1.5D0", "0x10", "1_000", "9" * 30, "99999999999",
    "2147483648", "-9223372036854775808", "1/0", "1,5", "", "٣", "½", "1(2)", "?", ".", "T", "F", "true", "null",
]  # fmt: skip
WORDS = [
    *NUMBERS, "Si", "Cu", "Xx", "X", "Og", "H", "si", "\x1b[31m", "\x9b2J", "\x00", "\u2028", "\x0c", "\ufeff", "$x$",
    "{}", "[", "]", "{", "}", "\"", "'", "&a", "*a", "<<", "!!int abc", "!!python/object:os.system", "!!binary x",
    "? [a]", "---", "2026-13-45", "a" * 300, "-" * 50, "%s", "../..", "/dev/null", "~", ":", "=", "#", "\t", "\r", "é",
    "\U0001f600",
]  # fmt: skip

EXTXYZ = """4
Lattice="5.43 0 0 0 5.43 0 0 0 5.43" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.5 pbc="T T T" charge=1
Cu 0 0 0 0.1 0 0
Cu 1.36 1.36 1.36 0 0.1 0
Al 0 2.72 2.72 0 0 0.1
Al 2.72 0 2.72 -0.1 -0.1 -0.1
2
energy=-0.5
Cu 0 0 0
Al 0 0 2.3
"""
CIF = """data_Cu
_symmetry_space_group_name_H-M   'P 1'
_cell_length_a   3.6
_cell_length_b   3.6
_cell_length_c   3.6
_cell_angle_alpha   90
_cell_angle_beta   90
_cell_angle_gamma   90
loop_
 _atom_site_type_symbol
 _atom_site_label
 _atom_site_fract_x
 _atom_site_fract_y
 _atom_site_fract_z
 _atom_site_occupancy
  Cu  Cu1  0.0  0.0  0.0  1
  Cu  Cu2  0.5  0.5  0.0  1.0
  Al  Al1  0.5  0.0  0.5  1
"""
POSCAR = """Cu Al
1.0
3.6 0.0 0.0
0.0 3.6 0.0
0.0 0.0 3.6
Cu Al
2 1
Direct
0.0 0.0 0.0
0.5 0.5 0.0
0.5 0.0 0.5
"""
YAML = """data: {train: [data.extxyz], valid_fraction: 0.25, require: [energy, forces]}
model:
  model: mlanet
  irreps: 4x0e+4x1o
  layers: 1
  cutoff: 3.5
  heads: 2
  hidden: 8
  radial_functions: 4
  radial_hidden: [8]
references: {Cu: -1.0, Al: -2.0}
budget: {steps: 3, max_structures: 4}
optimizer: {lr: 5e-3, clip: 10.0}
schedule: {kind: cosine, warmup_steps: 2}
loss: {energy: 1.0, forces: 1.0, stress: 0.0}
run: {folder: run, checkpoint_every: 1, kernels: plain, seed: 3}
"""
TEXTS = {"a.extxyz": EXTXYZ, "a.cif": CIF, "POSCAR": POSCAR}


def prepare() -> None:
    """A small model and labelled structures in the current folder."""
    torch.manual_seed(1)
    tiny = {"model": "mlanet", "irreps": "4x0e+4x1o", "layers": 1, "hidden": 8, "heads": 2, "cutoff": 3.5}
    potential = Potential.build(parse(tiny, ModelConfig, "fuzz"), Statistics((13, 29), (-1.0, -2.0), (1.0, 1.0), 12.0))
    save_model(potential, MODEL, {"data": "none"})
    write("data.extxyz", list(_labelled()), format="extxyz")


def _labelled() -> list[Atoms]:
    from ase.calculators.singlepoint import SinglePointCalculator

    frames = []
    for seed in range(5):
        atoms = bulk("Cu", a=3.6 + 0.02 * seed, cubic=True)
        atoms.rattle(0.05, seed=seed)
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0 - seed / 10, forces=0.1 * atoms.positions)
        frames.append(atoms)
    return frames


def mutated(text: str, rng: Random) -> str:
    """A text with one to three wrong things in it."""
    for _ in range(rng.integers(1, 4)):
        lines = text.split("\n")
        row = int(rng.integers(len(lines)))
        words = lines[row].split(" ")
        place = int(rng.integers(len(words)))
        match rng.integers(9):
            case 0 | 1 | 2 | 3:
                words[place] = str(rng.choice(WORDS))
                lines[row] = " ".join(words)
            case 4:
                del lines[row]
            case 5:
                lines.insert(row, str(rng.choice(lines)))
            case 6:
                lines[row] += str(rng.choice(WORDS)) * int(rng.choice([1, 2, 1000]))
            case 7:
                lines = lines[: row + 1]
            case 8:
                at = int(rng.integers(len(lines[row]) + 1))
                lines[row] = lines[row][:at] + chr(int(rng.integers(1, 256))) + lines[row][at + 1 :]
        text = "\n".join(lines)
    return text


def _size(rng: Random) -> float:
    """A length, usually a sensible one."""
    if rng.random() < 0.8:
        return float(rng.uniform(0.5, 12))
    return float(
        rng.choice([0.0, -1.0, 1e-300, 1e-9, 0.05, 0.2, 300, 1e4, 1e6, 9e6, 1e8, 1e12, 1e20, 1e300, np.nan, np.inf])
    )


def structure(rng: Random) -> Atoms:
    """Atoms anywhere in any cell."""
    count = int(rng.choice([0, 1, 1, 2, 3, 5, 8]))
    positions = rng.uniform(-6, 6, (count, 3))
    for _ in range(rng.integers(0, 3) if count else 0):
        positions[rng.integers(count), rng.integers(3)] = _size(rng)
    cell = np.diag([_size(rng) for _ in range(3)])
    if rng.random() < 0.4:
        cell = cell + rng.uniform(-4, 4, (3, 3)) * float(rng.choice([1.0, 1.0, 30.0, 1e5]))
    if rng.random() < 0.1:
        cell[rng.integers(3)] = cell[rng.integers(3)]
    numbers = rng.choice([13, 29], count)
    if count and rng.random() < 0.05:
        numbers[0] = rng.choice([0, -1, 14, 118, 119, 500])
    atoms = Atoms(numbers=numbers, positions=positions, cell=cell, pbc=rng.random(3) < 0.7)
    if rng.random() < 0.2:
        atoms.info["charge"] = float(rng.choice([1.0, -3.0, 1e4, 1e300, np.nan, np.inf]))
    if count and rng.random() < 0.1:
        atoms.arrays["initial_charges"] = np.full(count, float(rng.choice([0.1, 1e9, np.nan])))
    return atoms


def signed(metadata: dict[str, str], tensors: dict[str, torch.Tensor]) -> bytes:
    """A file whose digest is right, whatever it holds."""
    data = safetensors.torch.save(tensors, metadata | {"sha256": "0" * 64})
    place = data.find(b'"sha256":"') + 10
    return data[:place] + hashlib.sha256(data).hexdigest().encode() + data[place + 64 :]


def mutated_tensor(tensor: torch.Tensor, rng: Random) -> torch.Tensor:
    match rng.integers(5):
        case 0:
            tensor = tensor.clone()
            tensor.view(-1)[0] = float(rng.choice([np.nan, np.inf, 1e38, -1e38]))
            return tensor
        case 1:
            return tensor.to([torch.int64, torch.float16, torch.float64, torch.bool, torch.bfloat16][rng.integers(5)])
        case 2:
            return torch.cat([tensor, tensor])
        case 3:
            return tensor.new_zeros(0)
        case _:
            return tensor * 1e30


def mutated_json(text: str, rng: Random) -> str:
    """One value anywhere replaced, or one letter."""
    if rng.random() < 0.2:
        at = int(rng.integers(len(text)))
        return text[:at] + chr(int(rng.integers(32, 127))) + text[at + 1 :]
    document = json.loads(text)
    place = document
    while True:
        key = list(place)[rng.integers(len(place))] if isinstance(place, dict) else int(rng.integers(len(place)))
        if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.8:
            place = place[key]
            continue
        values = [
            0,
            -1,
            1,
            10**6,
            10**9,
            2**63,
            1e300,
            math.nan,
            math.inf,
            None,
            True,
            "",
            "x",
            [],
            {},
            [1],
            118,
            119,
            1e-300,
        ]
        words = ["100000x0e+100000x1o", "4096x0e+4096x1o", "\x1b[31m", "64x0e+64x1o+64x2e+64x3o", "leignn"]
        place[key] = [*values, *words][rng.integers(len(values) + len(words))]
        return json.dumps(document)
