"""The data of a sweep, divided once: training, validation and test part as files that every point reads."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mlanet.data.dataset import group_of
from mlanet.data.read import Frame, read_frames
from mlanet.data.splits import group_split, random_split
from mlanet.data.vasp_steps import converged
from mlanet.data.write import frame_text
from mlanet.errors import DataError
from mlanet.files import whole_folder, writing
from mlanet.sweep.config import SweepData


class Parts(NamedTuple):
    """Frames of the three parts, each in the order of the files."""

    train: list[Frame]
    valid: list[Frame]
    test: list[Frame]

    @property
    def available(self) -> int:
        """Training structures that a size can ask for; lone atoms come with every size and are not counted."""
        return sum(not _alone(frame) for frame in self.train)


def divide(data: SweepData) -> Parts:
    """Read and divide by seed; lone atoms carry reference energies and stay in the training part.

    Raises:
        DataError: a file that cannot be read, or too few structures for three parts.
    """
    frames, groups = _read(data.files, data.keep_unconverged)
    chosen = [index for index, frame in enumerate(frames) if not _alone(frame)]
    test = _read(data.test, data.keep_unconverged)[0] if data.test else []
    aside = [data.valid_fraction] if data.valid_fraction else []
    aside += [] if data.test else [data.test_fraction]
    sizes = [1.0 - sum(aside), *aside]
    if data.split == "group":
        divided = group_split([groups[index] for index in chosen], sizes, data.seed)
    else:
        divided = random_split(len(chosen), sizes, data.seed)
    parts = [[frames[chosen[index]] for index in part] for part in divided]
    lone = [frame for frame in frames if _alone(frame)]
    valid = parts[1] if data.valid_fraction else []
    return Parts(lone + parts[0], valid, test if data.test else parts[-1])


def _read(files: Sequence[str], keep_unconverged: bool) -> tuple[list[Frame], list[str]]:
    """All frames, and the group of each."""
    frames, groups = [], []
    for path in files:
        given = read_frames(Path(path))
        for frame in given if keep_unconverged else converged(given, Path(path)):
            frames.append(frame)
            groups.append(group_of(frame, path))
    if not frames:
        raise DataError(f"{', '.join(files)}: no structures")
    return frames, groups


def _alone(frame: Frame) -> bool:
    """Whether this is one atom in empty space."""
    return len(frame.atoms) == 1 and not frame.atoms.pbc.any()


def write_parts(parts: Parts, folder: Path) -> None:
    """`train.extxyz`, `valid.extxyz`, `test.extxyz` in a new folder that appears with all of them or not at all.

    Raises:
        OutputError: the place cannot be written.
    """
    with writing(folder), whole_folder(folder) as partial:
        for name, frames in parts._asdict().items():
            with open(partial / f"{name}.extxyz", "w", encoding="utf-8") as file:
                for frame in frames:
                    file.write(frame_text(frame.atoms, frame.where))


def digests(files: Sequence[str]) -> list[str]:
    """sha256 of the content of each file.

    Raises:
        DataError: a file that cannot be read.
    """
    prints = []
    for path in files:
        try:
            with open(path, "rb") as file:
                prints.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    return prints
