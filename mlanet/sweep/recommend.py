"""Which model to take, and why: plain sentences with their numbers, from the rows of a sweep.

The rule, at the largest size that every model finished:

1. The best model has the lowest mean error over seeds.
2. A model is as good as the best if its mean error is within `TOLERANCE` of it, or if the two differ by no more than
   their spread, √(s₁² + s₂²) with s the standard deviation over seeds (two seeds at least).
3. Of these, the cheapest is recommended: the smallest √(time per epoch × peak memory). The first in the order of the
   sweep wins a tie.

Whether more data or a higher l helps more is read from the learning curve of the recommended model: with ε ∝ n^−b,
twice the data multiply the error by 2^−b, one l more by the ratio that was measured. b is that of the fit through all
sizes or, if the curve flattens, the smaller one between the last two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from mlanet.sweep.table import DONE, ERROR_COLUMNS, Group, Row, decay, grouped, judged_by, models_of, of_model

TOLERANCE = 0.03
FLAT = 0.05
"""An exponent below it says that the curve has ended: twice the data give less than 3.5 %."""
RISING = 0.1
"""An exponent below minus it says that the curve is no learning curve: the trainings ended too early."""


class Recommendation(msgspec.Struct, frozen=True):
    """The model, or None where nothing finished, and the reasons in sentences."""

    preset: str | None
    l_max: int | None
    size: int | None
    sentences: tuple[str, ...]


def recommend(rows: Sequence[Row]) -> Recommendation:
    """Apply the rule of this module.

    Args:
        rows: of a sweep, in the order of its plan.
    """
    groups = grouped(rows)
    lost = sum(row.status != DONE for row in rows)
    failures = (f"{lost} of {len(rows)} points failed; the table says why.",) if lost else ()
    if not groups:
        return Recommendation(None, None, None, ("No point finished, so nothing can be recommended.", *failures))
    column = judged_by(groups)
    models = [model for model in models_of(groups) if any(g.values(column) for g in of_model(groups, model))]
    if not models:
        return Recommendation(None, None, None, ("No error was measured, so nothing can be recommended.", *failures))
    size = _common_size(groups, models)
    compared = [group for model in models for group in of_model(groups, model) if group.size == size]
    compared = [group for group in compared if group.values(column)]
    best = min(compared, key=lambda group: _error(group, column))
    good = [group for group in compared if as_good(group, best, column)]
    chosen = min(good, key=lambda group: cost(group, best))
    sentences = [_reason(chosen, best, good, compared, column)]
    sentences += _seeds(compared)
    sentences += _more(chosen, groups, column)
    sentences += _order(groups, models, best, column)
    missing = len(models) - len(compared)
    if missing:
        sentences.append(f"{missing} of {len(models)} models did not finish {size} structures and are not compared.")
    return Recommendation(chosen.preset, chosen.l_max, size, (*sentences, *failures))


def as_good(group: Group, best: Group, column: str) -> bool:
    """Within the tolerance of the lowest error, or within the spread over seeds."""
    difference = _error(group, column) - _error(best, column)
    if difference <= TOLERANCE * _error(best, column):
        return True
    spread = _spread(group, best, column)
    return spread is not None and difference <= spread


def cost(group: Group, best: Group) -> float:
    """√(time per epoch × memory) relative to the best model; what was not measured counts as equal."""
    return math.sqrt((_ratio(group, best, "seconds_per_epoch") or 1) * (_ratio(group, best, "peak_memory_MiB") or 1))


def _common_size(groups: Sequence[Group], models: Sequence[tuple[str, int]]) -> int:
    """The largest size of all models; where they have none in common, the largest of any."""
    sizes = [{group.size for group in of_model(groups, model)} for model in models]
    common = set.intersection(*sizes)
    return max(common or set.union(*sizes))


def _error(group: Group, column: str) -> float:
    mean = group.mean(column)
    return math.inf if mean is None else mean


def _spread(group: Group, other: Group, column: str) -> float | None:
    """√(s₁² + s₂²); None where either has one seed only."""
    spreads = group.spread(column), other.spread(column)
    return None if None in spreads else math.hypot(*spreads)  # type: ignore[arg-type]


def _ratio(group: Group, other: Group, column: str) -> float | None:
    """Mean over mean, where both are there."""
    mine, theirs = group.mean(column), other.mean(column)
    return mine / theirs if mine and theirs else None


def _reason(chosen: Group, best: Group, good: Sequence[Group], compared: Sequence[Group], column: str) -> str:
    """The first sentence."""
    name, unit = ERROR_COLUMNS[column]
    lowest, mine = _error(best, column), _error(chosen, column)
    where = f"with {best.size} training structures"
    if len(compared) == 1:
        return f"{chosen.model}: {name} {mine:.3g} {unit} {where}; it is the only model, so nothing is compared."
    if chosen is best:
        others = "; no other is as good" if len(good) == 1 else "; models as good as it cost more"
        return f"{chosen.model}: the lowest {name}, {lowest:.3g} {unit} {where}{others}."
    spread = _spread(chosen, best, column)
    if mine - lowest <= TOLERANCE * lowest:
        near = f"within {100 * (mine / lowest - 1):.1f} % of the lowest {name}"
    else:
        near = (
            f"{name} {mine:.3g} {unit}, which differs from the lowest by less than the spread over seeds ({spread:.2g})"
        )
    costs = [
        f"{ratio:.2g} of its {label}"
        for key, label in (
            ("seconds_per_epoch", "time per epoch"),
            ("peak_memory_MiB", "memory"),
            ("microseconds_per_atom", "time per atom"),
        )
        if (ratio := _ratio(chosen, best, key)) is not None
    ]
    at = f", at {_listed(costs)}" if costs else ""
    return f"{chosen.model}: {near} ({best.model}, {lowest:.3g} {unit} {where}){at}."


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _seeds(compared: Sequence[Group]) -> list[str]:
    """What the number of seeds allows to say."""
    fewest = min(len(group.rows) for group in compared)
    if fewest > 1:
        return [f"Means over {fewest} or more seeds."] if len({len(g.rows) for g in compared}) > 1 else []
    return ["Only one seed ran, so differences of some percent may be chance: add seeds before relying on them."]


def _more(chosen: Group, groups: Sequence[Group], column: str) -> list[str]:
    """Whether more data or a higher l helps more."""
    curve = sorted(of_model(groups, (chosen.preset, chosen.l_max)), key=lambda group: group.size)
    whole, last = decay(curve, column), decay(curve[-2:], column)
    if whole is None or last is None:
        return []
    slope = min(whole.exponent, last.exponent)
    bends = len(curve) > 2 and slope < whole.exponent - FLAT
    power = f"error ∝ n^{_signed(slope)} from {curve[-2 if bends else 0].size} to {curve[-1].size} structures"
    power += f", n^{_signed(whole.exponent)} from {curve[0].size} on" if bends else ""
    if slope < -RISING:
        return [f"Its error grows with more data ({power}): the trainings are unfinished, so give them more steps."]
    if slope < FLAT:
        return [f"More data hardly help it under this budget ({power}): train longer, or take a larger model."]
    gain = 1 - 2.0**-slope
    text = f"Twice the data would lower its error by some {100 * gain:.0f} % ({power})"
    upper = (chosen.preset, chosen.l_max + 1, chosen.size)
    higher = next((group for group in groups if (group.preset, group.l_max, group.size) == upper), None)
    ratio = _ratio(higher, chosen, column) if higher is not None else None
    if ratio is None:
        return [text + "."]
    step = f"l = {chosen.l_max + 1} {'lowers' if ratio < 1 else 'raises'} it by {100 * abs(1 - ratio):.0f} %"
    verdict = "more data help more than a higher l" if gain > 1 - ratio else "a higher l helps more than that"
    return [f"{text}; {step}: {verdict}."]


def _signed(exponent: float) -> str:
    """The power of n, with its sign."""
    return f"{-exponent:+.2f}".replace("-", "−")


def _order(groups: Sequence[Group], models: Sequence[tuple[str, int]], best: Group, column: str) -> list[str]:
    """Sizes at which another model was best, where all can be compared."""
    order = []
    for size in sorted({group.size for group in groups if group.size != best.size}):
        here = [group for group in groups if group.size == size and group.values(column)]
        if len(here) == len(models) > 1:
            lowest = min(here, key=lambda group: _error(group, column))
            if lowest.model != best.model:
                order.append(f"{lowest.model} with {size}")
    return [f"The order depends on the size: lowest was {_listed(order)} structures."] if order else []
