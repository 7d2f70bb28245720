"""Fine-tuning in one call, with a page that says what was gained on the new data and lost on the old."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from ase.data import atomic_numbers

from mlanet.checkpoint import load_model, model_path
from mlanet.config import parse, with_overrides
from mlanet.data.read import read_frames
from mlanet.data.write import frame_text
from mlanet.distill.judge import TEACHER, Judgement, judged_once
from mlanet.errors import DataError
from mlanet.files import write_whole
from mlanet.page import Page
from mlanet.training.config import TrainConfig
from mlanet.training.trainer import MODEL, STATE, train

NEW = "new data"
"""Name of the validation part of the new data on the page."""

DEFAULTS: dict[str, Any] = {
    "loss": {"kind": "huber"},
    "optimizer": {"lr": 1e-3, "ema": 0.99},
    "budget": {"steps": 2000, "max_structures": 4, "validate_every": 200},
    "move_references": True,
    "new_elements": True,
}
"""Keys of `mlanet train` that a fine-tuning begins with; gentler than a training from scratch."""

Errors = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Tuned:
    """The model, its page, and the errors (`judge.summary`) of each set before and after; before only if possible."""

    model: Path
    page: Path
    before: Errors
    after: Errors


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to fine-tune on what.

    - model: file or packaged name · data: new labelled files · folder: for everything
    - old: labelled files of the old kind, to see what is lost
    - replay, replay_limit, replay_share, freeze: as in `mlanet train`
    - curve: numbers of structures at which fine-tuning and training from scratch are compared
    - keys: further keys of `mlanet train`
    """

    model: str
    data: tuple[str, ...]
    folder: str
    valid_fraction: float = 0.2
    seed: int = 0
    old: tuple[str, ...] = ()
    replay: tuple[str, ...] = ()
    replay_limit: int | None = None
    replay_share: float | None = None
    freeze: tuple[str, ...] = ()
    curve: tuple[int, ...] = ()
    keys: tuple[str, ...] = ()


def finetune(request: Request, say: Callable[[str], None] = print) -> Tuned:
    """Divide the new data, train from the old model, judge, compare; a repeated call goes on where it stopped.

    Raises:
        DataError: too few structures to set some aside, or a point of the curve above what there is.
        ConfigError, CheckpointError: as `mlanet train`.
    """
    folder = Path(request.folder)
    count, valid = _divide(request, folder), folder / "valid.extxyz"
    if request.curve and max(request.curve) > count:
        raise DataError(f"curve: {max(request.curve)} structures asked for, {count} are there to train on")
    say(f"fine-tuning on {count} structures")
    weights, model = _trained(_config(request, folder, "tuned")).read_bytes(), folder / MODEL
    if not model.exists() or model.read_bytes() != weights:
        write_whole(model, weights)
    before, after = _before(request, folder), _summary(judged_once(folder / "tuned.json", model, valid, request.old))
    curve = []
    for size in request.curve:
        row: dict[str, Any] = {"structures": size}
        for kind, scratch in (("tuned", False), ("scratch", True)):
            say(f"{size} structures, {'from scratch' if scratch else 'fine-tuned'}")
            name = f"{kind}-{size}"
            trained = _trained(_config(request, folder, name, size, scratch=scratch))
            row[kind] = _summary(judged_once(folder / f"{name}.json", trained, valid, ()))
        curve.append(row)
    page = _page(folder / "finetuning.html", request, before, after, curve)
    return Tuned(model, page, before, after)


def _divide(request: Request, folder: Path) -> int:
    """`train.extxyz` and `valid.extxyz`, once; returns how many are for training."""
    train_file, valid_file = folder / "train.extxyz", folder / "valid.extxyz"
    if not valid_file.exists():
        frames = [atoms for path in request.data for atoms, _ in read_frames(path)]
        aside = round(request.valid_fraction * len(frames))
        if not 0 < aside < len(frames):
            few = f"{len(frames)} structure{'s' * (len(frames) != 1)}"
            raise DataError(
                f"{few}: too few to set {request.valid_fraction:g} of them aside for validation; add structures"
            )
        order = np.random.default_rng(request.seed).permutation(len(frames))
        for file, chosen in ((train_file, order[aside:]), (valid_file, order[:aside])):
            write_whole(file, "".join(frame_text(frames[index]) for index in sorted(chosen)).encode())
    return sum(1 for _ in read_frames(train_file))


def _config(
    request: Request, folder: Path, name: str, size: int | None = None, *, scratch: bool = False
) -> TrainConfig:
    """The trainer's configuration of one run."""
    data = {"train": [str(folder / "train.extxyz")], "valid": [str(folder / "valid.extxyz")], "train_limit": size}
    keys = DEFAULTS | {"data": data | {"seed": request.seed}, "run": {"folder": str(folder / name)}}
    if scratch:
        keys = {key: value for key, value in keys.items() if key not in ("move_references", "new_elements")}
        keys |= {"model": msgspec.json.decode(msgspec.json.encode(load_model(model_path(request.model)).model.config))}
        keys["optimizer"] = {"ema": 0.99}  # and the optimiser and rate of a training from scratch
    else:
        keys |= {"start_from": request.model, "freeze": list(request.freeze)}
        keys |= {"replay": list(request.replay), "replay_limit": request.replay_limit}
        keys |= {} if request.replay_share is None else {"replay_share": request.replay_share}
    return parse(with_overrides(keys, request.keys), TrainConfig, "finetune")


def _trained(config: TrainConfig) -> Path:
    """The run's model, resumed if it has begun."""
    result = train(config, resume=(Path(config.run.folder) / STATE).exists())
    if result.reason == "terminated":
        raise KeyboardInterrupt
    return result.model


def _before(request: Request, folder: Path) -> Errors:
    """Errors of the old model; of the new data only where it knows all elements."""
    model = model_path(request.model)
    known = set(load_model(model).species)
    frames = (atoms for atoms, _ in read_frames(folder / "valid.extxyz"))
    if all({atomic_numbers[symbol] for symbol in atoms.symbols} <= known for atoms in frames):
        return _summary(judged_once(folder / "before.json", model, folder / "valid.extxyz", request.old))
    return {}


def _summary(judgement: Judgement) -> Errors:
    """By set, the new data under their name."""
    return {NEW if name == TEACHER else name: value for name, value in judgement.summary().items()}


def _page(path: Path, request: Request, before: Errors, after: Errors, curve: Sequence[dict[str, Any]]) -> Path:
    """Before and after on every set; fine-tuned and from scratch at every size."""
    page = Page("Fine-tuning", f"{request.model}, trained on {', '.join(request.data)}.")
    page.heading("Before and after")
    columns = ["data", "model", "structures", "energy, meV/atom", "median", "shift", "forces, meV/Å", "stress, GPa"]
    rows = [
        [name, kind, *judgement[name].values()]
        for name in after
        for kind, judgement in (("before", before), ("after", after))
        if name in judgement
    ]
    caption = (
        "Mean absolute errors. The new data are those set aside; old data may be of another level of theory, which"
    )
    page.table(columns, rows, f"{caption} shifts their energies ('shift' is the median signed error).")
    if curve:
        page.heading("Against training from scratch")
        columns = ["structures"]
        columns += [
            f"{kind}: {what}" for what in ("forces, meV/Å", "energy, meV/atom") for kind in ("tuned", "scratch")
        ]
        table = [
            [
                row["structures"],
                *(row[kind][NEW][what] for what in ("forces_mae", "energy_mae") for kind in ("tuned", "scratch")),
            ]
            for row in curve
        ]
        page.table(columns, table, "Both with the same budget, on the part of the new data that was set aside.")
    page.data("errors", {"before": before, "after": after, "curve": list(curve)})
    page.write(path)
    return path
