"""Errors of a potential on labelled structures, per quantity and element, in the units people compare."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch

from mlanet.data.atoms import LabelKeys, as_labels
from mlanet.data.formats import Refused
from mlanet.data.labels import FoundLabels, find_labels
from mlanet.data.read import Frame
from mlanet.data.sources import read_from
from mlanet.errors import MissingLabelError
from mlanet.graph import AtomicGraph, Labels, Prediction
from mlanet.limits import Assessment
from mlanet.limits.calibration import Calibrating, LimitsReport
from mlanet.metrics import Errors
from mlanet.plots import Drawing, parity
from mlanet.potential import Potential
from mlanet.quantities import BY_NAME, FORCES, NAMES
from mlanet.workflows.answers import answers
from mlanet.workflows.shares import Pairs, Share, share_of


class QuantityErrors(msgspec.Struct, frozen=True):
    """Errors of one quantity over `count` numbers, in `unit`."""

    unit: str
    mae: float
    rmse: float
    count: int


class Evaluation(msgspec.Struct, frozen=True):
    """What `mlanet evaluate` reports."""

    frames: int
    quantities: dict[str, QuantityErrors]
    """energy per atom, force components, the nine stress components and so on; only what is predicted and labelled."""
    elements: dict[str, QuantityErrors]
    """Force errors of each element."""
    limits: LimitsReport | None = None
    """Predicted against real errors, of a model that knows its limits."""


class Compared(NamedTuple):
    """One structure with both answers."""

    graph: AtomicGraph
    labels: Labels
    prediction: Prediction
    assessment: Assessment
    frame: Frame


def evaluate_frames(
    potential: Potential,
    frames: Iterable[Frame],
    keys: LabelKeys,
    *,
    max_edges: int = 20_000,
    max_memory: float | None = None,
    refused: Refused | None = None,
    members: Sequence[Potential] = (),
) -> Iterator[Compared]:
    """Predict structures as they come and hand them on with their labels, holding one batch in memory.

    Arguments and errors as `mlanet.workflows.answers.answers`; keys: where labels and charges are found.
    """
    answered = answers(
        potential,
        frames,
        max_edges=max_edges,
        max_memory=max_memory,
        keys=keys,
        labels_of=lambda frame: as_labels(_labels(frame, keys, potential.statistics.energy_key)),
        refused=refused,
        members=members,
    )
    for question, prediction, assessment in answered:
        if question.labels is not None:
            yield Compared(question.graph, question.labels, prediction, assessment, question.frame)


def _labels(frame: Frame, keys: LabelKeys, energy_key: str) -> FoundLabels:
    """Of a frame; unless `keys` name one, its energy is that of the two in the file that the model learnt."""
    labels = find_labels(frame.atoms, keys, frame.where)
    return read_from(labels, energy_key) if keys.energy is None and energy_key else labels


def collect(compared: Iterable[Compared], keep_pairs: bool = False) -> tuple[Evaluation, dict[str, Pairs]]:
    """Sum errors up; with `keep_pairs` also keep every number, for parity plots.

    Raises:
        MissingLabelError: no frame has any label.
    """
    return collected(share_of(comparison, keep_pairs) for comparison in compared)


def collected(shares: Iterable[Share]) -> tuple[Evaluation, dict[str, Pairs]]:
    """The same of what each structure adds; pairs of those that have them."""
    errors, limits, frames = Errors(), Calibrating(), 0
    sums = errors.tensor().reshape(-1, 3)
    kept: dict[str, list[Pairs]] = {name: [] for name in NAMES}
    for share in shares:
        frames += 1
        for row, numbers in share.sums.items():
            sums[row] += torch.tensor(numbers, dtype=sums.dtype)
        limits.take(share.limits)
        for name, both in share.pairs.items():
            kept[name].append(Pairs(*map(np.array, both)))
    errors.load_tensor(sums)
    counts = errors.counts
    if not any(counts.values()):
        raise MissingLabelError(
            f"none of the {frames} frames has an energy, forces or stress to compare with; "
            "name them with --key, e.g. --key energy=dft_energy"
        )
    evaluation = Evaluation(frames, _quantities(errors), _elements(errors), limits.report())
    return evaluation, {name: _joined(pairs) for name, pairs in kept.items() if counts.get(name) and pairs}


def _quantities(errors: Errors) -> dict[str, QuantityErrors]:
    mae, rmse, counts = errors.mae(), errors.rmse(), errors.counts
    return {
        name: QuantityErrors(quantity.compared, mae[name] * quantity.factor, rmse[name] * quantity.factor, counts[name])
        for name, quantity in BY_NAME.items()
        if name in mae
    }


def _elements(errors: Errors) -> dict[str, QuantityErrors]:
    unit, factor = FORCES.compared, FORCES.factor
    return {
        symbol: QuantityErrors(unit, mae * factor, rmse * factor, count)
        for symbol, (mae, rmse, count) in errors.by_element().items()
    }


def _joined(pairs: list[Pairs]) -> Pairs:
    return Pairs(*(np.concatenate(column) for column in zip(*pairs, strict=True)))


def drawings(folder: Path, pairs: dict[str, Pairs], limits: LimitsReport | None = None) -> list[Drawing]:
    """One parity plot per quantity, and predicted against real errors where known, as PNG, still to be drawn."""
    from mlanet.limits.plots import calibration_picture

    drawn = []
    for name, one in pairs.items():
        place = folder / f"parity_{name}.png"
        label = BY_NAME[name].label
        drawn.append(Drawing(place, functools.partial(parity, place, one.reference, one.predicted, label)))
    if limits is not None and limits.quantities:
        place = folder / "calibration.png"
        drawn.append(Drawing(place, functools.partial(calibration_picture, place, limits)))
    return drawn
