"""How every command prints: tables for people, one JSON document for programs, progress on stderr."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from mlanet.plain import plain, plain_json

if TYPE_CHECKING:
    from rich.table import Table

    from mlanet.calculator import MLANetCalculator
    from mlanet.plots import Drawing
    from mlanet.workflows.answers import Refusals

T = TypeVar("T")


def print_json(document: object) -> None:
    """One JSON document on stdout; NaN and infinities, which JSON does not have, become null."""
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(document, enc_hook=_as_data), indent=2).decode()
    print(plain_json(text), flush=True)


def say(text: str) -> None:
    """A line of the result for people, on stdout."""
    print(plain(text), flush=True)


def _as_data(value: object) -> object:
    """Paths as text, scalars and arrays of numpy and torch as numbers and lists."""
    if isinstance(value, Path):
        return os.fsencode(value).decode(errors="backslashreplace")
    if hasattr(value, "tolist"):
        return value.tolist()
    raise NotImplementedError(f"{type(value).__name__} has no form in JSON")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> None:
    """A table on stdout. A column whose name ends in `>` is aligned right; nothing is cut off when piped."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", caption=caption or None, caption_justify="left")
    for name in columns:
        table.add_column(name.rstrip(">"), justify="right" if name.endswith(">") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    _print_whole(table)


def print_pairs(title: str, pairs: Iterable[tuple[str, str]]) -> None:
    """Names and values, one per line."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(Text(plain(name)), Text(plain(value)))
    _print_whole(table)


UNITS = re.compile(
    r"(?P<name>.+?)_(?P<unit>(?:meV|eV|GPa|K|kB|ps|fs|A[23]?|THz|J|N|MiB|m2)(?:_per_[A-Za-z]+[23]?)*)(?P<or>_deg)?"
)
SYMBOLS = {"A": "Å", "A2": "Å²", "A3": "Å³", "m2": "m²"}


def name_with_unit(key: str) -> str:
    """A key of a JSON document as people write it.

    >>> name_with_unit("max_force_eV_per_A"), name_with_unit("cell_A_deg"), name_with_unit("steps")
    ('max force, eV/Å', 'cell, Å and °', 'steps')
    >>> name_with_unit("volume_A3_per_atom"), name_with_unit("binding_meV_per_A2")
    ('volume, Å³/atom', 'binding, meV/Å²')
    """
    match = UNITS.fullmatch(key)
    if match is None:
        return key.replace("_", " ")
    unit = "/".join(SYMBOLS.get(word, word) for word in match["unit"].split("_per_"))
    return f"{match['name'].replace('_', ' ')}, {unit}{' and °' if match['or'] else ''}"


def value_text(value: object, digits: str = ".4g") -> str:
    """A value as people read it; `digits`: of floats, as in a format.

    >>> value_text(True), value_text([1.0, 2.5], ".2f"), value_text(None), value_text("Si")
    ('yes', '1.00  2.50', '', 'Si')
    """
    if isinstance(value, list):
        return "  ".join(value_text(each, digits) for each in value)
    if value is None or isinstance(value, bool):
        return "" if value is None else "yes" if value else "no"
    return f"{value:{digits}}" if isinstance(value, float) else str(value)


def print_numbers(numbers: Mapping[str, object], digits: str = ".4g", others: Mapping[str, str] = {}) -> None:
    """Names with their units, and values; `others`: digits of some of them."""
    print_pairs("", [(name_with_unit(key), value_text(numbers[key], others.get(key, digits))) for key in numbers])


def short_name(where: str) -> str:
    """File and frame without folders."""
    return where.rsplit("/", 1)[-1]


def numbers_of(
    option: str,
    text: str,
    form: str,
    kind: Callable[[str], T] = float,  # type: ignore[assignment]
    allowed: Callable[[Sequence[T]], bool] = lambda _: True,
    between: str = ",",
) -> list[T]:
    """What an option lists.

    Raises:
        typer.BadParameter: it is not of the form.
    """
    with contextlib.suppress(ValueError):
        values = [kind(word) for word in text.split(between)]
        if allowed(values):
            return values
    raise typer.BadParameter(f"{option}: '{text}' is not of the form {form}")


def _print_whole(table: Table) -> None:
    """Folded to the terminal's width; in a file or pipe as wide as it needs."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=Console(width=10_000).measure(table).maximum)
    console.print(table)
    sys.stdout.flush()


WORDS: list[str] = []
"""The command line that is running, without the program's name."""


def command_again(*options: str) -> str:
    """The running command line, with more options if any, to be copied."""
    return shlex.join(["mlanet", *WORDS, *(option for option in options if option not in WORDS)])


def note(message: str) -> None:
    """A line for people, on stderr, so that stdout stays the result; no work is lost where stderr takes none."""
    with contextlib.suppress(OSError):
        print(plain(message), file=sys.stderr)


SAID: set[str] = set()
"""What `note_once` has said in the running command."""


def note_once(message: str) -> None:
    """A note that a command would repeat, such as for each picture or structure: said the first time."""
    if message not in SAID:
        SAID.add(message)
        note(message)


STOPPED = "stopped by Ctrl-C"
"""Begins what is said of an interruption."""


@contextlib.contextmanager
def going_on_with(folder: Path) -> Iterator[None]:
    """After Ctrl-C, a line about a folder in which the same command goes on."""
    try:
        yield
    except KeyboardInterrupt:
        note_once(f"{STOPPED}; what was finished is in {folder}; go on with: {command_again()}")
        raise


def note_matmul_cost(calculator: MLANetCalculator) -> None:
    """What fewer digits in matrix products cost, where they were asked for."""
    if calculator.matmul_cost is not None:
        note(str(calculator.matmul_cost))


NO_PICTURE = "; --no-picture asks for none"


def drawn(draw: Callable[[], None], instead: str = NO_PICTURE) -> bool:
    """Whether the picture of an answer is drawn; a note says why not, since no answer is lost for want of a picture.

    instead: what a user can do, behind the reason
    """
    from mlanet.errors import OutputError

    try:
        draw()
    except OutputError as error:
        note_once(f"warning: no picture: {error}{instead}")
        return False
    return True


def answer(
    document: Mapping[str, object],
    show: Callable[[], None],
    written: Iterable[Path],
    pictures: Sequence[Drawing],
    json: bool,
    remarks: Iterable[str] = (),
    instead: str = NO_PICTURE,
) -> bool:
    """What a command that draws has found: for people or for programs; whether every picture could be drawn.

    People read the answer first, and pictures are drawn behind it. A program gets its document when they are drawn,
    since `pictures` there are files that it can open; it gets it as well where drawing is interrupted or fails.

    - document: the answer for programs, to which `pictures` is added · show: prints it for people
    - written: files that are there · remarks: what a reader should know · instead: see `drawn`
    """
    if not json:
        show()
    for remark in remarks:
        note(remark)
    for path in () if json else written:
        note(f"wrote {path}")
    there: list[Path] = []
    try:
        for picture in pictures:
            if drawn(picture.draw, instead):
                there.append(picture.path)
                if not json:
                    note(f"wrote {picture.path}")
    finally:
        if json:
            print_json({**document, "pictures": there})
    return len(there) == len(pictures)


def refused_part(refused: Refusals | None) -> dict[str, list[str]]:
    """What a JSON document says of --keep-going; nothing without it."""
    return {} if refused is None else {"refused": refused.messages}


def end_with_answer(
    document: dict[str, object],
    show: Callable[[], None],
    written: Iterable[Path],
    pictures: Sequence[Drawing],
    json: bool,
    refused: Refusals | None,
) -> None:
    """The end of a command that draws only when it is asked to: as `answer`, and what was refused.

    Raises:
        typer.Exit: 1 if anything was refused, else 3 if a picture could not be drawn.
    """
    drawn_all = answer(document | refused_part(refused), show, written, pictures, json, instead="")
    report_refused(refused)
    if not drawn_all:
        raise typer.Exit(3)


def report_refused(refused: Refusals | None) -> None:
    """Under --keep-going: what could not be used, on stderr, and exit status 1 if there was anything.

    Raises:
        typer.Exit: there was.
    """
    if refused is None or not refused.messages:
        return
    note(f"{len(refused.messages)} that could not be used:")
    for message in refused.messages:
        note(f"  {message}")
    raise typer.Exit(1)


def print_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object, **__: object
) -> None:
    """`warnings.showwarning` of the command line: what a reader wants, without the place in the program."""
    note(f"warning: {message}" if issubclass(category, UserWarning) else f"{category.__name__}: {message}")


def progress(things: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Pass things on with a progress bar on stderr; nothing is drawn where stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        yield from bar.track(things, total=total, description=label)
