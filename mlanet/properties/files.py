"""A property of many structures from files: one folder of results, which a second run goes on with."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ase import Atoms

from mlanet.data.formats import Refused, pass_over, structure_files
from mlanet.data.read import Frame, read_frames
from mlanet.errors import ConfigError, MLANetError, OutputError, named
from mlanet.files import append_whole, cut_back, end_of_lines, table_text, write_whole
from mlanet.ownership import owned
from mlanet.workflows.resuming import changes, structure_print
from mlanet.workflows.workers import Crew, WorkerLostError, in_order, remarks_in

RESULTS, SETTINGS, TABLE = "results.jsonl", "settings.json", "results.csv"


class Answer(NamedTuple):
    """Numbers of one structure by name and unit, and its picture, for which they need not wait."""

    numbers: Mapping[str, object]
    draw: Callable[[], None] | None = None


Measure = Callable[[Atoms, str, Path], Answer]
"""A structure with its calculator, its place for errors, and the stem of its files -> what is found."""


class Item(NamedTuple):
    """A structure, its print, and the stem of its files."""

    frame: Frame
    content: str
    stem: Path


class Outcome(NamedTuple):
    """What was found of one: numbers or an error, what a user should know, and a picture that is still to be drawn."""

    numbers: dict[str, Any] = {}  # noqa: RUF012 - not changed
    error: MLANetError | None = None
    remarks: tuple[str, ...] = ()
    old: bool = False
    draw: Callable[[], None] | None = None


def measured_one(measure: Measure, calculator: Any, item: Item, drawn: bool) -> Outcome:
    """The property of one structure; its picture is drawn here, or left to whoever gets the outcome."""
    frame, draw = item.frame, None
    atoms = frame.atoms.copy()
    atoms.calc = calculator
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            numbers, draw = measure(atoms, frame.where, item.stem)
            numbers, error = dict(numbers), None
            if drawn and draw is not None:
                _draw(draw)
        except MLANetError as failed:
            numbers, error = {}, named(failed, frame.where)
    return Outcome(numbers, error, tuple(remarks_in(heard)), draw=None if drawn else draw)


def _draw(draw: Callable[[], None]) -> None:
    """A picture; numbers stay without one."""
    try:
        draw()
    except OutputError as error:
        warnings.warn(f"no picture: {error}; --no-picture asks for none", stacklevel=2)


class Measured(NamedTuple):
    """What was found of one structure, now or by an earlier run (`old`), and a picture that is still to be drawn."""

    structure: str
    numbers: dict[str, Any]
    old: bool = False
    draw: Callable[[], None] | None = None


class Folder:
    """Results of one property with one set of settings, a line for each structure, found again by its content.

    Args:
        path: made if it is missing.
        settings: `property` (the command), model and options; a folder of others is refused.
    Raises:
        ConfigError: a folder of another property, model or options.
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path, settings: Mapping[str, object]) -> None:
        self.path, self.what = path, f"mlanet {settings['property']}"
        text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
        place = path / SETTINGS
        try:
            path.mkdir(parents=True, exist_ok=True)
            before = place.read_text() if place.exists() else None
        except (OSError, UnicodeDecodeError) as error:
            raise OutputError(
                f"{path}: cannot be used as a folder: {getattr(error, 'strerror', None) or error}"
            ) from None
        if before is not None and before != text:
            raise ConfigError(f"{path} holds results of other settings ({changes(before, settings)}); choose --output")
        self._text = text
        self.known = self._read()

    def claim(self) -> None:
        """Write the settings: before the first result, so that a run that was refused leaves the folder to others."""
        place = self.path / SETTINGS
        if not place.exists():
            write_whole(place, self._text.encode())

    def _read(self) -> dict[str, dict[str, Any]]:
        """Complete lines of an earlier run, by print."""
        place = self.path / RESULTS
        if not place.exists():
            return {}
        cut_back(place, end_of_lines(place))
        try:
            records = [json.loads(line) for line in place.read_text().splitlines()]
            return {record["print"]: record for record in records}
        except (ValueError, KeyError, TypeError):
            raise OutputError(f"{place}: is no list of results; move it away or choose another --output") from None

    def add(self, record: dict[str, Any]) -> None:
        """A line, whole."""
        self.claim()
        append_whole(self.path / RESULTS, (json.dumps(record) + "\n").encode())
        self.known[record["print"]] = record

    def table(self, done: Sequence[Measured]) -> Path:
        """`results.csv`: a row for each structure, a column for each single number."""
        rows = [{"structure": result.structure, **_single(result.numbers)} for result in done]
        write_whole(self.path / TABLE, table_text(rows).encode())
        return self.path / TABLE


def measured(
    files: Sequence[Path],
    measure: Callable[[Item], Outcome],
    folder: Folder,
    index: str,
    refused: Refused | None = None,
    crew: Crew = Crew(),  # noqa: B008 - frozen
    tell: Callable[[str], None] = print,
    beside: Sequence[str] = (),
) -> Iterator[Measured]:
    """The structures in their order, each written as it is finished; what the folder has is not computed again.

    Args:
        files: of structures, or folders of files.
        measure: the property of one (`measured_one`); with a crew, a function that other processes can import.
        folder: of the results.
        index: which frames of each file, as in ASE.
        refused: is handed errors of files and structures, which are passed over; None: the error is raised.
        crew: who computes.
        tell: is told what a user should know of a structure.
        beside: ends of the files of each structure, such as `.png`; one that lacks any is measured again.
    Raises:
        MLANetError: with file and frame; what was finished before stays.
    """

    def known(item: Item) -> Outcome | None:
        record = folder.known.get(item.content)
        if record is None or not all(item.stem.with_name(item.stem.name + end).exists() for end in beside):
            return None
        return Outcome(record["numbers"], old=True)

    def items() -> Iterator[Item]:
        for frame, path in _frames(files, index, refused):
            yield Item(frame, structure_print(frame.atoms), folder.path / _stem(frame, path))

    with owned(folder.path, folder.what):
        for item, answer in in_order(crew, measure, items(), known):
            where = item.frame.where
            outcome = Outcome(error=named(answer, where)) if isinstance(answer, WorkerLostError) else answer
            for remark in outcome.remarks:
                tell(f"warning: {remark}")
            if outcome.error is not None:
                pass_over(outcome.error, refused)
                continue
            if not outcome.old:
                folder.add({"print": item.content, "structure": where, "numbers": outcome.numbers})
            yield Measured(where, outcome.numbers, outcome.old, outcome.draw)


def _frames(files: Iterable[Path], index: str, refused: Refused | None) -> Iterator[tuple[Frame, Path]]:
    for path in structure_files(files, refused):
        for frame in read_frames(path, index=index, refused=refused):
            yield frame, path


def _stem(frame: Frame, path: Path) -> str:
    """`si` of si.cif, `data-3` of the fourth frame of data.extxyz; letters that every file system has."""
    number = re.search(r"frame (\d+)", frame.where)
    name = path.name.split(".")[0] or path.name
    name = re.sub(r"[^\w-]", "_", f"{name}-{number[1]}" if number else name)
    return name[:100]


def _single(numbers: Mapping[str, object]) -> dict[str, object]:
    """Without lists, except short ones, whose entries get a column each; a matrix is left to the JSON lines."""
    columns: dict[str, object] = {}
    for name, value in numbers.items():
        if not isinstance(value, list):
            columns[name] = value
        elif value and not isinstance(value[0], list):
            columns |= {f"{name}_{k + 1}": number for k, number in enumerate(value)}
    return columns
