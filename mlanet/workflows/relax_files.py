"""Relaxing any number of structures from files: every place is known to be good before anything is computed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ase import Atoms
from ase.calculators.calculator import Calculator

from mlanet.batched_potential import BatchedPotential
from mlanet.data.empty_space import empty_axes
from mlanet.data.formats import (
    BARE,
    LABELLED,
    Refused,
    bare_name,
    is_folder,
    mistaken_by_ase,
    pass_over,
    structure_files,
    written_format,
)
from mlanet.data.read import Frame
from mlanet.data.write import frame_text, write_one
from mlanet.errors import ConfigError, GeometryError, MLANetError, named
from mlanet.limits import UNKNOWN, Assessment, Watch
from mlanet.workflows.answers import frames_of
from mlanet.workflows.cell import held_vectors, space_group, strain_mask
from mlanet.workflows.growing import growing, partial_name
from mlanet.workflows.output import atomic_path, refuse_overwriting
from mlanet.workflows.relax import FELT, Descent, Relaxed, Step, finished, joined, relaxation
from mlanet.workflows.relax_batched import Course, relax_all
from mlanet.workflows.resuming import Journal


@dataclass(frozen=True)
class Wanted:
    """How to relax (see `mlanet.workflows.relax.relaxation`), which frames of each file (ASE's index), and whether to
    stop where one leaves the training set."""

    cell: str = "fixed"
    pressure: float = 0.0
    fmax: float = 0.01
    steps: int = 500
    method: str = "lbfgs"
    frames: str = "-1"
    stop_outside: bool = False
    hold: str = ""
    vacuum: str = "none"
    symmetry: float | None = None

    @property
    def settings(self) -> dict[str, object]:
        """By name."""
        return asdict(self)


class Plan(NamedTuple):
    """Files, and where their structures go.

    - places: of each result, the files whose structures it gets · one: whether it is about a single structure
    - remarks: what a user should know beforehand
    """

    places: dict[Path, list[Path]]
    one: bool
    remarks: list[str]

    @property
    def files(self) -> int:
        """How many files."""
        return sum(map(len, self.places.values()))


class Done(NamedTuple):
    """One structure that was relaxed: where it came from and went to, its numbers, and what a user should know."""

    structure: str
    file: Path
    numbers: dict[str, object]
    converged: bool
    remark: str


class Goes(NamedTuple):
    """How a run goes on where another one has stopped: whether it does, and what must be the same (`Journal`)."""

    on: bool = False
    settings: Mapping[str, object] = MappingProxyType({})


class Means(NamedTuple):
    """What relaxes, and what is told of it.

    - calculator: of the model · cutoff: Å, of the model
    - watch: passes the steps of one relaxation on, under a word for what is done, and shows them
    - also: further numbers of a relaxed structure · tell: see `mlanet.workflows.growing`
    - assessment: of the calculator's last answer
    - batched_potential: relaxes many at a time in place of the calculator, if given
    - elsewhere: relaxes frames in other processes, by `relaxed_frames` there, if given
    """

    calculator: Calculator
    cutoff: float
    watch: Callable[[Iterable[Step], str], Iterable[Step]] = lambda course, _: course
    also: Callable[[Atoms], dict[str, object]] = lambda _: {}
    tell: Callable[[str], None] = print
    assessment: Callable[[], Assessment] = lambda: Assessment(UNKNOWN)
    batched_potential: BatchedPotential | None = None
    elsewhere: Callable[[Iterable[Frame], Refused | None], Iterator[tuple[Frame, Relaxed]]] | None = None


def plan(files: Sequence[Path], output: Path | None, wanted: Wanted, refused: Refused | None = None) -> Plan:
    """Where everything goes, with every reason for which it could not go there asked beforehand.

    Args:
        files: of structures, or folders of files.
        output: for all; None: `NAME_relaxed.extxyz` beside each file.
        wanted: how.
        refused: is handed the errors of folders that are of no use.
    Raises:
        ConfigError: a folder without an output.
        OutputError: a name that stands for no format, an input as an output, or one output for two inputs.
    """
    if output is None and any(is_folder(path) for path in files):
        raise ConfigError("the structures of a folder are relaxed into one file; name it with --output")
    listed = structure_files(files, refused)
    one = len(files) == len(listed) == 1 and wanted.frames.removeprefix("-").isdigit()
    targets = [_place(path) if output is None else output for path in listed]
    distinct = targets if output is None else targets[:1]
    remarks = []
    for target in distinct:
        kind = written_format(target, (*LABELLED, *BARE) if one else ("extxyz",))
        if kind in BARE:
            remarks.append(f"note: {target}: this format holds no energy, forces and stress; .extxyz does")
        if (theirs := mistaken_by_ase(target)) is not None:
            remarks.append(f"note: ASE takes the name {target.name} for '{theirs}'; read it with format='{kind}'")
    refuse_overwriting([*distinct, *map(partial_name, distinct)], listed)
    places: dict[Path, list[Path]] = {}
    for path, target in zip(listed, targets, strict=True):
        places.setdefault(target, []).append(path)
    return Plan(places, one, remarks)


def _place(path: Path) -> Path:
    """`si_relaxed.extxyz` for si.cif, `poscar_relaxed.extxyz` for POSCAR, since ASE takes POSCAR… for VASP's format."""
    name = bare_name(path)
    place = path.with_name(f"{Path(name).stem}_relaxed.extxyz")
    return place if mistaken_by_ase(place) is None else path.with_name(place.name.lower())


def relax_files(
    planned: Plan,
    means: Means,
    wanted: Wanted,
    refused: Refused | None = None,
    goes: Goes = Goes(),  # noqa: B008 - frozen
) -> Iterator[Done]:
    """Relax one structure after another, each written as it is finished.

    Args:
        planned: of `plan`.
        means: with what.
        wanted: how.
        goes: whether what a run before has written is kept; only what is missing is relaxed then.
        refused: is handed the errors of files and frames that cannot be used or relaxed, which are passed over; None:
            such an error is raised, and what was relaxed before stays.
    Raises:
        DataError, GeometryError: a structure that cannot be read or relaxed.
        OutputError: a place that cannot be written.
        ConfigError: a run before had other settings, or another input.
    """
    journals = []
    for target, files in planned.places.items():
        kind = written_format(target, (*LABELLED, *BARE))
        if kind != "extxyz":
            for frame, relaxed in _relaxed(frames_of(files, refused, wanted.frames), means, wanted, refused):
                with atomic_path(target) as temporary:
                    temporary.unlink()
                    write_one(temporary, relaxed.atoms, kind)
                yield _done(frame, target, relaxed)
            continue
        with growing(target, means.tell) as file:
            journal = Journal([file], {**goes.settings, **wanted.settings}, goes.on)
            journals.append(journal)
            frames = frames_of(files, refused, wanted.frames)
            for pair in journal.going_on(frames, lambda new: _relaxed(new, means, wanted, refused), _where):
                if isinstance(pair, dict):
                    yield Done(**(pair | {"file": target}))
                    continue
                frame, relaxed = pair
                file.add(frame_text(relaxed.atoms, frame.where))
                done = _done(frame, target, relaxed)
                journal.add(frame.atoms, done._asdict() | {"file": str(target)})
                yield done
    for journal in journals:
        journal.remove()


def _where(pair: tuple[Frame, Relaxed]) -> str:
    return pair[0].where


def _relaxed(
    frames: Iterable[Frame], means: Means, wanted: Wanted, refused: Refused | None
) -> Iterator[tuple[Frame, Relaxed]]:
    """Structures where their relaxations ended."""
    if means.elsewhere is not None:
        return means.elsewhere(frames, refused)
    return relaxed_frames(frames, means, wanted, refused)


def relaxed_frames(
    frames: Iterable[Frame], means: Means, wanted: Wanted, refused: Refused | None
) -> Iterator[tuple[Frame, Relaxed]]:
    """Structures where their relaxations ended, in their order; arguments and errors as `relax_files`."""
    one_by_one = ((frame, _alone(frame, means, wanted)) for frame in frames)
    for frame, relaxed in (
        one_by_one if means.batched_potential is None else _batched(frames, means, means.batched_potential, wanted)
    ):
        if isinstance(relaxed, Relaxed):
            yield frame, relaxed
        else:
            pass_over(named(relaxed, frame.where), refused)


class _Relaxing:
    """A structure on its way."""

    def __init__(self, frame: Frame, means: Means, wanted: Wanted) -> None:
        self.means, self.wanted, self.watch = means, wanted, Watch()
        self.atoms = frame.atoms.copy()
        self.joined = joined(self.atoms, FELT * means.cutoff)
        if wanted.cell == "fixed":  # its images stay where they are
            self.joined = self.joined._replace(directions=0)
        self.vacuum = _vacuum(self.atoms, wanted)
        names = ("cell", "pressure", "fmax", "steps", "method", "hold", "symmetry")
        self.options: dict[str, Any] = {name: getattr(wanted, name) for name in names}
        self.options |= {"where": frame.where, "vacuum": self.vacuum}

    def sees(self, step: Step, assessment: Assessment) -> bool:
        """Whether to end there: at the first step outside the training set, where that is wanted."""
        self.watch.sees(assessment, f"step {step.number}")
        return self.wanted.stop_outside and self.watch.outside

    def watched(self) -> Iterator[Step]:
        """The steps, one by one."""
        self.atoms.calc = self.means.calculator
        for step in relaxation(self.atoms, **self.options):
            ended = self.sees(step, self.means.assessment())
            yield step
            if ended:
                return

    def arrived(self, last: Step) -> Relaxed | MLANetError:
        """What came out, or why that cannot be said."""
        try:
            return self._result(last)
        except MLANetError as error:
            return error

    def _result(self, last: Step) -> Relaxed:
        result = finished(self.atoms, last, self.means.cutoff, self.joined)
        numbers = result.numbers | self.means.also(self.atoms) | self.watch.numbers()
        numbers |= _kept(self.atoms, self.wanted, self.vacuum)
        if self.wanted.stop_outside and self.watch.outside:
            return result._replace(numbers=numbers | {"converged": False}, converged=False)
        return result._replace(numbers=numbers)


def _alone(frame: Frame, means: Means, wanted: Wanted) -> Relaxed | MLANetError:
    """One structure, or why there is none."""
    try:
        relaxing = _Relaxing(frame, means, wanted)
        *_, last = means.watch(relaxing.watched(), "relaxing")
    except MLANetError as error:
        return error
    return relaxing.arrived(last)


def _batched(
    frames: Iterable[Frame], means: Means, batched_potential: BatchedPotential, wanted: Wanted
) -> Iterator[tuple[Frame, Relaxed | MLANetError]]:
    """All of them, many at a time."""
    known: dict[int, _Relaxing] = {}

    def course(frame: Frame) -> Course:
        one = known[id(frame)] = _Relaxing(frame, means, wanted)
        descent = Descent(one.atoms, **one.options)
        return Course(descent, lambda step: one.sees(step, one.atoms.calc.assessment))

    for frame, arrived in relax_all(batched_potential, frames, course):
        one = known.pop(id(frame), None)
        if isinstance(arrived, MLANetError):
            yield frame, arrived
        elif one is not None:
            yield frame, one.arrived(arrived)


def _vacuum(atoms: Atoms, wanted: Wanted) -> str:
    """Lattice vectors along empty space, that is none where found ones are not apart along Cartesian axes."""
    if wanted.vacuum != "auto" or wanted.cell != "full":
        return wanted.vacuum if wanted.cell == "full" else "none"
    held = held_vectors(atoms, wanted.hold, "auto")
    if len(held) < atoms.pbc.sum():
        with contextlib.suppress(GeometryError):
            strain_mask(atoms, held)
            return "".join(empty_axes(atoms)) or "none"
    return "none"


def _kept(atoms: Atoms, wanted: Wanted, vacuum: str) -> dict[str, object]:
    """What was held."""
    kept: dict[str, object] = {} if wanted.symmetry is None else {"space_group": space_group(atoms, wanted.symmetry)}
    if wanted.cell == "full" and (held := held_vectors(atoms, wanted.hold, vacuum)):
        kept["held_vectors"] = held
    return kept


def _done(frame: Frame, target: Path, relaxed: Relaxed) -> Done:
    """What is said of one."""
    remarks = []
    held = str(relaxed.numbers.get("held_vectors", ""))
    for axis, gap in empty_axes(relaxed.atoms).items():
        if axis in held:
            kept = "held; --vacuum none lets it change"
            remarks.append(f"note: {frame.where}: {gap:.1f} Å along {axis} are empty, so that vector is {kept}")
    if relaxed.apart:
        remarks.append(f"came apart: {frame.where}: {relaxed.apart}")
    if (reason := relaxed.numbers.get("extrapolation_reason")) is not None:
        remarks.append(f"{relaxed.numbers['extrapolation']} of the training set: {frame.where}, {reason}")
    if not relaxed.converged and not relaxed.apart:
        advice = f"go on from {target} or allow more --steps"
        remarks.append(f"{frame.where}: not converged after {relaxed.numbers['steps']} steps; {advice}")
    return Done(frame.where, target, relaxed.numbers, relaxed.converged, "\n".join(remarks))
