"""One structure step after step, as dynamics and relaxation ask for it, replayed as a CUDA graph.

The host needs some ms to launch the kernels of a step one by one, longer than a GPU needs to run them for a few
thousand atoms. A CUDA graph launches all of them at once, if every tensor keeps its shape and its place. So a step here
has fixed buffers, and a list of pairs of fixed length: all pairs within cutoff + skin, and some spare ones that join
atoms to images of themselves beyond the cutoff. What is beyond the cutoff weighs nothing, in every model and in all
derivatives.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mlanet.agreement import TOLERANCE, disagreement
from mlanet.compiled import CompiledPotential
from mlanet.errors import MLANetError
from mlanet.graph import AtomicGraph, Prediction
from mlanet.potential import Potential

SPARE = 1.1
"""Room for pairs, as a multiple of those that there are: lists that grow seldom need a new recording."""
STEP = 256
"""Room is a multiple of this."""
ELSEWHERE = 1.001
"""Where atoms are during a recording, in units of where they are: one that computes nothing is then found out."""
WARM_UP = 3
"""Steps before a recording: libraries load and kernels are chosen in them."""

Step = Callable[[], Prediction]


class CaptureError(MLANetError):
    """A step that cannot be recorded, or whose replay gives other numbers; the message says why."""


def padded(graph: AtomicGraph, capacity: int) -> AtomicGraph:
    """The graph with `capacity` pairs: the spare ones join atoms, in turn, to images of themselves beyond the cutoff.

    The image is along the longest cell vector a, n a away with n = ⌈2 r_c / |a|⌉; energy, forces and stress stay the
    same. Nothing is asked of the device.

    Args:
        graph: structures with a cell vector each (of a molecule no atom has an image).
        capacity: at least as many pairs as there are.

    >>> from ase.build import bulk
    >>> from mlanet.data.atoms import to_graph
    >>> padded(to_graph(bulk("Cu"), 3.0), 20).n_edges
    20
    """
    spare = capacity - graph.n_edges
    if spare < 0:
        raise ValueError(f"{graph.n_edges} pairs do not fit into {capacity}")
    atom = torch.arange(spare, device=graph.center.device) * graph.n_atoms // max(spare, 1)
    length, axis = graph.cell.norm(dim=2).max(dim=1)
    times = torch.ceil(2 * graph.cutoff / length).to(torch.int64)
    image = torch.nn.functional.one_hot(axis, 3) * times[:, None]
    center, order = torch.cat([graph.center, atom]).sort(stable=True)
    return dataclasses.replace(
        graph,
        center=center,
        neighbor=torch.cat([graph.neighbor, atom]).index_select(0, order),
        shift=torch.cat([graph.shift, image.index_select(0, graph.structure).index_select(0, atom)])[order],
    )


def cuda_graph(step: Step) -> Step:
    """Record a step; what is returned replays it and gives the same tensors with new numbers each time."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(side)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        answer = step()

    def replay() -> Prediction:
        recorded.replay()
        return answer

    return replay


class Replay:
    """A potential that answers for one structure after another by replaying one recorded step.

    A new recording is made, and compared with the potential itself, when the number of atoms changes or pairs no longer
    fit. Its memory stays reserved.

    Args:
        potential: in evaluation; or its compiled form.
        record: makes a replay of a step; another one than `cuda_graph` where there is no GPU, in tests.
    """

    def __init__(self, potential: Potential | CompiledPotential, record: Callable[[Step], Step] = cuda_graph) -> None:
        self.potential, self._record = potential, record
        self.recordings = 0
        self._buffers: AtomicGraph | None = None
        self._last: AtomicGraph | None = None
        self._replay: Step | None = None

    def __call__(self, graph: AtomicGraph) -> Prediction:
        """As `Potential.forward`; pairs beyond the cutoff are welcome.

        Raises:
            CaptureError: the step cannot be recorded, or its replay gives other numbers.
        """
        with _current(self.potential.device):
            if self._replay is None or not self._fits(graph):
                self._start(graph)
            self._fill(graph)
            assert self._replay is not None
            return self._replay().map(torch.clone)

    def _fits(self, graph: AtomicGraph) -> bool:
        """Whether the recording can serve a graph: as many atoms, and room for the pairs."""
        there = self._buffers
        assert there is not None
        same = there.n_atoms == graph.n_atoms and there.n_structures == graph.n_structures
        charged = (there.atomic_charges is None) == (graph.atomic_charges is None)
        return same and charged and there.cutoff == graph.cutoff and graph.n_edges <= there.n_edges

    def _start(self, graph: AtomicGraph) -> None:
        """Buffers with room to spare, a recording, and its comparison with the potential itself."""
        capacity = -(-round(SPARE * graph.n_edges + 1) // STEP) * STEP
        self._replay = None
        buffers = self._buffers = _own(padded(graph, capacity).to(self.potential.device, self.potential.dtype))
        self._last = graph
        try:
            buffers.positions.mul_(ELSEWHERE)
            replay = self._record(lambda: self.potential(buffers))
            buffers.positions.copy_(graph.positions)
            first = replay().map(torch.clone)
        except Exception as error:  # whatever a driver or a compiler raises
            text = str(error).strip().splitlines()
            raise CaptureError(
                f"this step cannot be recorded ({type(error).__name__}: {text[0] if text else ''})"
            ) from error
        _compare(first, self.potential(graph), TOLERANCE[self.potential.dtype])
        self.recordings += 1
        self._replay = replay

    def _fill(self, graph: AtomicGraph) -> None:
        """Put a graph's numbers into the buffers; only the positions where all else is what was there last."""
        there, last = self._buffers, self._last
        assert there is not None and last is not None
        names = [field.name for field in dataclasses.fields(there) if isinstance(getattr(there, field.name), Tensor)]
        if all(getattr(graph, name) is getattr(last, name) for name in names if name != "positions"):
            names = ["positions"]
        else:
            self._last, graph = graph, padded(graph, there.n_edges)
        for name in names:
            getattr(there, name).copy_(getattr(graph, name))


def _current(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Streams and recordings are those of the current device, which need not be the model's."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _own(graph: AtomicGraph) -> AtomicGraph:
    """The graph with tensors that nobody else holds."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(graph):
        if isinstance(value := getattr(graph, field.name), Tensor):
            changes[field.name] = value.clone()
    return dataclasses.replace(graph, **changes)


def _compare(replayed: Prediction, expected: Prediction, tolerance: float) -> None:
    """Refuse a replay that says something else than the potential; virials of atoms only some ways give along."""
    answers, right = replayed.tensors(), expected.tensors()
    right.pop("atomic_virials", None)
    if wrong := disagreement([(name, answers[name], value) for name, value in right.items()], tolerance):
        raise CaptureError(f"the replay of a step gives other numbers: {wrong}")
