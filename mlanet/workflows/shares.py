"""What each structure adds to an evaluation: small enough to be written as it comes, so that a run can go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlanet.data.read import Frame
from mlanet.files import lines_text
from mlanet.limits.calibration import Entry, entry_of
from mlanet.metrics import Errors
from mlanet.quantities import ALWAYS, BY_NAME, NAMES, QUANTITIES
from mlanet.workflows.resuming import journalled, labelled_print

if TYPE_CHECKING:
    from mlanet.workflows.evaluate import Compared


class Pairs(NamedTuple):
    """Reference and prediction of every number that is labelled, in the units of a report."""

    reference: NDArray[np.float64]
    predicted: NDArray[np.float64]


class Share(msgspec.Struct, frozen=True):
    """One structure's part of an evaluation."""

    where: str
    """File and frame."""
    formula: str
    atoms: int
    sums: dict[int, list[float]]
    """Rows of `Errors` that are not zero: count, Σ|d|, Σd²."""
    limits: Entry
    pairs: dict[str, list[list[float]]]
    """Reference and prediction of every labelled number, where pictures want them."""


def share_of(compared: Compared, keep_pairs: bool) -> Share:
    """Of a structure with both answers."""
    errors = Errors()
    errors.add(compared.prediction, compared.labels, compared.graph)
    rows = errors.tensor().reshape(-1, 3).numpy()
    return Share(
        compared.frame.where,
        str(compared.frame.atoms.symbols),
        compared.graph.n_atoms,
        {int(row): rows[row].tolist() for row in np.flatnonzero(rows[:, 0])},
        entry_of(compared.graph, compared.labels, compared.prediction, compared.assessment),
        {name: [two.tolist() for two in both] for name, both in pairs_of(compared).items()} if keep_pairs else {},
    )


def pairs_of(compared: Compared) -> dict[str, Pairs]:
    """The labelled numbers of one structure: energy in eV/atom, forces in eV/Å, stress in GPa, and so on."""
    pairs: dict[str, Pairs] = {}
    for each in QUANTITIES:
        if (answer := getattr(compared.prediction, each.name)) is None:
            continue
        factor = each.drawn_factor / (compared.graph.n_atoms if each.of_each_atom else 1)
        reference = getattr(compared.labels, each.name).double().numpy().ravel() * factor
        predicted = answer.double().numpy().ravel() * factor
        known = np.isfinite(reference) & np.isfinite(predicted)  # a stress may be undefined
        pairs[each.name] = Pairs(reference[known], predicted[known])
    return pairs


class SharesKept:
    """Writes a line of errors for each structure, as it comes, and knows those of a run before; a context manager.

    Args:
        place: of the table, or None: nothing is written, and nothing known.
        outputs: of the model, beside energy, forces and stress.
        tell: see `mlanet.workflows.growing`.
        settings: what must be the same for a run to go on.
        resume: whether this one goes on.
    Raises:
        OutputError: a place that cannot be written.
        ConfigError: the run before had other settings.
    """

    def __init__(
        self,
        place: Path | None,
        outputs: Sequence[str],
        tell: Callable[[str], None],
        settings: Mapping[str, object],
        resume: bool,
    ) -> None:
        self._names = [name for name in NAMES if name in ALWAYS or name in outputs]
        self._opened = journalled((place,), tell, settings, resume, labelled_print)

    def __enter__(self) -> SharesKept:
        (self._table,), self._journal = self._opened.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._opened.__exit__(*error)

    def going_on(
        self, frames: Iterable[Frame], work: Callable[[Iterator[Frame]], Iterable[Compared]], keep_pairs: bool
    ) -> Iterator[Share]:
        """Shares in the order of the frames; those that are written already are not computed again."""
        if self._journal is None:
            yield from (share_of(comparison, keep_pairs) for comparison in work(iter(frames)))
            return
        for answer in self._journal.going_on(frames, work, lambda one: one.frame.where):
            if isinstance(answer, dict):
                yield msgspec.convert(answer, Share, strict=False)
                continue
            share = share_of(answer, keep_pairs)
            assert self._table is not None
            self._table.add(
                lines_text([*([] if self._table.count else [_header(self._names)]), _line(share, self._names)])
            )
            self._journal.add(answer.frame.atoms, msgspec.to_builtins(share, str_keys=True))
            yield share


def _header(names: Sequence[str]) -> list[str]:
    """Columns of the table, with units."""
    columns = ["where", "formula", "atoms", "extrapolation"]
    for name in names:
        unit = BY_NAME[name].compared.replace("/", "_per_").replace("Å", "A").replace("³", "3").replace(" ", "_")
        columns += [f"{name}_mae_{unit}", f"{name}_rmse_{unit}"]
    return columns


def _line(share: Share, names: Sequence[str]) -> list[object]:
    """Empty where nothing was compared."""
    line: list[object] = [share.where, share.formula, share.atoms, share.limits.word]
    for name in names:
        count, absolute, square = share.sums.get(NAMES.index(name), (0.0, 0.0, 0.0))
        factor = BY_NAME[name].factor
        line += [factor * absolute / count, factor * (square / count) ** 0.5] if count else ["", ""]
    return line
