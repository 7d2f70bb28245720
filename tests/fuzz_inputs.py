"""Inputs that go wrong in every way that came to mind: each a small action on files in the current folder.

An action is made from its number alone, so that one that fails can be repeated. It returns nothing where the program
did what it promises, a result that is finite or one line and a status, and raises `Broken` or anything else where not.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import write

from mlanet.checkpoint import load_model, save_model
from mlanet.cli.main import main
from mlanet.config import parse, read_yaml_text, with_overrides
from mlanet.data.read import Frame, read_frames
from mlanet.errors import MLANetError
from mlanet.inference import predict
from mlanet.models import ModelConfig
from mlanet.potential import Potential
from mlanet.statistics import Statistics
from mlanet.training.config import TrainConfig
from mlanet.workflows.predict import predict_frames

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


class Broken(AssertionError):
    """A promise that was not kept."""


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


def command(*words: str) -> tuple[int, str, str]:
    """One command line in this process, with the promises that every one keeps."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        status = main(list(words))
    said = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]
    if status not in (0, 1, 2, 3, 4):
        raise Broken(f"status {status}: {said[1][-300:]}")
    if status > 1 and not said[1]:
        raise Broken(f"status {status} without a word")
    for text in said:
        if "Traceback" in text or any(one in text for one in "\x1b\x9b\x00\x07"):
            raise Broken(f"a traceback, or a control character: {text[-300:]!r}")
    return status, *said


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


def try_structure(rng: Random) -> None:
    """A structure is right or refused."""
    try:
        found = list(predict_frames(_model(), [Frame(structure(rng), "frame")]))
    except MLANetError:
        return
    for one in found:
        results = one.atoms.calc.results
        if not all(np.isfinite(np.asarray(value)).all() for value in results.values()):
            raise Broken(f"not finite: {results}")


def try_batch(rng: Random) -> None:
    """Whatever stands beside it, a good structure has the numbers that it has alone."""
    from mlanet.data.atoms import to_graph

    potential = _model()
    good = bulk("Cu", a=float(rng.uniform(3.3, 4)), cubic=True)
    good.rattle(0.1, seed=int(rng.integers(1000)))
    graphs, mine = [], to_graph(good, potential.cutoff)
    for _ in range(3):
        try:
            graphs.append(to_graph(structure(rng), potential.cutoff))
            potential.require_supported(graphs[-1])
        except MLANetError:
            graphs = [one for one in graphs if set(one.numbers.tolist()) <= {13, 29}]
    place = int(rng.integers(len(graphs) + 1))
    graphs.insert(place, mine)
    there, alone = list(predict(potential, graphs))[place], next(predict(potential, [mine]))
    if not torch.allclose(there.forces, alone.forces, atol=1e-4) or not torch.allclose(there.energy, alone.energy):
        raise Broken("a structure is changed by its neighbours in a batch")


def try_text(rng: Random) -> None:
    """A structure file is predicted or refused."""
    name = str(rng.choice(list(TEXTS)))
    text = mutated(TEXTS[name], rng)
    Path(name).write_bytes(text.encode(errors="surrogateescape" if rng.random() < 0.5 else "replace"))
    status, out, _ = command("predict", name, "--model", MODEL, "--json")
    if status == 0:
        _require_numbers(json.loads(out))


def try_frames(rng: Random) -> None:
    """The same without the command line, hence without its long start: every frame is sound or refused."""
    name = str(rng.choice(list(TEXTS)))
    Path(name).write_bytes(mutated(TEXTS[name], rng).encode(errors="replace"))
    with contextlib.suppress(MLANetError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in predict_frames(_model(), read_frames(name)):
            if not np.isfinite(one.atoms.get_forces()).all():
                raise Broken("forces that are not finite")


def try_yaml(rng: Random) -> None:
    """A configuration is understood or refused."""
    Path("train.yaml").write_bytes(mutated(YAML, rng).encode(errors="replace"))
    command("train", "train.yaml", "--dry-run", *(["--json"] if rng.random() < 0.5 else []))


def try_config(rng: Random) -> None:
    """The same without the command line."""
    with contextlib.suppress(MLANetError):
        data = read_yaml_text(mutated(YAML, rng), "here")
        config = parse(with_overrides(data, [f"run.folder={rng.choice(WORDS)}"]), TrainConfig, "here")
        if isinstance(config.model, dict):
            parse(config.model, ModelConfig, "here")


def try_override(rng: Random) -> None:
    """So is a word of the command line that changes one."""
    Path("train.yaml").write_text(YAML)
    keys = [
        "model.layers",
        "model.cutoff",
        "model.irreps",
        "budget.steps",
        "optimizer.lr",
        "run.folder",
        "data.train",
        "x",
        "model",
    ]
    words = [f"{rng.choice(keys)}={rng.choice(WORDS)}" for _ in range(rng.integers(1, 3))]
    command("train", "train.yaml", "--dry-run", *(one.replace("\x00", "") for one in words))


def signed(metadata: dict[str, str], tensors: dict[str, torch.Tensor]) -> bytes:
    """A file whose digest is right, whatever it holds."""
    data = safetensors.torch.save(tensors, metadata | {"sha256": "0" * 64})
    place = data.find(b'"sha256":"') + 10
    return data[:place] + hashlib.sha256(data).hexdigest().encode() + data[place + 64 :]


def try_model_file(rng: Random) -> None:
    """A model file is loaded or refused: with bits flipped, and with a wrong header or wrong weights but signed."""
    data = bytearray(Path(MODEL).read_bytes())
    match rng.integers(4):
        case 0:
            for _ in range(rng.integers(1, 4)):
                data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        case 1:
            data = data[: rng.integers(len(data))]
        case _:
            length = struct.unpack("<Q", data[:8])[0]
            metadata = json.loads(data[8 : 8 + length])["__metadata__"]
            tensors = safetensors.torch.load(bytes(data))
            if rng.random() < 0.7:
                metadata["header"] = _mutated_json(metadata["header"], rng)
            else:
                name = str(rng.choice(list(tensors)))
                tensors[name] = _mutated_tensor(tensors[name], rng)
            data = bytearray(signed(metadata, tensors))
    Path("bad.safetensors").write_bytes(bytes(data))
    status = command("info", "bad.safetensors", "--json")[0] if rng.random() < 0.3 else 0
    try:
        potential = load_model("bad.safetensors")
    except MLANetError:
        return
    if status == 0 and not all(bool(torch.isfinite(one).all()) for one in potential.state_dict().values()):
        raise Broken("weights that are not finite were loaded")
    with contextlib.suppress(MLANetError):
        for one in predict_frames(potential, read_frames("data.extxyz")):
            if not np.isfinite(one.atoms.get_forces()).all():
                raise Broken("forces that are not finite")


def _mutated_tensor(tensor: torch.Tensor, rng: Random) -> torch.Tensor:
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


def _mutated_json(text: str, rng: Random) -> str:
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


COMMANDS = {
    "predict": ["data.extxyz", "--model", MODEL],
    "evaluate": ["data.extxyz", "--model", MODEL],
    "info": [MODEL],
    "presets": [],
    "data check": ["data.extxyz"],
    "data split": ["data.extxyz", "--output", "split"],
    "relax": ["data.extxyz", "--model", MODEL, "--steps", "2", "--kernels", "plain"],
    "md": ["data.extxyz", "--model", MODEL, "--steps", "2", "--output", "md", "--kernels", "plain"],
    "trajectory": ["data.extxyz"],
    "train": ["train.yaml", "--dry-run"],
}
OPTIONS = [
    "--json", "--max-edges", "--max-memory", "--dtype", "--device", "--output", "--csv", "--key", "--temperature",
    "--time", "--timestep", "--fmax", "--pressure", "--cell", "--every", "--seed", "--repeat", "--skin", "--friction",
    "--cutoff", "--fractions", "--nonsense", "--ensemble", "--index", "--require", "--resume", "-o", "-m", "--",
    "--steps",
]  # fmt: skip
BOUNDED = {"--steps", "--time"}
"""Of which large values rightly mean a long run."""


def try_arguments(rng: Random) -> None:
    """A command line is obeyed or refused."""
    import shutil

    for folder in ("md", "split", "run"):
        shutil.rmtree(folder, ignore_errors=True)
    Path("train.yaml").write_text(YAML)
    name = str(rng.choice(list(COMMANDS)))
    words = [*name.split(), *COMMANDS[name]]
    for _ in range(rng.integers(1, 3)):
        option = str(rng.choice(OPTIONS))
        value = str(rng.choice(WORDS)).replace("\x00", "")
        if option in BOUNDED or (option in ("--output", "-o") and value.startswith(("/", "~", ".."))):
            value = "1"
        words.insert(int(rng.integers(len(words) + 1)), option)
        if rng.random() < 0.8:
            words.insert(words.index(option) + 1, value)
    command(*words)


ACTIONS: dict[str, tuple[float, Callable[[Random], None]]] = {
    "structure": (0.30, try_structure),
    "batch": (0.03, try_batch),
    "frames": (0.33, try_frames),
    "text": (0.02, try_text),
    "config": (0.13, try_config),
    "yaml": (0.03, try_yaml),
    "override": (0.02, try_override),
    "model file": (0.12, try_model_file),
    "arguments": (0.02, try_arguments),
}
"""Share of all inputs, and what is done with one."""

_loaded: list[Potential] = []


def _model() -> Potential:
    if not _loaded:
        _loaded.append(load_model(MODEL))
    return _loaded[0]


def _require_numbers(document: object) -> None:
    """No NaN hides in a result as null, where a number must be."""
    for one in document["predictions"]:  # type: ignore[index]
        if one["energy_eV"] is None or any(x is None for force in one["forces_eV_per_A"] for x in force):
            raise Broken(f"a result that is no number: {one}")


def kind_of(seed: int, number: int) -> str:
    """The kind of the action of a number."""
    kinds, shares = list(ACTIONS), np.array([share for share, _ in ACTIONS.values()])
    return kinds[int(np.random.default_rng([seed, number, 0]).choice(len(kinds), p=shares / shares.sum()))]


def act(seed: int, number: int) -> None:
    """Do the action of a number."""
    ACTIONS[kind_of(seed, number)][1](np.random.default_rng([seed, number]))
