"""What an unfinished run has done already: settings that must be the same, and structures known by their content.

Two places use this: folders of results, whose lines are found by content (`mlanet.properties.files`), and files that
grow in the order of the input (`Journal`, of `mlanet predict` and `relax`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from ase import Atoms

from mlanet.data.read import Frame
from mlanet.errors import ConfigError
from mlanet.files import append_whole, end_of_lines, write_whole, writing
from mlanet.workflows.growing import Growing, growing

T = TypeVar("T")

NAMES = {
    "model": "the model is another one",
    "members": "the members of the committee are others",
    "start": "the structure at the start is another one",
    "end": "the structure at the end is another one",
}
"""Settings that are kept as digests, which tell a reader nothing."""


def structure_print(atoms: Atoms) -> str:
    """What equal structures share: elements, positions, cell, pbc, and where there are any total charge and
    constraints."""
    parts = (atoms.numbers.astype(np.int64), atoms.positions, atoms.cell.array, atoms.pbc)
    content = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
    for name in ("total_charge", "charge"):
        if str(atoms.info.get(name, 0)) not in ("0", "0.0"):
            content += f"{name} {atoms.info[name]}".encode()
    for constraint in atoms.constraints:
        content += repr(constraint.todict()).encode()
    return hashlib.sha256(content).hexdigest()[:24]


def labelled_print(atoms: Atoms) -> str:
    """The same with everything that a structure carries, in which its labels are."""
    results = {} if atoms.calc is None else atoms.calc.results
    content = structure_print(atoms).encode()
    for place in (results, atoms.info, atoms.arrays):
        for name in sorted(place, key=str):
            value = np.asarray(place[name])
            content += str(name).encode() + (value.tobytes() if value.dtype.kind in "biufc" else repr(value).encode())
    return hashlib.sha256(content).hexdigest()[:24]


def changes(before: str, now: Mapping[str, object]) -> str:
    """In words, which settings are others than those of a JSON document; nothing if none are."""
    try:
        old = json.loads(before)
        names = [name for name in {**now, **old} if old.get(name) != json.loads(json.dumps(now.get(name)))]
        return ", ".join(NAMES.get(name) or f"{name} (was {old.get(name)}, now {now.get(name)})" for name in names)
    except (ValueError, AttributeError):
        return "its settings cannot be read"


class Journal:
    """Beside files that grow, a line for each structure in them, by which a later run finds where to go on.

    The first line holds the settings, each other one the print of a structure (of the input), what is to be said of
    it, and how long the files were after it. It is written after them: whatever it names is there, unless the disk lost
    it. It stays beside a file that is finished until `remove`, so that a run over many files knows what it has.

    Args:
        files: that grow with it, opened before; at least one.
        settings: what decides the answers, and the name of the `command`.
        resume: go on with what there is; else the first record begins everything anew.
        content: of a structure, what must be the same for it to be known.
    Raises:
        ConfigError: what there is was written with other settings.
    """

    def __init__(
        self,
        files: Sequence[Growing],
        settings: Mapping[str, object],
        resume: bool,
        content: Callable[[Atoms], str] = structure_print,
    ) -> None:
        self.files, self._settings, self._content = tuple(files), settings, content
        self.place = files[0].partial.with_name(files[0].partial.name + ".jsonl")
        self.count, self._size = 0, 0
        self._known: deque[dict[str, Any]] = deque()
        for file in files:
            file.advice = "; the same command with --resume goes on"
        if resume:
            self._read()

    @property
    def known(self) -> int:
        """How many structures are there that have not been met again."""
        return len(self._known)

    def _read(self) -> None:
        """What is there, as far as the files hold it; they are cut back to that."""
        try:
            head, *lines = self.place.read_bytes()[: end_of_lines(self.place)].splitlines()
        except (FileNotFoundError, ValueError):
            return
        if differing := changes(head.decode(errors="replace"), self._settings):
            what = f"{self.files[0].partial} was written with other settings ({differing})"
            raise ConfigError(f"{what}; go on with those, or begin anew without --resume")
        records: list[dict[str, Any]] = []
        with contextlib.suppress(ValueError, KeyError, TypeError):  # what comes after a damaged line is not trusted
            for line in lines:
                entry = json.loads(line)
                records.append({name: entry[name] for name in ("print", "sizes", "said")})
        sizes = [record["sizes"] for record in records]
        there = tuple(entry.held(last) for entry, last in zip(self.files, sizes[-1] if sizes else (), strict=False))
        count = sum(all(a <= b for a, b in zip(size, there, strict=True)) for size in sizes)
        if not count:
            return
        for entry, size in zip(self.files, sizes[count - 1], strict=True):
            entry.go_on(size, count)
        self.count, self._known = count, deque(records[:count])
        self._size = len(head) + 1 + sum(len(line) + 1 for line in lines[:count])

    def add(self, atoms: Atoms, said: Mapping[str, object]) -> None:
        """Take a structure (of the input) that the files hold now, and what is to be said of it.

        Raises:
            OutputError: it cannot be written.
        """
        record = {"print": self._content(atoms), "sizes": [file.size for file in self.files], "said": said}
        with writing(self.place):
            if not self.count:
                write_whole(self.place, (json.dumps(self._settings) + "\n").encode())
            elif self._size:  # of a run before, perhaps cut in the middle of a line
                os.truncate(self.place, self._size)
            append_whole(self.place, (json.dumps(record) + "\n").encode())
        self.count, self._size = self.count + 1, 0

    def going_on(
        self, frames: Iterable[Frame], work: Callable[[Iterator[Frame]], Iterable[T]], where: Callable[[T], str]
    ) -> Iterator[T | dict[str, Any]]:
        """Results in the order of the frames: what was said of known ones, and of the others what work makes of them.

        Args:
            frames: all of the input, those that are known too.
            work: takes frames as it needs them; gives results in order, and may pass frames over.
            where: of a result, that of its frame.
        Raises:
            ConfigError: known structures are not those at the beginning of the input.
        """
        met: deque[dict[str, Any]] = deque()
        before_known: set[str] = set()

        def unknown() -> Iterator[Frame]:
            for frame in frames:
                if self._known and self._content(frame.atoms) == self._known[0]["print"]:
                    met.append(self._known.popleft()["said"])
                    continue
                if self._known:  # passed over by the run before, unless the input has changed
                    before_known.add(frame.where)
                yield frame

        for answer in work(unknown()):
            if where(answer) in before_known:
                raise self._changed(where(answer))
            while met:
                yield met.popleft()
            yield answer
        while met:
            yield met.popleft()
        if self._known:
            raise self._changed("the end of the input")

    def _changed(self, where: str) -> ConfigError:
        """Told where what is there and the input part."""
        return ConfigError(
            f"{where}: {self.files[0].partial} holds another structure at this place, of an earlier run: the input "
            "has changed, or what could not be used then can be now; begin anew without --resume"
        )

    def remove(self) -> None:
        """At the end of all."""
        with contextlib.suppress(OSError):
            self.place.unlink(missing_ok=True)


@contextlib.contextmanager
def journalled(
    places: Sequence[Path | None],
    tell: Callable[[str], None],
    settings: Mapping[str, object],
    resume: bool,
    content: Callable[[Atoms], str] = structure_print,
) -> Iterator[tuple[list[Growing | None], Journal | None]]:
    """Growing files at these places, and their journal, which goes when the block ends without an error.

    Args:
        places: of files; None for one that nobody wants. · tell: see `growing`.
        settings, resume, content: see `Journal`.
    """
    with contextlib.ExitStack() as stack:
        files = [None if place is None else stack.enter_context(growing(place, tell)) for place in places]
        wanted = [file for file in files if file is not None]
        journal = Journal(wanted, settings, resume, content) if wanted else None
        yield files, journal
    if journal is not None:
        journal.remove()
