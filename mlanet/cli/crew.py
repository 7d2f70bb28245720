"""The parts of commands that other processes compute: what they open, they open once."""

from __future__ import annotations

import dataclasses
import functools
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlanet.errors import ConfigError
from mlanet.execution import Execution

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ase import Atoms

    from mlanet.calculator import MLANetCalculator
    from mlanet.data.formats import Refused
    from mlanet.data.labels import LabelKeys
    from mlanet.data.read import Frame
    from mlanet.execution import Answering
    from mlanet.potential import Potential
    from mlanet.properties.files import Answer, Item, Measure, Outcome
    from mlanet.workflows.evaluate import Compared
    from mlanet.workflows.predict import Predicted
    from mlanet.workflows.relax import Relaxed
    from mlanet.workflows.relax_files import Means, Wanted
    from mlanet.workflows.workers import Crew, Part


def crew_of(workers: int, ray: str | None, execution: Execution) -> Crew:
    """Who works.

    Raises:
        ConfigError: processes that would share one GPU.
    """
    from mlanet.workflows.workers import Crew

    crew = Crew(workers, ray)
    if not crew.alone and ray is None and execution.device.startswith("cuda"):
        raise ConfigError("processes of one machine would share its GPU; compute without --workers, or on Ray")
    return crew


@dataclasses.dataclass(frozen=True)
class Job:
    """What the processes of one command share.

    - model: as named, a file by its whole path · execution: how it computes · max_edges: of a batch
    - keep_going: whether structures that cannot be used are passed over · digest: of the model's file
    - members: the other models of a committee · atomic_stress: whether stresses of single atoms are wanted
    """

    model: str
    execution: Execution
    max_edges: int = 20_000
    keep_going: bool = False
    digest: str = ""
    members: tuple[Job, ...] = ()
    atomic_stress: bool = False

    @classmethod
    def of(
        cls,
        model: str,
        execution: Execution,
        max_edges: int = 20_000,
        keep_going: bool = False,
        members: Sequence[str] = (),
        atomic_stress: bool = False,
    ) -> Job:
        """A job that processes in other folders understand; a model's file is known by what is in it."""
        from mlanet.model_files import digest_of, model_path

        place = model_path(model)
        named = os.path.abspath(place) if os.path.isfile(model) else model
        others = tuple(cls.of(member, execution) for member in members)
        return cls(named, execution, max_edges, keep_going, digest_of(place), others, atomic_stress)

    @property
    def bounds(self) -> dict[str, object]:
        """Of a batch."""
        return {"max_edges": self.max_edges, "max_memory": self.execution.max_memory}

    def settings(self, command: str) -> dict[str, object]:
        """What must be the same for a run to go on with another's file, beside the words of the command."""
        others = [member.digest for member in self.members]
        return {"command": command, "model": self.digest, "members": others, "dtype": self.execution.dtype}

    def potential(self) -> Potential:
        """Opened once in each process."""
        return _potential(self.model, self.execution, self.digest)

    def answering(self) -> Answering:
        """The same, without torch where that can be and there is no committee."""
        return self.potential() if self.members else _answering(self.model, self.execution, self.digest)

    def calculator(self) -> MLANetCalculator:
        """Opened once in each process."""
        return _calculator(self.model, self.execution, self.digest)

    def others(self) -> list[Potential]:
        """The other members, opened once in each process."""
        return [member.potential() for member in self.members]


@functools.lru_cache(maxsize=16)
def _potential(model: str, execution: Execution, digest: str) -> Potential:
    from mlanet.workflows.model import open_model

    return open_model(model, execution, tell=warnings.warn)


@functools.lru_cache(maxsize=16)
def _answering(model: str, execution: Execution, digest: str) -> Answering:
    from mlanet.workflows.model import open_answering

    return open_answering(model, execution, tell=warnings.warn)


@functools.lru_cache(maxsize=1)
def _calculator(model: str, execution: Execution, digest: str) -> MLANetCalculator:
    from mlanet.calculator import MLANetCalculator

    return MLANetCalculator(model, **execution.of_steps())


def predictions(
    job: Job, answering: Answering, members: Sequence[Answering], frames: Iterable[Frame], refused: Refused | None
) -> Iterator[Predicted]:
    """What `mlanet predict` computes of frames, in this process."""
    from mlanet.workflows.predict import predict_frames

    options: Any = {**job.bounds, "members": members, "atomic_stress": job.atomic_stress}
    return predict_frames(answering, frames, **options, refused=refused)


def predicted(job: Job, frames: list[Frame]) -> Part[Predicted]:
    """A part of `mlanet predict`."""
    from mlanet.workflows.workers import gathered

    return gathered(lambda refused: predictions(job, job.answering(), job.others(), frames, refused), job.keep_going)


def comparisons(
    job: Job,
    keys: LabelKeys,
    potential: Potential,
    members: Sequence[Potential],
    frames: Iterable[Frame],
    refused: Refused | None,
) -> Iterator[Compared]:
    """What `mlanet evaluate` computes of frames, in this process."""
    from mlanet.workflows.evaluate import evaluate_frames

    bounds: Any = job.bounds
    return evaluate_frames(potential, frames, keys, **bounds, refused=refused, members=members)


def compared(job: Job, keys: LabelKeys, frames: list[Frame]) -> Part[Compared]:
    """A part of `mlanet evaluate`."""
    from mlanet.workflows.workers import gathered

    return gathered(
        lambda refused: comparisons(job, keys, job.potential(), job.others(), frames, refused), job.keep_going
    )


def relaxed(job: Job, wanted: Wanted, batched: bool, frames: list[Frame]) -> Part[tuple[Frame, Relaxed]]:
    """A part of `mlanet relax`, whose structures leave the model behind."""
    from mlanet.data.write import answered
    from mlanet.workflows.relax_files import relaxed_frames
    from mlanet.workflows.workers import gathered

    def work(refused: Refused | None) -> Iterator[tuple[Frame, Relaxed]]:
        for frame, one in relaxed_frames(frames, job_means(job, batched), wanted, refused):
            # Before the next one, of which the calculator will speak.
            yield frame, one._replace(atoms=answered(one.atoms))

    return gathered(work, job.keep_going)


def job_means(job: Job, batched: bool) -> Means:
    """What relaxes in one process."""
    from mlanet.workflows.model import batched_potential_of
    from mlanet.workflows.relax_files import Means

    calculator = job.calculator()
    batched_potential = batched_potential_of(calculator.answering, job.execution, job.max_edges) if batched else None
    return Means(
        calculator,
        calculator.answering.cutoff,
        also=_per_length,
        assessment=lambda: calculator.assessment,
        batched_potential=batched_potential,
    )


def _per_length(atoms: Atoms) -> dict[str, object]:
    """Of a sheet also the stress that does not depend on the height of its cell."""
    from mlanet.data.write import true_results

    said = true_results(atoms)
    if atoms.pbc.sum() != 2 or "stress" not in said:
        return {}
    from mlanet.layered import sheet_stress

    return {"sheet_stress_N_per_m": sheet_stress(atoms, said["stress"]).tolist()}


def property_of(job: Job, measure: Measure, drawn: bool, item: Item) -> Outcome:
    """One structure of `mlanet eos`, `elastic` or `phonon`, with a word on whether it is like the training set."""
    from mlanet.properties.files import measured_one

    calculator = job.calculator()
    return measured_one(functools.partial(judged, measure, calculator), calculator, item, drawn)


def judged(measure: Measure, calculator: MLANetCalculator, atoms: Atoms, where: str, stem: Path) -> Answer:
    """Numbers of a crystal, and a warning if, as given, it is unlike the training set."""
    atoms.get_potential_energy()
    seen = calculator.assessment
    if seen.reasons:
        warnings.warn(f"{where}: {seen.extrapolation} of the training set: {seen.reason}", stacklevel=2)
    found = measure(atoms, where, stem)
    return found._replace(numbers={**found.numbers, "extrapolation": seen.extrapolation})
