"""Labels on the disk: one extended XYZ file that only grows, and that a killed run leaves readable."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from ase import Atoms

from mlanet.data.write import frame_text
from mlanet.files import cut_back, end_of_lines


class LabelStore:
    """Labelled structures and the numbers of those that were left out, in a folder.

    `labels.extxyz` holds frames with energy, forces, stress and their provenance in `info` (`number`, `recipe`,
    `source`, `teacher`, `round`, `print`); `left_out.jsonl` one line per structure without a label, with the reason.
    Frames are appended one by one and forced to the disk now and then; an incomplete last frame is cut off when opened.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "labels.extxyz"
        self.left_out = folder / "left_out.jsonl"
        _cut_torn_frame(self.path)
        cut_back(self.left_out, end_of_lines(self.left_out))
        self._frames = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - open as long as the store
        self._lines = open(self.left_out, "a", encoding="utf-8")  # noqa: SIM115 - likewise

    def numbers(self) -> set[int]:
        """Of the structures that need no labelling any more."""
        done = {int(_info(header, "number")) for header in self._headers()}
        with open(self.left_out, encoding="utf-8") as lines:
            return done | {json.loads(line)["number"] for line in lines}

    def prints(self) -> set[str]:
        """Of the structures in both files, so that none is labelled twice."""
        prints = {_info(header, "print").lstrip("#") for header in self._headers() if " print=" in header}
        with open(self.left_out, encoding="utf-8") as lines:
            return prints | {one for line in lines if (one := json.loads(line).get("print"))}

    def __len__(self) -> int:
        return sum(1 for _ in self._headers())

    def add(self, atoms: Atoms) -> None:
        """Append a labelled structure."""
        self._frames.write(frame_text(atoms))
        self._frames.flush()

    def leave_out(self, number: int, reason: str, **about: str) -> None:
        """Remember that structure `number` gets no label."""
        self._lines.write(json.dumps({"number": number, "reason": reason, **about}) + "\n")
        self._lines.flush()

    def sync(self) -> None:
        """Force everything to the disk."""
        for file in (self._frames, self._lines):
            os.fsync(file.fileno())

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        self._frames.close()
        self._lines.close()

    def _headers(self) -> Iterator[str]:
        """Comment lines of the frames."""
        with open(self.path, encoding="utf-8") as lines:
            for count in lines:
                yield next(lines)
                for _ in range(int(count)):
                    next(lines)


def _info(header: str, key: str) -> str:
    """A value of a comment line."""
    return header.partition(f" {key}=")[2].split(maxsplit=1)[0].strip('"')


def _cut_torn_frame(path: Path) -> None:
    """Shorten the file to its last whole frame."""
    if not path.exists():
        return
    whole = 0
    with open(path, "rb") as lines:
        for count in lines:
            try:
                frame = [next(lines) for _ in range(int(count) + 1)]
            except (StopIteration, ValueError, RuntimeError):
                break
            if not frame[-1].endswith(b"\n"):
                break
            whole += len(count) + sum(map(len, frame))
    if whole < path.stat().st_size:
        os.truncate(path, whole)
