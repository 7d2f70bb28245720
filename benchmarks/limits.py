"""What a model knows of its limits: families left out one by one, against a committee and the size of the force.

    python benchmarks/limits.py families mo.extxyz --left-out Surface --work out/mo --members 4 --steps 350
    python benchmarks/limits.py examples --data li.extxyz --data si.extxyz --data mo.extxyz --output examples.json

`families` divides what is left of a set by seed (70 % training, 15 % for calibration, 15 % test), trains one model or a
committee on it, and asks about the test part and the family left out: how well predicted errors find the worst tenth of
real ones (AUROC), by which factor they are off in bins between the 5th and 95th percentile, and how many structures are
flagged. Members that were trained are not trained again. `examples` asks a model about structures far from its data.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import ase.io
import numpy as np
import torch
import typer
from ase import Atoms
from ase.build import bulk, molecule, surface
from numpy.typing import NDArray

from mlanet.checkpoint import load_model, model_path
from mlanet.config import parse
from mlanet.data.atoms import to_graph
from mlanet.data.dataset import load_samples
from mlanet.data.read import read_frames
from mlanet.data.samples import Sample
from mlanet.data.splits import random_split
from mlanet.errors import UnsupportedElementError
from mlanet.graph import Prediction
from mlanet.inference import predict
from mlanet.limits import Assessment, assess, find_limits, of_batch
from mlanet.limits.calibration import auroc, calibration
from mlanet.potential import Potential
from mlanet.training.config import TrainConfig
from mlanet.training.trainer import train

app = typer.Typer(no_args_is_help=True)
SHARES = (0.7, 0.15, 0.15)
PARTS = ("train", "valid", "test")


class Asked(NamedTuple):
    """One model's answers about a part: squares of errors per component and predicted, sizes of forces, by atom."""

    real: NDArray[np.float64]
    predicted: NDArray[np.float64]
    size: NDArray[np.float64]
    forces: NDArray[np.float64]
    words: dict[str, int]
    energy: tuple[float, float]


@app.command()
def families(
    data: Annotated[Path, typer.Argument(help="Labelled set whose frames have a config_type.")],
    left_out: Annotated[str, typer.Option("--left-out", help="config_type that is not trained on.")],
    work: Annotated[Path, typer.Option("--work", help="Folder for parts and models.")],
    members: Annotated[int, typer.Option("--members", help="Models of the committee.")] = 1,
    steps: Annotated[int, typer.Option("--steps", help="Of each training.")] = 350,
    channels: Annotated[int, typer.Option("--channels", help="Of each model, l_max 1, two layers.")] = 16,
    output: Annotated[Path | None, typer.Option("--output", help="JSON lines to append to.")] = None,
) -> None:
    """Leave one family out."""
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    parts = _parts(data, left_out, work)
    paths = [_member(parts, work / f"member-{seed}", seed, steps, channels) for seed in range(1, members + 1)]
    potentials = [load_model(path) for path in paths]
    for name in ("test", "out"):
        samples = load_samples([parts[name]], potentials[0].cutoff)
        _tell(_row(f"{data.name} without {left_out}", name, [_asked(one, samples) for one in potentials]), output)


@app.command()
def examples(
    model: Annotated[str, typer.Option("--model", help="Knows Li, Si and Mo.")] = "elemental",
    data: Annotated[list[Path] | None, typer.Option("--data", help="Frames like its training set.")] = None,
    output: Annotated[Path | None, typer.Option("--output", help="JSON lines to append to.")] = None,
) -> None:
    """Structures far from the data of the packaged model, and how many frames like them are flagged."""
    potential = load_model(model_path(model))
    for name, atoms in far_away().items():
        try:
            judged = _judged(potential, atoms)
            _tell({"example": name, "word": judged.extrapolation, "reasons": list(judged.reasons)}, output)
        except UnsupportedElementError as error:
            _tell({"example": name, "word": "refused", "reasons": [str(error)]}, output)
    if data:
        frames = [frame.atoms for path in data for frame in read_frames(path)]
        words = Counter(_judged(potential, atoms).extrapolation for atoms in frames)
        _tell({"frames like the training set": len(frames), **words}, output)


def far_away() -> dict[str, Atoms]:
    """What a model of three elements, each by itself, should not be trusted with."""
    squeezed = bulk("Si", "diamond", a=5.43, cubic=True)
    squeezed.set_cell(squeezed.cell * 0.5 ** (1 / 3), scale_atoms=True)
    melted = bulk("Mo", "bcc", a=3.16, cubic=True) * 3
    melted.positions += 0.6 * np.random.default_rng(0).normal(size=melted.positions.shape)
    dimer = molecule("Si2")
    sulphide = bulk("MoS", "rocksalt", a=4.8)
    return {
        "LiSi, zinc blende": bulk("LiSi", "zincblende", a=5.9),
        "a molybdenum sulphide": sulphide,
        "silicon at half its volume": squeezed,
        "molybdenum, atoms anywhere": melted,
        "lithium (111), three layers of one atom": surface(bulk("Li", "bcc", a=3.44, cubic=True), (1, 1, 1), 3, 10.0),
        "a silicon dimer": dimer,
    }


def _parts(data: Path, left_out: str, work: Path) -> dict[str, Path]:
    """Files of the parts, written once."""
    places = {name: work / f"{name}.extxyz" for name in (*PARTS, "out")}
    if all(one.exists() for one in places.values()):
        return places
    frames = [frame.atoms for frame in read_frames(data)]
    rest = [atoms for atoms in frames if atoms.info.get("config_type") != left_out]
    for name, indices in zip(PARTS, random_split(len(rest), list(SHARES), 0), strict=True):
        ase.io.write(places[name], [rest[index] for index in indices])
    ase.io.write(places["out"], [atoms for atoms in frames if atoms.info.get("config_type") == left_out])
    return places


def _member(parts: dict[str, Path], folder: Path, seed: int, steps: int, channels: int) -> Path:
    """One model of a committee, with its limits."""
    path = folder / "model.safetensors"
    if not path.exists():
        settings = {
            "model": {"model": "mlanet", "irreps": f"{channels}x0e+{channels}x1o", "layers": 2, "hidden": channels},
            "data": {"train": [str(parts["train"])], "valid": [str(parts["valid"])]},
            "optimizer": {"lr": 5e-3, "ema": 0.98},
            "budget": {"steps": steps, "max_structures": 2, "validate_every": max(1, steps // 5)},
            "run": {"folder": str(folder), "seed": seed},
        }
        train(parse(settings, TrainConfig, "benchmark"), progress=False)
    potential = load_model(path)
    if potential.domain is None:
        sets = [load_samples([parts[name]], potential.cutoff) for name in ("train", "valid")]
        find_limits(path, *sets)
    return path


def _asked(potential: Potential, samples: Sequence[Sample]) -> Asked:
    """All answers of one model."""
    predictions = list(predict(potential, [one.graph for one in samples]))
    graphs = [one.graph for one in samples]
    assessments = of_batch(potential.domain, potential.statistics, graphs, predictions)
    wrong = [p.forces.double() - s.labels.forces for p, s in zip(predictions, samples, strict=True)]
    forces = torch.cat([one.forces.double() for one in predictions]).numpy()
    return Asked(
        torch.cat([one.square().mean(dim=1).sqrt() for one in wrong]).numpy(),
        np.concatenate([one.forces_std for one in assessments if one.forces_std is not None]),
        np.linalg.norm(forces, axis=1),
        forces,
        dict(Counter(one.extrapolation for one in assessments)),
        _energies(predictions, samples, assessments),
    )


def _energies(
    predictions: Sequence[Prediction], samples: Sequence[Sample], assessments: Sequence[Assessment]
) -> tuple[float, float]:
    """Real and predicted root mean squares of energies, meV/atom."""
    real, said = [], []
    for prediction, sample, one in zip(predictions, samples, assessments, strict=True):
        n = sample.graph.n_atoms
        real.append(1e3 * float(prediction.energy[0] - sample.labels.energy[0]) / n)
        said.append(1e3 * (one.energy_std or np.nan) / n)
    return float(np.sqrt(np.mean(np.square(real)))), float(np.sqrt(np.mean(np.square(said))))


def _row(name: str, part: str, asked: Sequence[Asked]) -> dict[str, Any]:
    """One line of the table."""
    first = asked[0]
    compared = calibration(np.stack([first.predicted, first.real], axis=1))
    assert compared is not None
    row: dict[str, Any] = {
        "set": name,
        "part": part,
        "atoms": len(first.real),
        "force RMSE, meV/Å": round(1e3 * compared.real, 1),
        "predicted, meV/Å": round(1e3 * compared.predicted, 1),
        "off in bins by at most": None if compared.largest_factor is None else round(compared.largest_factor, 2),
        "AUROC": _rounded(compared.finds_worst),
        "AUROC of |F|": _rounded(auroc(first.size, first.real)),
        "energy RMSE, predicted, meV/atom": [round(one, 2) for one in first.energy],
        "words": first.words,
    }
    if len(asked) > 1:
        spread = np.std([one.forces for one in asked], axis=0, ddof=1)
        row["AUROC of the committee"] = _rounded(auroc(np.sqrt((spread**2).mean(axis=1)), first.real))
        row["committee's spread, meV/Å"] = round(1e3 * float(np.sqrt((spread**2).mean())), 1)
    return row


def _judged(potential: Potential, atoms: Atoms) -> Assessment:
    graph = to_graph(atoms, potential.cutoff)
    (prediction,) = predict(potential, [graph])
    return assess(potential.domain, potential.statistics, graph, prediction)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _tell(row: dict[str, Any], output: Path | None) -> None:
    """On stdout, and into a file."""
    text = json.dumps(row, ensure_ascii=False)
    print(text, flush=True)
    if output is not None:
        with output.open("a", encoding="utf-8") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    app()
