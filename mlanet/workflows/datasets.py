"""Splitting and converting labelled files, every output written whole or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
from ase.io import write

from mlanet.config import parse
from mlanet.data.atoms import LabelKeys
from mlanet.data.dataset import group_of
from mlanet.data.formats import LABELLED, Refused, structure_files, written_format
from mlanet.data.read import Frame, read_frames
from mlanet.data.splits import group_split, random_split
from mlanet.data.write import frame_text
from mlanet.errors import ConfigError, OutputError
from mlanet.workflows.answers import frames_of
from mlanet.workflows.growing import growing, partial_name
from mlanet.workflows.output import atomic_path, refuse_overwriting

PARTS = ("train", "valid", "test")


class Part(msgspec.Struct, frozen=True):
    """One part of a split: its name, how many frames, the file that holds them, and the share that was asked for."""

    name: str
    frames: int
    file: str
    wanted: float
    """Frames that the sizes ask for; whole groups may not allow it."""
    groups: dict[str, int]
    """Frames of each group in this part; empty for a random split."""


def label_keys(words: Iterable[str]) -> LabelKeys:
    """`energy=dft_energy` words -> where labels are looked for.

    >>> label_keys(["energy=dft_energy"]).energy
    'dft_energy'
    """
    data = {}
    for word in words:
        label, equals, key = word.partition("=")
        if not (label and equals and key):
            raise ConfigError(f"--key '{word}': expected LABEL=KEY, e.g. energy=dft_energy")
        data[label] = key
    return parse(data, LabelKeys, "--key")


def read_sizes(text: str) -> list[float]:
    """`0.8,0.1,0.1` or `950,50` -> fractions as float, counts as int.

    >>> read_sizes("950,50")
    [950, 50]
    """
    try:
        return [float(word) if "." in word else int(word) for word in text.split(",")]
    except ValueError:
        raise ConfigError(f"sizes '{text}': expected numbers such as 0.8,0.1,0.1 or 950,50") from None


def convert(
    files: Sequence[Path], output: Path, refused: Refused | None = None, tell: Callable[[str], None] = print
) -> int:
    """Write all frames of all files into one, labels and info kept; returns how many.

    Frames of several files that name no trajectory of theirs get their file's name as `info["group"]`, so that a split
    by group still knows which belong together.

    Args:
        files: of any format, or folders of files.
        output: .extxyz, .xyz or .traj.
        refused: is handed the errors of files and frames that cannot be used, which are passed over; None: such an
            error is raised, and an extxyz written so far stays in `output.partial.extxyz`.
        tell: see `mlanet.workflows.growing`.
    Raises:
        OutputError: an unsupported suffix, an output that is an input, or a place that cannot be written.
        DataError: a file or frame that cannot be read.
    """
    kind = written_format(output, LABELLED)
    files = structure_files(files, refused)
    refuse_overwriting((output, partial_name(output)), files)
    frames = _grouped(files, refused) if len(files) > 1 else frames_of(files, refused)
    if kind == "traj":
        return _write_list(output, frames)
    with growing(output, tell) as file:
        for frame in frames:
            file.add(frame_text(frame.atoms, frame.where))
        return file.count


def _grouped(files: Sequence[Path], refused: Refused | None) -> Iterator[Frame]:
    """The frames of all files, each with a group."""
    for path in files:
        for frame in read_frames(path, refused=refused):
            if not group_of(frame, ""):
                frame.atoms.info["group"] = str(path)
            yield frame


def split(files: Sequence[Path], folder: Path, sizes: Sequence[float], seed: int, by_group: bool) -> list[Part]:
    """Write train, valid (and test) as extxyz files into `folder`; the same seed gives the same split anywhere.

    Args:
        files: what ASE reads; frames are numbered through all of them.
        folder: made if missing; files in it that would be replaced are an error.
        sizes: two or three fractions (summing to at most 1) or counts.
        seed: of the permutation.
        by_group: keep a trajectory (info traj, group, config_type, or the file) on one side; the sizes are then met
            as nearly as whole groups allow.
    Raises:
        ConfigError: sizes without a meaning. OutputError: a part that exists already.
    """
    if not 2 <= len(sizes) <= len(PARTS):
        raise ConfigError(f"sizes {list(sizes)}: expected two or three numbers, for train, valid and test")
    places = [folder / f"{name}.extxyz" for name, _ in zip(PARTS, sizes, strict=False)]
    for place in places:
        if place.exists():
            raise OutputError(f"{place}: exists already; choose another folder or move it away")
    frames, groups = [], []
    for path in structure_files(files):
        for frame in read_frames(path):
            frames.append(frame)
            groups.append(group_of(frame, str(path)))
    parts = group_split(groups, sizes, seed) if by_group else random_split(len(frames), sizes, seed)
    counts = [_write(place, (frames[i] for i in part)) for place, part in zip(places, parts, strict=True)]
    wanted = [float(size) if isinstance(size, int) else size * len(frames) for size in sizes]
    held = [dict(sorted(Counter(groups[i] for i in part).items())) if by_group else {} for part in parts]
    return [
        Part(place.stem, count, str(place), share, names)
        for place, count, share, names in zip(places, counts, wanted, held, strict=True)
    ]


def _write(output: Path, frames: Iterable[Frame]) -> int:
    """An extxyz file, whole or not at all."""
    count = 0
    with atomic_path(output) as temporary, temporary.open("w", encoding="utf-8") as file:
        for frame in frames:
            file.write(frame_text(frame.atoms, frame.where))
            count += 1
    return count


def _write_list(output: Path, frames: Iterable[Frame]) -> int:
    """ASE's trajectory, which is written at once."""
    images = [frame.atoms for frame in frames]
    if images:
        with atomic_path(output) as temporary:
            temporary.unlink()
            write(temporary, images, format="traj")
    return len(images)
