"""Inputs that go wrong in every way that came to mind: each a small action on files in the current folder.

An action is made from its number alone, so that one that fails can be repeated. It returns nothing where the program
did what it promises, a result that is finite or one line and a status, and raises `Broken` or anything else where not.
"""

from __future__ import annotations

import contextlib
import io
import json
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from ase.build import bulk
from fuzz_material import MODEL, TEXTS, WORDS, YAML, Random, mutated, mutated_json, mutated_tensor, signed, structure

from mlanet.checkpoint import load_model
from mlanet.cli.main import main
from mlanet.config import parse, read_yaml_text, with_overrides
from mlanet.data.read import Frame, read_frames
from mlanet.errors import MLANetError
from mlanet.inference import predict
from mlanet.models import ModelConfig
from mlanet.potential import Potential
from mlanet.training.config import TrainConfig
from mlanet.workflows.predict import predict_frames


class Broken(AssertionError):
    """A promise that was not kept."""


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
                metadata["header"] = mutated_json(metadata["header"], rng)
            else:
                name = str(rng.choice(list(tensors)))
                tensors[name] = mutated_tensor(tensors[name], rng)
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
