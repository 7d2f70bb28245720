"""Runs a whole model through all GPU operations in Triton's interpreter and compares it with the plain kernels.

`TRITON_INTERPRET=1 python interpreted_model.py PRESET`, a program of its own for the same reason as `interpreted`.
"""

from __future__ import annotations

import sys
from collections import Counter

import interpreted  # noqa: F401  the interpreter, made faster
import torch
from ase import Atoms

import mlanet.kernels
from mlanet.data.atoms import to_graph
from mlanet.graph import AtomicGraph, batch_graphs
from mlanet.kernels import _answers
from mlanet.ops import dispatch
from mlanet.ops.edge_degree.gpu import GpuDirections
from mlanet.ops.message.gpu.operation import GpuMessage
from mlanet.ops.neighbor_pooling.gpu import GpuPooling
from mlanet.potential import Potential
from mlanet.profiling.ours import configuration
from mlanet.statistics import Statistics

SPECIES = (3, 8)

calls: Counter[str] = Counter()


def sample(potential: Potential) -> AtomicGraph:
    """A crystal whose atoms meet their own images, and a lone atom."""
    crystal = Atoms("LiO", [(0.0, 0.1, 0.0), (1.9, 0.2, 0.3)], cell=[3.1, 4.6, 4.9], pbc=True)
    batch = batch_graphs([to_graph(one, potential.cutoff) for one in (crystal, Atoms("Li", [(0.0, 0.0, 0.0)]))])
    return batch.to(potential.device, potential.dtype)


def counted(kind: type) -> None:
    """Count the calls of an operation's three parts."""
    for part in ("value", "gradient", "tangent"):
        right = getattr(kind, part)

        def call(*given: object, right: object = right, name: str = f"{kind.__name__}.{part}") -> object:
            calls[name] += 1
            return right(*given)  # type: ignore[operator]

        setattr(kind, part, call)


def main(preset: str) -> None:
    """Energy, forces, stress, and every gradient of a loss on them."""
    operations = (GpuMessage, GpuDirections, GpuPooling)
    for kind in operations:
        counted(kind)
    mlanet.kernels._sample = sample
    torch.manual_seed(0)
    potential = Potential.build(configuration(preset), Statistics.unit(SPECIES, 20.0)).double()
    plain = _answers(potential.with_kernels("plain"))
    assert not calls
    dispatch.by_triton = lambda sample: True
    assert not potential.with_kernels("fused").kernels_obstacle()
    fast = _answers(potential)
    assert set(calls) == {f"{kind.__name__}.{part}" for kind in operations for part in ("value", "gradient", "tangent")}
    least = 0.01 * max(float(one.abs().max()) for name, one in plain if name != "energy")
    assert len(plain) > 3 and all(one.abs().max() > 0 for _, one in plain[:3])
    for (name, one), (_, other) in zip(plain, fast, strict=True):
        wrong = float((one - other).abs().max()) / max(least, float(one.abs().max()))
        assert wrong < 1e-10, f"{name} differs by {wrong:.1e}"


if __name__ == "__main__":
    main(sys.argv[1])
