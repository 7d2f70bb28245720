"""The whole distillation: rounds of labels and training, each step done once, and done again only where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from ase import Atoms

from mlanet.config import parse
from mlanet.data.read import read_frames
from mlanet.data.write import frame_text
from mlanet.distill.config import DistillConfig
from mlanet.distill.explore import explorer
from mlanet.distill.judge import Judgement, judged_once, write_page
from mlanet.distill.label import Labeller, Source, Weights
from mlanet.distill.seeds import reduced_formula, share_of
from mlanet.distill.teacher import Teacher
from mlanet.errors import ConfigError, DataError
from mlanet.files import write_whole
from mlanet.training.config import TrainConfig

Say = Callable[[str], None]
STRONGEST = 3.0
"""An element or recipe is drawn at most so much more often, or less, than by its share."""


@dataclass(frozen=True)
class Distilled:
    """What a distillation came to: labels in all rounds, the last model, its judgement, and the page."""

    labels: int
    model: Path
    page: Path
    errors: dict[str, dict[str, float]]


def distill(config: DistillConfig, say: Say = print, *, only_label: bool = False) -> Distilled | None:
    """Run all rounds, going on where an earlier call with the same configuration stopped.

    A round's folder holds `labels.extxyz`, the snapshot that is trained on (`train.extxyz`, `valid.extxyz`), the run
    of the trainer (`training/`) and `judgement.json`; the page lies above them.

    Args:
        config: everything.
        say: for progress.
        only_label: stop after the labels of the round that is due; returns None.
    Raises:
        ConfigError: student keys that are the distillation's own to set, or recipes that name no seeds.
        DataError: a `test_share` that sets no frame of `data` apart, or all.
        TeacherError: a teacher that cannot be started or died.
    """
    _require_sound(config)
    folder = Path(config.folder)
    config = _with_test_set(config, folder / "test.extxyz")
    judgements: list[Judgement] = []
    total, model = 0, folder
    for turn in range(config.rounds):
        here = folder / f"round-{turn}"
        before = folder / f"round-{turn - 1}" if turn else None
        say(f"round {turn}: labels")
        total += _label(config, turn, here, before, judgements, say)
        if only_label and not (here / "judgement.json").exists():
            return None
        _snapshot(config, turn, here)
        say(f"round {turn}: training")
        model = _train(config, here, before)
        judgements.append(judged_once(here / "judgement.json", model, here / "valid.extxyz", config.test))
    page = write_page(folder / "distillation.html", config, judgements, total)
    return Distilled(total, model, page, judgements[-1].summary())


def _require_sound(config: DistillConfig) -> None:
    """Errors that would else come after hours of labelling."""
    for key in ("data", "start_from"):
        if key in config.student:
            raise ConfigError(f"student.{key}: is set by the distillation; files to train on go under 'data'")
    for name, recipe in config.recipes.items():
        unknown = sorted(set(recipe.seeds) - set(config.seeds))
        if unknown:
            raise ConfigError(
                f"recipes.{name}.seeds: no seed group '{unknown[0]}'; there are {', '.join(config.seeds)}"
            )
    if unknown := sorted(set(config.leave) - set(config.recipes)):
        raise ConfigError(f"leave: no recipe '{unknown[0]}'; there are {', '.join(config.recipes)}")
    _train_config(config, Path("."), None)


def _with_test_set(config: DistillConfig, path: Path) -> DistillConfig:
    """Write the frames of `data` that `test_share` sets apart, once, and test on them too.

    Raises:
        DataError: none are, or all.
    """
    if not config.test_share:
        return config
    if not path.exists():
        frames = [atoms for file in config.data for atoms, _ in read_frames(file)]
        apart = [atoms for atoms in frames if share_of(f"test {reduced_formula(atoms)}") < config.test_share]
        if not 0 < len(apart) < len(frames):
            raise DataError(
                f"test_share {config.test_share:g}: {len(apart)} of {len(frames)} frames of data are set apart"
            )
        write_whole(path, "".join(map(frame_text, apart)).encode())
    return msgspec.structs.replace(config, test=(*config.test, str(path)))


def _label(
    config: DistillConfig, turn: int, here: Path, before: Path | None, judgements: list[Judgement], say: Say
) -> int:
    """Labels of a round; the teacher is not started if all are there."""
    done = here / "labels.done"
    if done.exists():
        return int(done.read_text())
    with ExitStack() as stack:
        teacher = stack.enter_context(Teacher(config.teacher, here))
        veto = config.labels.veto and stack.enter_context(Teacher(config.labels.veto, here / "veto"))
        weights = weights_of(judgements[-1]) if judgements else Weights()
        student = str(before / "training" / "model.safetensors") if before else config.start_from
        explore = explorer(student) if student else None
        source = Source(config, teacher.elements, turn, weights, explore)
        have = Labeller(config.labels, source, teacher, here, veto or None, say).run(config.labels.count)
    write_whole(done, f"{have}\n".encode())
    return have


def weights_of(judgement: Judgement) -> Weights:
    """Errors of the student against the teacher, relative to their mean, within `STRONGEST`."""

    def relative(errors: dict[Any, float]) -> dict[Any, float]:
        mean = float(np.mean(list(errors.values()))) if errors else 0.0
        if not mean > 0:
            return {}
        return {key: float(np.clip(error / mean, 1 / STRONGEST, STRONGEST)) for key, error in errors.items()}

    return Weights(relative(judgement.element_errors()), relative(judgement.recipe_errors()))


def _snapshot(config: DistillConfig, turn: int, here: Path) -> None:
    """Divide all labels so far by composition, once per round, so that a training can be resumed to the bit."""
    if (here / "valid.extxyz").exists():
        return
    rounds = [here.parent / f"round-{index}" / "labels.extxyz" for index in range(turn + 1)]
    parts: dict[str, list[Atoms]] = {"train": [], "valid": []}
    for atoms in _trained_on(config, [*map(str, rounds), *config.data]):
        part = "valid" if share_of(f"valid {reduced_formula(atoms)}") < config.valid_share else "train"
        parts[part].append(atoms)
    seen = {int(z) for atoms in parts["train"] for z in atoms.numbers}
    # Elements that no composition of the training set has are for training.
    parts["train"] += [atoms for atoms in parts["valid"] if not seen.issuperset(map(int, atoms.numbers))]
    parts["valid"] = [atoms for atoms in parts["valid"] if seen.issuperset(map(int, atoms.numbers))]
    if not all(parts.values()):
        message = f"{len(parts['train'])} labels to train on and {len(parts['valid'])} for validation"
        raise ConfigError(f"{message}; label more, or change valid_share")
    for name, frames in parts.items():  # `valid` last: its presence says that both are there
        write_whole(here / f"{name}.extxyz", "".join(map(frame_text, frames)).encode())


def _trained_on(config: DistillConfig, files: Iterable[str]) -> Iterator[Atoms]:
    """Frames of the files but for those of recipes that are left and of formulas that are held out."""
    held_out = {reduced_formula(atoms) for path in config.test for atoms, _ in read_frames(path)}
    for path in files:
        for atoms, _ in read_frames(path):
            if atoms.info.get("recipe") not in config.leave and reduced_formula(atoms) not in held_out:
                yield atoms


def _train_config(config: DistillConfig, here: Path, before: Path | None) -> TrainConfig:
    """The trainer's configuration of a round."""
    data = {"train": [str(here / "train.extxyz")], "valid": [str(here / "valid.extxyz")]}
    keys: dict[str, Any] = {**config.student, "data": data}
    keys["run"] = {**config.student.get("run", {}), "folder": str(here / "training")}
    student = str(before / "training" / "model.safetensors") if before else config.start_from
    if student is not None:
        keys["start_from"] = student
        keys.pop("model", None)
    return parse(keys, TrainConfig, "student")


def _train(config: DistillConfig, here: Path, before: Path | None) -> Path:
    """The trainer, resumed if it has begun; returns the model."""
    from mlanet.training.trainer import STATE, train

    result = train(_train_config(config, here, before), resume=(here / "training" / STATE).exists())
    if result.reason == "terminated":
        raise KeyboardInterrupt
    return result.model
