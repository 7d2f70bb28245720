"""What a potential says of structures as they come, batch by batch; one that cannot be answered costs no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlanet.data.formats import Refused, pass_over
from mlanet.data.labels import LabelKeys
from mlanet.data.read import Frame, read_frames
from mlanet.data.vasp_steps import converged
from mlanet.errors import DataError, MLANetError, named
from mlanet.execution import batch_limit
from mlanet.inference import batches, predict, require_finite
from mlanet.limits import Assessment, of_batch

if TYPE_CHECKING:
    from ase import Atoms

    from mlanet.execution import Answering
    from mlanet.graph import Labels


class Question(NamedTuple):
    """A structure that a potential can be asked about, with its labels where these are wanted.

    - graph: an `AtomicGraph` for a potential with torch, `GraphArrays` for one without
    """

    frame: Frame
    graph: Any
    labels: Labels | None = None


class Answer(NamedTuple):
    """What a potential says of a question, and how far it can be believed.

    - prediction: a `Prediction` of a potential with torch, `AnswerArrays` of one without
    """

    question: Question
    prediction: Any
    assessment: Assessment


class Refusals:
    """The errors of what could not be used, in order."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def __call__(self, error: MLANetError) -> None:
        """Take one."""
        self.messages.append(str(error))


def frames_of(
    paths: Iterable[Path], refused: Refused | None = None, index: str = ":", left_out: list[str] | None = None
) -> Iterator[Frame]:
    """The frames of all files, one after another; see `read_frames`.

    - left_out: gets the names of frames whose electrons did not converge, in place of these frames; None: they pass
    """
    for path in paths:
        frames = read_frames(path, index=index, refused=refused)
        if left_out is None:
            yield from frames
            continue
        numbers: list[int] = []
        yield from converged(frames, path, numbers)
        left_out += [f"{path}: frame {number}" for number in numbers]


def answers(
    potential: Answering,
    frames: Iterable[Frame],
    *,
    max_edges: int,
    max_memory: float | None = None,
    keys: LabelKeys = LabelKeys(),  # noqa: B008 - frozen
    labels_of: Callable[[Frame], Labels] | None = None,
    refused: Refused | None = None,
    members: Sequence[Answering] = (),
) -> Iterator[Answer]:
    """Every structure with its prediction, in order, one batch in memory.

    Args:
        potential: what is asked.
        frames: structures, which may be without end.
        max_edges: bounds a batch.
        max_memory: GiB, bounds a batch too.
        keys: where charges are found.
        labels_of: also reads labels, whose errors are the frame's.
        refused: is handed the error of each structure that cannot be answered, which is passed over. None: the error
            is raised, after everything before it has been answered.
        members: of a committee beside `potential`: the answer is their mean, its standard error their spread.
    Raises:
        DataError: with file and frame, as `refused` says.
    """
    asked: tuple[Any, ...] = (potential, *members)
    cutoff = max(potential_.cutoff for potential_ in asked)
    limit = batch_limit(potential, max_memory)
    waiting: dict[int, Question] = {}
    stopped: list[MLANetError] = []

    def ask(frame: Frame) -> Question:
        graph: Any = potential.graph_of(frame.atoms, cutoff, where=frame.where, keys=keys)
        for potential_ in asked:
            require_supported(potential_, graph, frame.where)
        potential.mention_ignored_charge(float(graph.charge[0]), frame.where)
        if limit is not None:
            limit.require(graph, frame.where)
        return Question(frame, graph, None if labels_of is None else labels_of(frame))

    def graphs() -> Iterator[Any]:
        source = iter(frames)
        while True:
            try:
                question = ask(next(source))
            except StopIteration:
                return
            except MLANetError as error:
                if refused is None:
                    stopped.append(error)
                    return
                refused(error)
                continue
            waiting[id(question.graph)] = question
            yield question.graph

    for batch in batches(graphs(), max_edges=max_edges, fits=limit):
        yield from _answered(asked, [waiting.pop(id(graph)) for graph in batch], refused)
    if stopped:
        raise stopped[0]


def require_supported(potential: Any, graph: Any, where: str) -> None:
    """Ask before any computing whether the model can answer, so that the error can name file and frame."""
    try:
        potential.require_supported(graph)
    except DataError as error:
        raise named(error, where) from None


def require_answerable(potential: Any, atoms: Atoms, where: str) -> None:
    """Ask before the first step whether a structure can be computed, so that the error can name its file."""
    require_supported(potential, potential.graph_of(atoms, potential.cutoff, where=where), where)


def _answered(asked: Sequence[Any], batch: list[Question], refused: Refused | None) -> Iterator[Answer]:
    """One batch at once; where that fails, its structures one by one, so that the one at fault is found."""
    graphs = [member.graph for member in batch]
    try:
        said = [list(predict(potential_, graphs, max_edges=2**62)) for potential_ in asked]
    except MLANetError as error:
        if len(batch) > 1:
            for question in batch:
                yield from _answered(asked, [question], refused)
        else:
            pass_over(named(error, batch[0].frame.where), refused)
        return
    predictions, assessments = _judged(asked, graphs, said)
    for question, prediction, assessment in zip(batch, predictions, assessments, strict=True):
        try:
            require_finite(prediction, question.graph, question.frame.where)
        except MLANetError as error:
            pass_over(error, refused)
            continue
        yield Answer(question, prediction, assessment)


def _judged(asked: Sequence[Any], graphs: list[Any], said: list[list[Any]]) -> tuple[list[Any], list[Assessment]]:
    """What one model says and knows of itself, or what several say together."""
    known = [
        of_batch(potential.domain, potential.statistics, graphs, predictions)
        for potential, predictions in zip(asked, said, strict=True)
    ]
    if len(asked) == 1:
        return said[0], known[0]
    from mlanet.limits.committee import mean, spread

    pairs = list(zip(zip(*said, strict=True), zip(*known, strict=True), strict=True))
    return [mean(members) for members, _ in pairs], [spread(members, words) for members, words in pairs]
