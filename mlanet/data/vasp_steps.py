"""Ionic steps of VASP whose electrons did not converge: files hold them like any other step, and ASE reads them so."""

from __future__ import annotations

import io
import itertools
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np
from ase import Atoms

from mlanet.data.truncation import open_text

if TYPE_CHECKING:
    from mlanet.data.read import Frame

MARK = "converged_electronic"
"""Key of `info`, named as in pymatgen: false where the electrons of a frame did not converge. It stays in extxyz."""

KINDS = ("vasp-xml", "vasp-out")
"""ASE's names of the formats that tell electronic steps: vasprun.xml and OUTCAR."""

_XML = re.compile(
    r'<calculation|<scstep|</scstep|<energy>|name="(NELM|EDIFF)">\s*([^<\s]+)|name="e_fr_energy">\s*([^<\s]+)'
)
_OUTCAR = re.compile(
    r"\b(NELM|EDIFF)\s*=\s*([^\s;]+)|Iteration\s+\d+\(\s*(\d+)\)|total energy-change[^:]*:\s*([^\s(]+)"
    r"|EDIFF was not reached|FREE ENERGIE OF THE ION-ELECTRON SYSTEM|energy\s+without entropy"
)
_SHOWN = 10


class Step(NamedTuple):
    """One ionic step: how many electronic steps it took, and by how much the last one changed the energy, eV."""

    taken: int
    change: float
    given_up: bool
    """Whether VASP itself says that EDIFF was not reached."""


def marked(
    frames: Iterable[Atoms], path: Path, kind: str, source: str | IO[str] | IO[bytes], wanted: int | slice
) -> Iterator[Atoms]:
    """The same frames, those of unconverged electrons with `MARK` in `info`; a warning names them.

    A step has not converged where it took all NELM electronic steps and the last one still changed the energy by more
    than EDIFF, or where VASP says so.

    Args:
        frames: of one file, as `wanted` selects them.
        path: named in the warning.
        kind: ASE's name of the format; frames of all but `KINDS` pass as they are.
        source: the file's name, or its text in memory.
        wanted: ASE's index of the frames.
    """
    if kind not in KINDS:
        yield from frames
        return
    with open_text(source) as text:
        most, good = (of_xml if kind == "vasp-xml" else of_outcar)(text)
    if isinstance(source, io.StringIO):
        source.seek(0)
    numbers = np.arange(len(good))
    chosen = numbers[wanted] if isinstance(wanted, slice) else numbers[wanted:][:1]
    if not all(good[number] for number in chosen):
        named = listed([int(number) for number in chosen if not good[number]])
        warnings.warn(
            f"{path}: the electrons did not converge within NELM = {most} steps in {named}; "
            "energies and forces there are wrong by an unknown amount",
            stacklevel=2,
        )
    for atoms, number in itertools.zip_longest(frames, chosen):
        if atoms is None:
            return
        if number is not None and not good[number]:
            atoms.info[MARK] = False
        yield atoms


def converged(frames: Iterable[Frame], path: Path, found: list[int] | None = None) -> Iterator[Frame]:
    """The frames of a file that are fit to learn from; a warning at the end says which were not.

    - found: gets the numbers of those that are left out
    """
    out = [] if found is None else found
    number = -1
    for number, frame in enumerate(frames):
        if is_unconverged(frame.atoms):
            out.append(number)
        else:
            yield frame
    if out:
        warnings.warn(
            f"{path}: left out {len(out)} of {number + 1} frames, whose electrons did not converge ({listed(out)}); "
            "data.keep_unconverged (--keep-unconverged) keeps them",
            stacklevel=2,
        )


def is_unconverged(atoms: Atoms) -> bool:
    """Whether a frame says that its electrons did not converge."""
    mark = atoms.info.get(MARK)
    return isinstance(mark, bool | np.bool_) and not mark


def listed(numbers: Sequence[int]) -> str:
    """`frame 3`, or `frames 1, 2, 5`, cut where there are many."""
    more = f" and {len(numbers) - _SHOWN} more" * (len(numbers) > _SHOWN)
    return f"frame{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:_SHOWN]))}{more}"


def of_xml(lines: Iterable[str]) -> tuple[int, list[bool]]:
    """NELM, and whether each ionic step of a vasprun.xml converged; a last one without its energy is none."""
    settings: dict[str, str] = {}
    energies: list[list[float]] = []
    whole, inside = True, False
    for token in _tokens(_XML, lines):
        name, setting, energy = token.groups()
        if name:
            settings[name] = setting
        elif energy:
            if inside:
                energies[-1][-1] = _number(energy)
        elif token[0] == "<calculation":
            energies.append([])
            whole = inside = False
        elif token[0] == "<scstep" and energies:
            energies[-1].append(float("nan"))
            inside = True
        elif token[0] == "</scstep":
            inside = False
        elif token[0] == "<energy>" and not inside:
            whole = True
    steps = [Step(len(one), one[-1] - one[-2] if len(one) > 1 else 0.0, False) for one in energies]
    return _judged(settings, steps if whole else steps[:-1])


def of_outcar(lines: Iterable[str]) -> tuple[int, list[bool]]:
    """NELM, and whether each ionic step of an OUTCAR converged; a last one without its energy is none."""
    settings: dict[str, str] = {}
    steps: list[Step] = []
    step, ended = Step(0, 0.0, False), False
    for token in _tokens(_OUTCAR, lines):
        name, setting, iteration, change = token.groups()
        if name:
            settings[name] = setting
        elif iteration:
            step = step._replace(taken=int(iteration))
        elif change:
            step = step._replace(change=_number(change))
        elif token[0].startswith("EDIFF"):
            step = step._replace(given_up=True)
        elif token[0].startswith("FREE"):
            ended = True
        elif ended:  # electronic steps have such a line too
            steps.append(step)
            step, ended = Step(0, 0.0, False), False
    return _judged(settings, steps)


def _tokens(pattern: re.Pattern[str], lines: Iterable[str]) -> Iterator[re.Match[str]]:
    return itertools.chain.from_iterable(map(pattern.finditer, lines))


def _judged(settings: dict[str, str], steps: Sequence[Step]) -> tuple[int, list[bool]]:
    """Whether steps converged; one electronic step alone tells no change, as in runs that are not self-consistent."""
    most, least = _number(settings.get("NELM", "inf")), _number(settings.get("EDIFF", "inf"))
    spent = [step.taken >= most and step.taken > 1 and not abs(step.change) <= least for step in steps]
    good = [not (late or step.given_up) for late, step in zip(spent, steps, strict=True)]
    return int(most) if np.isfinite(most) else 0, good


def _number(text: str) -> float:
    """NaN for the stars that Fortran writes where a number does not fit."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
