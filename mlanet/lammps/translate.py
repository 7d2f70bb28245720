"""Lines of a LAMMPS input that name this package's potential, as lines that a LAMMPS without it understands.

    pair_style mlanet                ->  pair_style none
    pair_coeff * * universal Si O    ->  variable mlanet_words string "universal Si O"
                                         include TALK
                                         include CONNECT

What these two say is made when LAMMPS reads it (`mlanet.lammps.talk`), so loops, variables, jumps and included files
mean what they always do. An input without any pair style gets the last three lines after each line that makes a box.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlanet.errors import DataError

WORDS = "mlanet_words"
"""The variable of LAMMPS that holds what stands behind `pair_coeff * *`."""
BOXES = ("create_box", "read_data", "read_restart")


def commands(text: str) -> Iterator[tuple[str, str]]:
    """(as written, as one line without comment) of every command; lines end in `&` or within triple quotes to go on."""
    written, whole = "", ""
    for line in text.splitlines(keepends=True):
        written += line
        whole += line.rstrip("\r\n")
        if whole.count('"""') % 2:
            whole += "\n"
        elif whole.rstrip().endswith("&"):
            whole = whole.rstrip()[:-1] + " "
        else:
            yield written, _uncommented(whole).strip()
            written, whole = "", ""
    if written:
        yield written, _uncommented(whole).strip()


def _uncommented(line: str) -> str:
    """Without what stands behind a # outside quotes."""
    return re.sub(r"""("{3}.*?"{3}|"[^"]*"|'[^']*')|#.*""", lambda found: found[1] or "", line, flags=re.S)


def files_of(path: Path) -> dict[Path, str]:
    """Texts of an input and of all that it includes or jumps to by a plain name.

    Raises:
        DataError: an input that cannot be read.
    """
    found: dict[Path, str] = {}
    waiting = [path]
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        try:
            found[one] = one.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{one}: cannot be read as an input of LAMMPS: {error}") from None
        for _, line in commands(found[one]):
            if (named := _other(line)) is not None and Path(named).is_file():
                waiting.append(Path(named))
    return found


def _other(line: str) -> str | None:
    """The file that a line continues in."""
    words = line.split()
    if len(words) > 1 and words[0] in ("include", "jump") and words[1] != "SELF":
        return words[1].strip("\"'")
    return None


def translated(texts: dict[Path, str], folder: Path, asking: Sequence[Path]) -> dict[Path, str]:
    """New texts by the place in `folder` where they belong; the first is that of the input.

    Raises:
        DataError: a pair style that combines this potential with others, which takes the compiled one.
    """
    places = {one: folder / f"{number}-{one.name}" for number, one in enumerate(texts)}
    styles = [line for text in texts.values() for _, line in commands(text) if _is_style(line)]
    if styles and not any("mlanet" in line.split() for line in styles):
        raise DataError(
            f"{next(iter(texts))}: sets '{styles[0]}' and never `pair_style mlanet`, so the model would have no part "
            "in it; write `pair_style mlanet` and `pair_coeff * * MODEL ELEMENTS`, or no pair style at all"
        )
    return {places[one]: "".join(_lines(one, text, places, asking, not styles)) for one, text in texts.items()}


def _is_style(line: str) -> bool:
    return line.split()[:1] == ["pair_style"]


def _lines(where: Path, text: str, places: dict[Path, Path], asking: Sequence[Path], everywhere: bool) -> Iterator[str]:
    ours = True
    for written, line in commands(text):
        words = line.split()
        if (named := _other(line)) is not None and Path(named) in places:
            yield written.replace(named, str(places[Path(named)]))
        elif _is_style(line) and "mlanet" in words:
            if words[1:] != ["mlanet"]:
                raise DataError(
                    f"{where}: '{line}': in one process the pair style is `pair_style mlanet` alone; for options and "
                    "hybrid styles build the compiled one (mlanet lammps build) and run lmp itself"
                )
            ours = True
            yield "pair_style none\n"
        elif _is_style(line):
            ours = False
            yield written
        elif words[:3] == ["pair_coeff", "*", "*"] and ours:
            yield from _ask(" ".join(words[3:]), asking)
        else:
            yield written if written.endswith("\n") else written + "\n"
            if everywhere and words[:1] and words[0] in BOXES:
                yield from _ask("", asking)


def _ask(words: str, asking: Sequence[Path]) -> Iterator[str]:
    yield f"variable {WORDS} delete\n"
    yield f'variable {WORDS} string "{words}"\n'
    for request in asking:
        yield f'include "{request}"\n'
