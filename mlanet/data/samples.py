"""`Sample`: one labelled structure, ready to be batched."""

from __future__ import annotations

from typing import NamedTuple

from mlanet.data.labels import Source
from mlanet.graph import AtomicGraph, Labels


class Sample(NamedTuple):
    """One structure with its neighbour list, its reference values, where it came from, and what it belongs to.

    - graph: float64, one structure · labels: float64, NaN = not labelled
    - where: file and frame, for error messages · group: samples of one group are correlated (one trajectory, one
      configuration type) and must not be split between training and validation
    - sources: the entries of the file that the labels were read from
    """

    graph: AtomicGraph
    labels: Labels
    where: str
    group: str
    sources: tuple[Source, ...] = ()
